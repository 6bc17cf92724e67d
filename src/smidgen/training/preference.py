"""Preference training: a loss on pairs, lifted into an objective for the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Unpack

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from smidgen.data.tokens import EncodedPair
from smidgen.errors import InvalidData
from smidgen.models.load import LanguageModel
from smidgen.models.logprobs import AnswerLogps, PairLogps, TokenLogps, find_layout, score_answers
from smidgen.models.reference_store import ReferenceStore, Score
from smidgen.models.rows import Layout, RowBatch, collate_rows
from smidgen.training.loop import Around, LossTerms, Objective, Recipe, TrainingLog, draw_batches, train, trainable
from smidgen.training.losses import Loss, MissingReference, MissingScores, loss
from smidgen.training.losses.base import named
from smidgen.training.parts import Parts, step_parts

# Chosen and rejected per-token log-probabilities of one pair under the reference.
ReferenceLogps = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, slots=True)
class PairBatch:
    """Pairs of one step: their rows (chosen before rejected), and the reference's values in the rows' order.

    Attributes:
        ref_values: None where the loss needs no reference.
        chosen_score: External rewards of the chosen answers, [pairs]; None where any pair lacks one.
        rejected_score: The same of the rejected answers.
        pair_weight: How many times each pair's loss counts, [pairs]; None where it is once.
        group: Of each pair, as `EncodedPair.group`, [pairs]; None where any pair has none.
        idx: Of each pair, [pairs].
    """

    rows: RowBatch
    ref_values: Tensor | None
    weight: float
    chosen_score: Tensor | None = None
    rejected_score: Tensor | None = None
    pair_weight: Tensor | None = None
    group: Tensor | None = None
    idx: Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows.answer_mask) // 2

    def to(self, device: torch.device) -> PairBatch:
        """The same on `device`."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("rows", "weight")}
        moved = {name: value.to(device, non_blocking=True) for name, value in tensors.items() if value is not None}
        return replace(self, rows=self.rows.to(device), **moved)


def reference_logps(
    lm: LanguageModel,
    pairs: Sequence[EncodedPair],
    store: ReferenceStore,
    *,
    dtype: str = "float32",
    layout: Layout | None = None,
    score: Score = score_answers,
) -> list[ReferenceLogps]:
    """Per-token reference values of both answers of every pair, from the store or computed into it in `dtype`."""
    prompts, answers = [p.prompt for p in pairs], [(p.chosen, p.rejected) for p in pairs]
    found = store.logps(lm, prompts, answers, dtype=dtype, layout=layout, score=score)
    return [(chosen, rejected) for chosen, rejected in found]


def collate_pairs(
    pairs: Sequence[EncodedPair], reference: Sequence[ReferenceLogps] | None, *, layout: Layout
) -> PairBatch:
    """One batch of pairs with their reference values, if there are any."""
    rows = collate_rows([p.prompt for p in pairs], [(p.chosen, p.rejected) for p in pairs], layout=layout)
    values = None
    if reference is not None:
        values = torch.zeros(rows.answer_mask.shape)
        values[rows.answer_mask] = torch.from_numpy(np.concatenate([v for both in reference for v in both]))
    return PairBatch(rows, values, weight=len(pairs), **_beside(pairs))


def _beside(pairs: Sequence[EncodedPair]) -> dict[str, Tensor | None]:
    """What a loss may take besides log-probabilities; None for what any of the pairs lacks."""

    # Looked at once: a table makes every pair anew, with all its tokens.
    beside = [(p.chosen_score, p.rejected_score, p.weight, p.group, p.idx) for p in pairs]

    def column(place: int) -> Tensor | None:
        known = [values[place] for values in beside if values[place] is not None]
        return torch.tensor(known) if len(known) == len(beside) else None

    names = ("chosen_score", "rejected_score", "pair_weight", "group", "idx")
    return {name: column(place) for place, name in enumerate(names)}


def check_objective(objective: str | Loss, pairs: Sequence[EncodedPair]) -> None:
    """Raise what a loss has to say against its settings or the pairs' scores, before any model has run.

    Raises:
        UsageError: Unknown loss or setting, or one out of range.
        InvalidData: Scores that the loss needs and the pairs lack, or that it cannot take; weights that only some pairs
            have, or negative ones.
    """
    bound, logps = loss.bind(objective), _made_up(pairs)
    check_weights(pairs)
    try:
        bound(logps)
    except MissingScores as error:
        lacking = torch.tensor([p.chosen_score is None or p.rejected_score is None for p in pairs])
        raise MissingScores(f"{error} Without are {named(logps, lacking)}.") from None


def check_weights(pairs: Sequence[EncodedPair]) -> None:
    """InvalidData where only some pairs have a weight, a weight is negative, or all are 0."""
    weights = [pair.weight for pair in pairs]
    if all(weight is None for weight in weights):
        return
    bad = [pair.idx for pair, weight in zip(pairs, weights, strict=True) if weight is None or weight < 0]
    if bad:
        listed = ", ".join(map(str, bad[:5])) + (", …" if len(bad) > 5 else "")
        raise InvalidData(
            f"expected a weight of at least 0 for every pair, since the data has a column of weights; {len(bad)} of "
            f"{len(pairs)} pairs have none or a negative one (idx {listed}). Mend those rows, or rename the column."
        )
    if not any(weights):
        raise InvalidData(
            f"expected a weight above 0 for some pair, got 0 for all {len(pairs)}; nothing would be learned. "
            "Mend the column, or rename it."
        )


def needs_reference(objective: str | Loss, pairs: Sequence[EncodedPair]) -> bool:
    """Whether a loss asks for a reference; found by giving it none."""
    try:
        loss.bind(objective)(replace(_made_up(pairs), ref_chosen=None, ref_rejected=None))
    except MissingReference:
        return True
    return False


def _made_up(pairs: Sequence[EncodedPair]) -> PairLogps:
    """The scores of these pairs beside log-probabilities that are all the same, of one token an answer."""
    alike = TokenLogps(torch.full((len(pairs), 1), -1.0), torch.ones(len(pairs), 1, dtype=torch.bool))
    beside = _beside(pairs)
    return PairLogps(
        policy_chosen=alike,
        policy_rejected=alike,
        ref_chosen=alike,
        ref_rejected=alike,
        weight=beside.pop("pair_weight"),
        **beside,
    )


def pair_logps(scorer: Callable[[RowBatch], TokenLogps], batch: PairBatch) -> PairLogps:
    """Policy log-probabilities of a batch beside its stored reference's."""
    policy = scorer(batch.rows)
    reference = None if batch.ref_values is None else replace(policy, values=batch.ref_values.to(policy.values.device))

    def every_second(logps: TokenLogps, start: int) -> TokenLogps:
        return TokenLogps(logps.values[start::2], logps.mask[start::2])

    return PairLogps(
        policy_chosen=every_second(policy, 0),
        policy_rejected=every_second(policy, 1),
        ref_chosen=None if reference is None else every_second(reference, 0),
        ref_rejected=None if reference is None else every_second(reference, 1),
        chosen_score=batch.chosen_score,
        rejected_score=batch.rejected_score,
        weight=batch.pair_weight,
        group=batch.group,
        idx=batch.idx,
    )


def weighted_losses(loss_function: Callable[[PairLogps], Tensor], logps: PairLogps) -> Float[Tensor, " pairs"]:
    """A loss's values, each times its pair's weight where the data gives weights."""
    values = loss_function(logps)
    return values if logps.weight is None else values * logps.weight


def preference_objective(loss_function: Callable[[PairLogps], Tensor]) -> Objective:
    """Lift a loss on pairs into an objective: the mean over the batch, of each pair's loss times its weight.

    The sum is divided by the number of pairs, not by their weights, so a pair of weight 2 pulls twice as hard in
    whichever batch it stands; weights that average 1 leave the learning rate its meaning.
    """

    def objective(scorer: nn.Module, batch: PairBatch) -> LossTerms:
        logps = pair_logps(scorer, batch)
        return LossTerms(weighted_losses(loss_function, logps).mean(), batch.rows.n_tokens)

    return objective


def train_preference(
    lm: LanguageModel,
    pairs: Sequence[EncodedPair],
    reference: Sequence[ReferenceLogps] | None,
    *,
    objective: str | Loss = "dpo",
    recipe: Recipe,
    seed: int,
    layout: Layout | None = None,
    **around: Unpack[Around],
) -> TrainingLog:
    """Train `lm` in place on pairs.

    Args:
        pairs: At least one.
        reference: Per-token values for each of `pairs`, from the model that `lm` starts as; None for a loss that
            needs none.
        objective: A registered loss with settings (`"dpo:beta=0.1"`), a sum of such (`"dpo + 0.2*nll"`), or a loss
            itself.
        seed: Decides the order of the pairs; nothing else is random.

    Raises:
        UsageError: Unknown loss or setting, or one out of range.
        InvalidData: Scores that the loss needs and the pairs lack, or that it cannot take.
    """
    bound = loss.bind(objective)
    check_objective(bound, pairs)
    layout = layout or find_layout(lm.model)

    steps = recipe.total_steps(len(pairs))
    lengths = [len(p.prompt) + len(p.chosen) + len(p.rejected) for p in pairs]
    drawn = draw_batches([p.idx for p in pairs], lengths, batch_size=recipe.batch_size, steps=steps, seed=seed)

    def batches(start: int) -> Iterator[Parts[PairBatch]]:
        for examples in drawn[start:]:
            yield step_parts(examples, lengths, recipe, one_batch)

    def one_batch(part: list[int]) -> PairBatch:
        values = None if reference is None else [reference[i] for i in part]
        return collate_pairs([pairs[i] for i in part], values, layout=layout).to(lm.device)

    scorer = AnswerLogps(lm.model, layout)
    with trainable(lm, recipe, seed):
        return train(scorer, preference_objective(bound), batches, recipe=recipe, steps=steps, **around)
