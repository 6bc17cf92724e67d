"""Hidden states of prompts and pairs under a model, pooled to a few vectors each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from smidgen.models.load import LanguageModel
from smidgen.models.rows import Tokens, token_budget_batches


@dataclass(frozen=True, slots=True)
class PairStates:
    """The last layer's states of pairs, float32.

    Attributes:
        prompt: Mean over the prompt's tokens, the i-th of n weighing i / (1 + ... + n).
        chosen: Mean of the states that predict the chosen answer's tokens: from the prompt's last token to the
            answer's last but one.
        rejected: The same of the rejected answer.
    """

    prompt: Float[np.ndarray, "pairs width"]
    chosen: Float[np.ndarray, "pairs width"]
    rejected: Float[np.ndarray, "pairs width"]


@torch.no_grad()
def pooled_hidden(
    lm: LanguageModel, prompts: Sequence[Tokens], *, batch_tokens: int = 8192
) -> Float[np.ndarray, "prompts twice_width"]:
    """The last layer's mean over a prompt's tokens beside its last token's state, float32.

    Args:
        prompts: Token ids, at least one each.
    """
    result: list[np.ndarray] = [np.empty(0)] * len(prompts)
    for batch, states, mask in _last_states(lm, prompts, batch_tokens):
        mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        last = states[torch.arange(len(batch)), mask.sum(1) - 1]
        for row, i in enumerate(batch):
            result[i] = torch.cat([mean[row], last[row]]).cpu().numpy()
    return np.stack(result)


def prompt_states(
    lm: LanguageModel, prompts: Sequence[Tokens], *, batch_tokens: int = 8192
) -> Float[np.ndarray, "prompts width"]:
    """The last layer's mean over a prompt's tokens, the i-th of n weighing i / (1 + ... + n), float32.

    Args:
        prompts: Token ids, at least one each.

    Source: Muennighoff 2022, arXiv:2202.08904; as a way to find training data, Ivison et al. 2025, arXiv:2503.01807.
    """
    return _weighted(lm, prompts, [_by_position(len(p))[None] for p in prompts], batch_tokens)[:, 0]


def pair_states(
    lm: LanguageModel,
    prompts: Sequence[Tokens],
    answers: Sequence[tuple[Tokens, Tokens]],
    *,
    batch_tokens: int = 8192,
) -> PairStates:
    """States of prompts and both answers, from one pass over two rows a pair.

    Args:
        prompts: Token ids, at least one each.
        answers: Of each pair the chosen and the rejected answer, at least one token each.
    """
    rows: list[Tokens] = []
    weights: list[np.ndarray] = []
    for prompt, pair in zip(prompts, answers, strict=True):
        for answer in pair:
            # An answer's last token is predicted but predicts nothing, so it is not fed.
            rows.append([*prompt, *answer[:-1]])
            weight = np.zeros((2, len(rows[-1])), dtype=np.float32)
            weight[0, : len(prompt)] = _by_position(len(prompt))
            weight[1, len(prompt) - 1 :] = 1 / len(answer)
            weights.append(weight)
    pooled = _weighted(lm, rows, weights, batch_tokens)
    return PairStates(pooled[::2, 0], pooled[::2, 1], pooled[1::2, 1])


def _by_position(n: int) -> np.ndarray:
    weights = np.arange(1, n + 1, dtype=np.float32)
    return weights / weights.sum()


@torch.no_grad()
def _weighted(
    lm: LanguageModel, rows: Sequence[Tokens], weights: Sequence[np.ndarray], batch_tokens: int
) -> np.ndarray:
    """Weighted sums of each row's states, [rows, sums, width] float32; weights are [sums, tokens of the row]."""
    result: list[np.ndarray] = [np.empty(0)] * len(rows)
    for batch, states, mask in _last_states(lm, rows, batch_tokens):
        padded = torch.zeros(len(batch), len(weights[0]), mask.shape[1])
        for row, i in enumerate(batch):
            padded[row, :, : len(rows[i])] = torch.from_numpy(weights[i])
        sums = (padded.to(states.device) @ states).cpu().numpy()
        for row, i in enumerate(batch):
            result[i] = sums[row]
    return np.stack(result)


def _last_states(
    lm: LanguageModel, rows: Sequence[Tokens], batch_tokens: int
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Batches of rows: their numbers, the last layer's states [rows, length, width] float32, 1 where a token is."""
    for batch in token_budget_batches([len(row) for row in rows], batch_tokens):
        length = max(len(rows[i]) for i in batch)
        ids = torch.zeros(len(batch), length, dtype=torch.long)
        mask = torch.zeros(len(batch), length, dtype=torch.long)
        for row, i in enumerate(batch):
            ids[row, : len(rows[i])] = torch.tensor(list(rows[i]))
            mask[row, : len(rows[i])] = 1
        ids, mask = ids.to(lm.device), mask.to(lm.device)
        states = lm.model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        yield batch, states.float(), mask
