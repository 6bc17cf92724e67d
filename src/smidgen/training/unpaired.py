"""Training on single answers marked good or bad, by Kahneman–Tversky optimisation or another loss on such answers.

The reference point of KTO is the mean log-ratio of mismatched answers: each prompt of a step with the answer of the one
before it. It is measured once a step, before the step's parts, with the weights that the step starts from; so all parts
and all processes share it, and a step costs the same however it is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Unpack

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Bool, Float
from torch import Tensor, nn

from smidgen.data.answers import EncodedAnswer
from smidgen.errors import InvalidData, UsageError
from smidgen.models.load import LanguageModel
from smidgen.models.logprobs import AnswerLogps, MarkedLogps, TokenLogps, computing_in, find_layout
from smidgen.models.reference_store import ReferenceStore
from smidgen.models.rows import Layout, RowBatch, Tokens, collate_rows
from smidgen.training.heldout import heldout_loss
from smidgen.training.loop import Around, LossTerms, Objective, Recipe, TrainingLog, draw_batches, train, trainable
from smidgen.training.losses.marked import MissingMismatched, UnpairedLoss, kto_unpaired
from smidgen.training.parts import Parts, split_by_tokens, step_parts


@dataclass(frozen=True, slots=True)
class MarkedBatch:
    """Answers of one step, or a part of them, with the reference's values and what the step measured."""

    rows: RowBatch
    ref_values: Float[Tensor, "answers tokens"]
    desirable: Bool[Tensor, " answers"]
    answer_weight: Float[Tensor, " answers"]
    idx: Tensor
    mismatched_log_ratio: Float[Tensor, ""] | None
    weight: float

    def __len__(self) -> int:
        return len(self.desirable)

    def to(self, device: torch.device) -> MarkedBatch:
        """The same on `device`."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        moved = {name: value.to(device) for name, value in found.items() if isinstance(value, Tensor)}
        return replace(self, rows=self.rows.to(device), **moved)


def collate_answers(
    answers: Sequence[EncodedAnswer],
    reference: Sequence[np.ndarray],
    mismatched_log_ratio: Tensor | None,
    *,
    layout: Layout,
) -> MarkedBatch:
    """One batch of marked answers, each with its per-token reference values."""
    rows = collate_rows([a.prompt for a in answers], [(a.answer,) for a in answers], layout=layout)
    values = torch.zeros(rows.answer_mask.shape)
    values[rows.answer_mask] = torch.from_numpy(np.concatenate(reference))
    return MarkedBatch(
        rows,
        values,
        desirable=torch.tensor([a.desirable for a in answers]),
        answer_weight=torch.tensor([a.weight for a in answers]),
        idx=torch.tensor([a.idx for a in answers]),
        mismatched_log_ratio=mismatched_log_ratio,
        weight=len(answers),
    )


def unpaired_objective(loss_function: UnpairedLoss) -> Objective:
    """Lift a loss on marked answers into an objective: the mean over answers of weight times loss."""

    def objective(scorer: nn.Module, batch: MarkedBatch) -> LossTerms:
        policy: TokenLogps = scorer(batch.rows)
        logps = MarkedLogps(
            policy=policy,
            ref=replace(policy, values=batch.ref_values),
            desirable=batch.desirable,
            mismatched_log_ratio=batch.mismatched_log_ratio,
            weight=batch.answer_weight,
            idx=batch.idx,
        )
        return LossTerms((loss_function(logps) * batch.answer_weight).mean(), batch.rows.n_tokens)

    return objective


def needs_mismatched(loss_function: UnpairedLoss) -> bool:
    """Whether a loss asks for mismatched answers; found by giving it none. Raises what it has against its settings."""
    one = TokenLogps(torch.full((1, 1), -1.0), torch.ones(1, 1, dtype=torch.bool))
    try:
        loss_function(MarkedLogps(policy=one, ref=one, desirable=torch.tensor([True])))
    except MissingMismatched:
        return True
    return False


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A prompt with the answer to another one, and that answer's log-probability there under the reference, nats."""

    prompt: Tokens
    answer: Tokens
    ref_logp: float = 0.0

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


def mismatches(answers: Sequence[EncodedAnswer], most_tokens: int) -> list[Mismatch]:
    """Each prompt with the answer of the one before it, the first with the last's; none for a single answer.

    An answer is cut where it is too long behind another prompt.

    Args:
        most_tokens: Of prompt and answer together.
    """
    if len(answers) < 2:
        return []
    return [
        Mismatch(own.prompt, other.answer[: max(1, most_tokens - len(own.prompt))])
        for own, other in zip(answers, [answers[-1], *answers[:-1]], strict=True)
    ]


@torch.no_grad()
def mean_log_ratio(
    scorer: AnswerLogps, rows: Sequence[Mismatch], *, recipe: Recipe, device: torch.device
) -> Float[Tensor, ""]:
    """Mean of log π − log ref, nats; over all processes' share of the rows where several train; 0 without rows."""
    world = dist.get_world_size() if dist.is_initialized() else 1
    mine = rows[dist.get_rank() :: world] if world > 1 else rows
    total = torch.zeros((), device=device)
    for part in split_by_tokens(range(len(mine)), [len(row) for row in mine], recipe.micro_batch_tokens):
        members = [mine[i] for i in part]
        batch = collate_rows([m.prompt for m in members], [(m.answer,) for m in members], layout=scorer.layout)
        with computing_in(recipe.dtype, device):
            logps = scorer(batch.to(device)).sum()
        total += (logps - torch.tensor([m.ref_logp for m in members], device=device)).sum()
    if world > 1:
        dist.all_reduce(total)
    return total / max(1, len(rows))


def train_unpaired(
    lm: LanguageModel,
    answers: Sequence[EncodedAnswer],
    store: ReferenceStore,
    *,
    objective: UnpairedLoss = kto_unpaired,
    recipe: Recipe,
    seed: int,
    ref_lm: LanguageModel | None = None,
    layout: Layout | None = None,
    **around: Unpack[Around],
) -> TrainingLog:
    """Train `lm` in place on single marked answers.

    Args:
        answers: At least one.
        store: Keeps the reference's values, of the answers and of the mismatched ones of every step.
        objective: A loss with its settings, such as `partial(kto_unpaired, beta=0.5)`.
        seed: Decides the order, and so who is mismatched with whom.
        ref_lm: The reference, with the same tokens; None for the model as it starts.

    Raises:
        UsageError: A setting out of range, or batches of one answer, which hold no mismatched ones, for a loss that
            needs them.
        InvalidData: No answers, or weights that are all 0.
    """
    compares = needs_mismatched(objective)
    _check(lm, answers, recipe, compares=compares)
    layout = layout or find_layout(lm.model)
    steps = recipe.total_steps(len(answers))
    lengths = [len(answer) for answer in answers]
    drawn = draw_batches([a.idx for a in answers], lengths, batch_size=recipe.batch_size, steps=steps, seed=seed)
    score = partial(store.logps, ref_lm or lm, dtype=recipe.dtype, layout=None if ref_lm else layout)
    reference = [values for (values,) in score([a.prompt for a in answers], [(a.answer,) for a in answers])]
    others = [mismatches([answers[i] for i in step], lm.max_positions + 1) if compares else [] for step in drawn]
    scored = iter(_scored([row for step in others for row in step], score))
    others = [[next(scored) for _ in step] for step in others]
    scorer = AnswerLogps(lm.model, layout)

    def batches(first: int) -> Iterator[Parts[MarkedBatch]]:
        for examples, rows in zip(drawn[first:], others[first:], strict=True):
            # Asked for only when the step before has moved the weights.
            shared = mean_log_ratio(scorer, rows, recipe=recipe, device=lm.device) if compares else None
            yield step_parts(examples, lengths, recipe, partial(one_batch, shared))

    def one_batch(shared: Tensor | None, part: list[int]) -> MarkedBatch:
        batch = collate_answers([answers[i] for i in part], [reference[i] for i in part], shared, layout=layout)
        return batch.to(lm.device)

    with trainable(lm, recipe, seed):
        return train(scorer, unpaired_objective(objective), batches, recipe=recipe, steps=steps, **around)


def _scored(rows: Sequence[Mismatch], score: Callable[..., list[list[np.ndarray]]]) -> list[Mismatch]:
    values = score([row.prompt for row in rows], [(row.answer,) for row in rows])
    return [replace(row, ref_logp=float(logps.sum())) for row, (logps,) in zip(rows, values, strict=True)]


def heldout_answers(
    lm: LanguageModel,
    answers: Sequence[EncodedAnswer],
    store: ReferenceStore,
    *,
    objective: UnpairedLoss = kto_unpaired,
    recipe: Recipe,
    ref_lm: LanguageModel | None = None,
) -> Callable[[nn.Module], dict[str, float]]:
    """Make a measure of the loss on held-out answers, given the scorer that is being trained.

    Args:
        answers: At least one, none of them trained on; the mismatched answers are those of all of them.
        ref_lm: As trained with.

    Returns:
        A function of the scorer that returns `heldout_loss`, the mean over answers of weight times loss.

    Raises:
        InvalidData: No answers, or weights that are all 0.
    """
    compares = needs_mismatched(objective)
    _check(lm, answers, recipe, compares=compares)
    layout = find_layout(lm.model)
    score = partial(store.logps, ref_lm or lm, dtype=recipe.dtype, layout=None if ref_lm else layout)
    reference = [values for (values,) in score([a.prompt for a in answers], [(a.answer,) for a in answers])]
    rows = _scored(mismatches(answers, lm.max_positions + 1), score) if compares else []
    lengths = [len(answer) for answer in answers]

    def measure(scorer: nn.Module) -> dict[str, float]:
        own = AnswerLogps(lm.model, layout)
        shared = mean_log_ratio(own, rows, recipe=recipe, device=lm.device) if compares else None

        def collate(part: list[int]) -> MarkedBatch:
            batch = collate_answers([answers[i] for i in part], [reference[i] for i in part], shared, layout=layout)
            return batch.to(lm.device)

        found = heldout_loss(unpaired_objective(objective), collate, lengths, recipe=recipe, device=lm.device)
        return found(scorer)

    return measure


def _check(lm: LanguageModel, answers: Sequence[EncodedAnswer], recipe: Recipe, *, compares: bool) -> None:
    if not answers or not any(answer.weight for answer in answers):
        what = "one with a weight above 0" if answers else "one"
        raise InvalidData(f"expected at least {what} answer to train on, got none; check what the data checks dropped.")
    if compares and recipe.batch_size < 2:
        raise UsageError(
            f"expected a batch_size of at least 2, got {recipe.batch_size}: each prompt is compared with another's "
            "answer. Give a greater one; a step may still be computed in parts, by micro_batch_tokens."
        )
    # The last token is predicted, not fed.
    if (longest := max(map(len, answers))) - 1 > lm.max_positions:
        raise InvalidData(
            f"an answer has {longest} tokens with its prompt; expected at most {lm.max_positions + 1}. Give a smaller "
            "--max-length so that it is dropped and counted."
        )
