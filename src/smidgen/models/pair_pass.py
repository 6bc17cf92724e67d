"""One pass of a model over pairs that gives everything features need: log-probabilities of answers and hidden states.

Equal, up to rounding, to `score_answers`, `pair_states` and `pooled_hidden` run one after another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from smidgen.models.hidden import PairStates
from smidgen.models.load import LanguageModel
from smidgen.models.logprobs import AnswerLogps, computing_in, find_layout
from smidgen.models.rows import Layout, RowBatch, Tokens, collate_rows, row_lengths, token_budget_batches


@dataclass(frozen=True, slots=True)
class PairPass:
    """What one pass tells of pairs.

    Attributes:
        chosen_logps: Log-probability of the chosen answer, summed over its tokens, nats, float64.
        rejected_logps: The same of the rejected answer.
        prompt: The last layer's mean over the prompt's tokens beside its last token's state, as `pooled_hidden`.
        states: As `pair_states`.
    """

    chosen_logps: Float[np.ndarray, " pairs"]
    rejected_logps: Float[np.ndarray, " pairs"]
    prompt: Float[np.ndarray, "pairs twice_width"]
    states: PairStates


@torch.no_grad()
def pass_over_pairs(
    lm: LanguageModel,
    prompts: Sequence[Tokens],
    answers: Sequence[tuple[Tokens, Tokens]],
    *,
    batch_tokens: int = 8192,
    layout: Layout | None = None,
    dtype: str = "float32",
) -> PairPass:
    """Run the model once over every pair, in the layout it takes.

    Args:
        prompts: Token ids, at least one each.
        answers: Of each pair the chosen and the rejected answer, at least one token each.
        batch_tokens: Most tokens of a batch.
        layout: Of the rows; found where None.
        dtype: Of the computation, one of `DTYPES`, or "auto" as in `computing_dtype`.
    """
    scorer = AnswerLogps(lm.model, layout or find_layout(lm.model))
    logps = np.empty((len(prompts), 2))
    pooled: list[np.ndarray] = [np.empty(0)] * len(prompts)
    for batch in token_budget_batches(row_lengths(prompts, answers), batch_tokens, padded=scorer.layout != "packed"):
        own = [prompts[i] for i in batch]
        rows = collate_rows(own, [answers[i] for i in batch], layout=scorer.layout).to(lm.device)
        with computing_in(dtype, lm.device), _last_states(lm.model.base_model) as seen:
            values = scorer(rows).values
        states = seen[-1].flatten(0, 1).float()
        logps[batch] = (values * rows.answer_mask).double().sum(-1).view(-1, 2).cpu().numpy()
        of_prompts = _prompt_sums(states, own, _first_tokens(rows, scorer.layout))
        of_answers = _answer_means(states, rows).unflatten(0, (-1, 2))
        for i, own_states in zip(batch, torch.cat([of_prompts, of_answers], dim=1).cpu().numpy(), strict=True):
            pooled[i] = own_states
    mean, last, weighted, chosen, rejected = np.stack(pooled, axis=1)
    return PairPass(logps[:, 0], logps[:, 1], np.hstack([mean, last]), PairStates(weighted, chosen, rejected))


@contextmanager
def _last_states(base_model: nn.Module) -> Iterator[list[Tensor]]:
    """Inside, every forward of the model's body leaves its last layer's states here, whatever is done with them."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: object) -> None:
        seen.append(output.last_hidden_state)  # pyright: ignore[reportAttributeAccessIssue]

    hook = base_model.register_forward_hook(keep)
    try:
        yield seen
    finally:
        hook.remove()


def _first_tokens(rows: RowBatch, layout: Layout) -> list[int]:
    """Flat position of the first token of each pair's prompt; where rows hold one answer, in the chosen one's row."""
    if rows.packing is not None:
        return [span.start for span in rows.packing.spans]
    n_rows, length = rows.input_ids.shape
    return list(range(0, n_rows * length, length if layout == "shared" else 2 * length))


def _prompt_sums(
    states: Float[Tensor, "tokens width"], prompts: Sequence[Tokens], starts: Sequence[int]
) -> Float[Tensor, "prompts 3 width"]:
    """Of each prompt the mean state, the last token's, and the mean in which the i-th of n weighs i / (1 + ... + n)."""
    sums = []
    for prompt, start in zip(prompts, starts, strict=True):
        own, n = states[start : start + len(prompt)], len(prompt)
        places = torch.arange(1, n + 1, device=own.device, dtype=own.dtype)
        weights = torch.stack([torch.full_like(places, 1 / n), places / places.sum()])
        mean, weighted = weights @ own
        sums.append(torch.stack([mean, own[-1], weighted]))
    return torch.stack(sums)


def _answer_means(states: Float[Tensor, "tokens width"], rows: RowBatch) -> Float[Tensor, "answers width"]:
    """Mean of the states that predict each answer's tokens."""
    counts = rows.answer_mask.sum(-1)
    answer = torch.arange(len(counts), device=states.device).repeat_interleave(counts)
    sums = states.new_zeros(len(counts), states.shape[1]).index_add_(0, answer, states[rows.sources])
    return sums / counts[:, None]
