"""The groups of columns from loss gradients: of the reference, against an aligned model, along a warm-up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from smidgen.data.tokens import EncodedPair
from smidgen.evaluation.surrogate import TokenIds
from smidgen.models.load import LanguageModel
from smidgen.models.logprobs import find_layout, score_answers
from smidgen.selection.feature_store import ColumnGroup, MeasureBlock
from smidgen.selection.gradients import (
    alignment_columns,
    gradient_columns,
    gradient_target,
    less_checkpoints,
    less_columns,
    task_vector,
)
from smidgen.training.loop import Recipe
from smidgen.training.pair_gradients import pair_loss
from smidgen.training.preference import ReferenceLogps
from smidgen.training.warmup import warm_up

# LESS takes four, of adapters; each costs a gradient of every pair by all weights.
_CHECKPOINTS = 2
_RECIPE = Recipe()


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientSettings:
    """Of the runs whose gradients are meant.

    Attributes:
        objective: The preference loss with its settings.
        recipe: How LESS's warm-up trains.
        seed: Of the projection and the warm-up.
    """

    objective: str = "dpo:beta=0.1"
    recipe: Recipe = _RECIPE
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientSource:
    """What pairs' loss gradients are measured with.

    Attributes:
        lm: The reference, at whose weights gradients are taken.
        encoded: All pairs as tokens.
        harmful: Dev prompts to be refused, token ids that end where the answer begins.
        harmless: Dev prompts to be answered.
        openings: Of refusals, token ids.
    """

    settings: GradientSettings
    lm: LanguageModel
    encoded: Sequence[EncodedPair]
    harmful: Sequence[TokenIds]
    harmless: Sequence[TokenIds]
    openings: Sequence[TokenIds]

    def decides(self) -> Any:
        """Everything that the columns follow from besides the pairs, JSON-able."""
        prompts = self.harmful, self.harmless, self.openings
        return self.lm.fingerprint, str(self.lm.model.dtype), prompts, asdict(self.settings)

    def reference(self, pairs: Sequence[EncodedPair]) -> list[ReferenceLogps]:
        """Per-token values under the reference, computed anew: a store would outgrow memory long before the columns."""
        scored = score_answers(self.lm, [p.prompt for p in pairs], [(p.chosen, p.rejected) for p in pairs])
        return [(chosen, rejected) for chosen, rejected in scored]

    def group(
        self,
        name: str,
        columns: tuple[str, ...],
        measuring: Callable[[], Callable[[Sequence[EncodedPair], list[ReferenceLogps]], dict[str, np.ndarray]]],
        also: Callable[[], Any] = lambda: None,
    ) -> ColumnGroup:
        """Columns of slices of pairs with their reference; `measuring` prepares and gives what measures a slice."""

        def prepare(others: Mapping[str, np.ndarray]) -> MeasureBlock:
            measure = measuring()
            return lambda rows: measure(self.encoded[rows], self.reference(self.encoded[rows]))

        decides = self.decides
        return ColumnGroup(
            name=name,
            columns=columns,
            decides=lambda: (decides(), also()),
            prepare=prepare,
            on_demand=True,
            apart=True,
        )


def gradient_groups(source: GradientSource, aligned: Callable[[], LanguageModel] | None) -> list[ColumnGroup]:
    """`gradient` and what goes with it, `less_*`, and with an aligned model `task_alignment`."""
    lm, settings, prompts = source.lm, source.settings, (source.harmful, source.harmless, source.openings)

    def loss_at_reference():
        return pair_loss(lm, settings.objective, layout=find_layout(lm.model))

    def projected():
        target, of = gradient_target(lm, *prompts, seed=settings.seed), loss_at_reference()
        return lambda pairs, reference: gradient_columns(of, target, pairs, reference)

    def less():
        checkpoints = warm_up(
            lm,
            source.encoded,
            source.reference,
            objective=settings.objective,
            recipe=settings.recipe,
            seed=settings.seed,
            checkpoints=_CHECKPOINTS,
        )
        prepared, of = less_checkpoints(lm, checkpoints, *prompts), loss_at_reference()
        return lambda pairs, reference: less_columns(of, prepared, pairs, reference)

    groups = [
        source.group("gradient", ("gradient", "gradient_norm", "gradient_cosine", "gradient_target"), projected),
        source.group("less", ("less_harmful", "less_harmless"), less),
    ]
    if aligned is not None:

        def alignment():
            direction, of = task_vector(aligned(), lm), loss_at_reference()
            return lambda pairs, reference: alignment_columns(of, direction, pairs, reference)

        groups.append(source.group("alignment", ("task_alignment",), alignment, lambda: aligned().fingerprint))
    return groups
