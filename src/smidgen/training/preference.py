"""Preference training: a loss on pairs, lifted into an objective for the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from smidgen.data.tokens import EncodedPair
from smidgen.models.load import LanguageModel
from smidgen.models.logprobs import AnswerLogps, PairLogps, TokenLogps, find_layout
from smidgen.models.reference_store import ReferenceStore
from smidgen.models.rows import Layout, RowBatch, collate_rows
from smidgen.training.loop import (
    LossTerms,
    Objective,
    Recipe,
    TrainingLog,
    draw_batches,
    step_parts,
    train,
    trainable,
)
from smidgen.training.losses import Loss, loss

# Chosen and rejected per-token log-probabilities of one pair under the reference.
ReferenceLogps = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, slots=True)
class PairBatch:
    """Pairs of one step: their rows (chosen before rejected), and the reference's values in the rows' order."""

    rows: RowBatch
    ref_values: Tensor
    weight: float

    def __len__(self) -> int:
        return len(self.rows.answer_mask) // 2


def reference_logps(
    lm: LanguageModel,
    pairs: Sequence[EncodedPair],
    store: ReferenceStore,
    *,
    dtype: str = "float32",
    layout: Layout | None = None,
) -> list[ReferenceLogps]:
    """Per-token reference values of both answers of every pair, from the store or computed into it in `dtype`."""
    prompts, answers = [p.prompt for p in pairs], [(p.chosen, p.rejected) for p in pairs]
    found = store.logps(lm, prompts, answers, dtype=dtype, layout=layout)
    return [(chosen, rejected) for chosen, rejected in found]


def collate_pairs(pairs: Sequence[EncodedPair], reference: Sequence[ReferenceLogps], *, layout: Layout) -> PairBatch:
    """One batch of pairs with their reference values."""
    rows = collate_rows([p.prompt for p in pairs], [(p.chosen, p.rejected) for p in pairs], layout=layout)
    values = torch.zeros(rows.answer_mask.shape)
    values[rows.answer_mask] = torch.from_numpy(np.concatenate([v for both in reference for v in both]))
    return PairBatch(rows, values, weight=len(pairs))


def pair_logps(scorer: nn.Module, batch: PairBatch) -> PairLogps:
    """Policy log-probabilities of a batch beside its stored reference's."""
    policy = scorer(batch.rows)
    ref = batch.ref_values.to(policy.values.device)

    def every_second(values: Tensor, start: int) -> TokenLogps:
        return TokenLogps(values[start::2], policy.mask[start::2])

    return PairLogps(
        policy_chosen=every_second(policy.values, 0),
        policy_rejected=every_second(policy.values, 1),
        ref_chosen=every_second(ref, 0),
        ref_rejected=every_second(ref, 1),
    )


def preference_objective(loss_function: Callable[[PairLogps], Tensor]) -> Objective:
    """Lift a loss on pairs into an objective: the mean over the batch."""

    def objective(scorer: nn.Module, batch: PairBatch) -> LossTerms:
        logps = pair_logps(scorer, batch)
        return LossTerms(loss_function(logps).mean(), batch.rows.n_tokens)

    return objective


def train_preference(
    lm: LanguageModel,
    pairs: Sequence[EncodedPair],
    reference: Sequence[ReferenceLogps],
    *,
    objective: str | Loss = "dpo",
    recipe: Recipe,
    seed: int,
    layout: Layout | None = None,
    on_log: Callable[[dict[str, float]], None] | None = None,
) -> TrainingLog:
    """Train `lm` in place on pairs.

    Args:
        pairs: At least one.
        reference: Per-token values for each of `pairs`, from the model that `lm` starts as.
        objective: A registered loss with settings (`"dpo:beta=0.1"`), or a loss itself.
        seed: Decides the order of the pairs; nothing else is random.

    Raises:
        UsageError: Unknown loss or setting.
    """
    bound = loss.bind(objective)
    layout = layout or find_layout(lm.model)

    steps = recipe.total_steps(len(pairs))
    lengths = [len(p.prompt) + len(p.chosen) + len(p.rejected) for p in pairs]
    drawn = draw_batches([p.idx for p in pairs], lengths, batch_size=recipe.batch_size, steps=steps, seed=seed)

    def batches() -> Iterator[list[PairBatch]]:
        for examples in drawn:
            yield step_parts(examples, lengths, recipe, one_batch)

    def one_batch(part: list[int]) -> PairBatch:
        one = collate_pairs([pairs[i] for i in part], [reference[i] for i in part], layout=layout)
        return replace(one, rows=one.rows.to(lm.device), ref_values=one.ref_values.to(lm.device))

    scorer = AnswerLogps(lm.model, layout)
    with trainable(lm, recipe, seed):
        return train(scorer, preference_objective(bound), batches(), recipe=recipe, steps=steps, on_log=on_log)
