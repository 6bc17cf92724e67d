"""Generation at speed: prompts of equal length together, key-value cache, stop when every row has ended.

Greedy by `generate`; by chance, from the model's own distribution or a part of it, by `sample`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from smidgen.errors import InvalidData
from smidgen.models.load import LanguageModel
from smidgen.models.sampling import check_sampling
from smidgen.pairs import random_key

# From the logits of each row's next token and the number of tokens written so far to the next tokens.
Choose = Callable[[Float[Tensor, "rows vocabulary"], int], Int[Tensor, " rows"]]


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model wrote after a prompt.

    Attributes:
        tokens: Without end of text.
        end: The token that ended it; None where there was no more room.
    """

    tokens: tuple[int, ...]
    end: int | None


def generate(
    lm: LanguageModel, prompts: Sequence[Sequence[int]], *, max_new_tokens: int = 32, batch_size: int = 128
) -> list[tuple[int, ...]]:
    """Continue each prompt by its most probable tokens.

    Rows are padded on the left under a mask, with positions counted from the first real token, so a row's answer
    does not depend on its neighbours.

    Args:
        prompts: Token ids, at least one each.
        max_new_tokens: Most tokens to write; fewer where end of text or the model's last position comes first.
        batch_size: Rows at once.

    Returns:
        For each prompt, in the order given, the new tokens without end of text.

    Raises:
        InvalidData: A prompt that leaves no position to write at.
    """
    result: list[tuple[int, ...]] = [()] * len(prompts)
    for batch, most in _batches(lm, prompts, max_new_tokens, batch_size):
        written = _write(lm, [prompts[i] for i in batch], most, lambda logits, _: logits.argmax(-1))
        for i, completion in zip(batch, written, strict=True):
            result[i] = completion.tokens
    return result


def sample(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    seed: int,
    n_answers: int = 1,
    max_new_tokens: int = 32,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    row_ids: Sequence[int] | None = None,
    batch_size: int = 128,
) -> list[list[Completion]]:
    """Continue each prompt by chance, several times over.

    An answer's luck follows from the seed, its prompt's row id and its number alone: neither the other prompts nor the
    batch size change it, and the first of four answers is the answer of one.

    Args:
        prompts: Token ids, at least one each.
        seed: Of all draws.
        n_answers: Answers to each prompt.
        max_new_tokens: Most tokens to write; fewer where end of text or the model's last position comes first.
        temperature: Logits are divided by it. Positive.
        top_p: Draw from the fewest tokens, most probable first, whose probabilities reach this sum; 1 for all.
        top_k: Draw from this many most probable tokens, and those as probable as the last; 0 for all.
        row_ids: A stable number for each prompt; its position where None.
        batch_size: Rows at once.

    Returns:
        For each prompt, in the order given, its answers.

    Raises:
        InvalidData: A prompt that leaves no position to write at.
        UsageError: A setting out of its range.

    Source: top-p, Holtzman et al. 2020, arXiv:1904.09751; top-k, Fan et al. 2018, arXiv:1805.04833.
    """
    check_sampling(n_answers, temperature, top_p, top_k)
    ids = range(len(prompts)) if row_ids is None else row_ids
    rows = [prompt for prompt in prompts for _ in range(n_answers)]
    keys = [random_key(f"{seed}/{number}", row_id) for row_id in ids for number in range(n_answers)]
    result = [Completion((), None)] * len(rows)
    for batch, most in _batches(lm, rows, max_new_tokens, batch_size):
        luck = np.stack([np.random.default_rng(keys[i]).random(most) for i in batch])
        draws = torch.from_numpy(luck).to(lm.device)

        def choose(logits: Tensor, step: int, draws: Tensor = draws) -> Tensor:
            return drawn(kept_logits(logits / temperature, top_p=top_p, top_k=top_k), draws[:, step])

        for i, completion in zip(batch, _write(lm, [rows[i] for i in batch], most, choose), strict=True):
            result[i] = completion
    return [result[start : start + n_answers] for start in range(0, len(rows), n_answers)]


def kept_logits(
    logits: Float[Tensor, "rows vocabulary"], *, top_p: float = 1.0, top_k: int = 0
) -> Float[Tensor, "rows vocabulary"]:
    """The logits with −∞ for the tokens that top-k, and then top-p of what is left, leave out."""
    if 0 < top_k < logits.shape[-1]:
        least = logits.topk(top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -math.inf)
    if top_p < 1:
        ordered, order = logits.sort(dim=-1, descending=True, stable=True)
        shares = ordered.double().softmax(-1)
        # A token stays where those before it do not reach the sum, so at least one does.
        beyond = shares.cumsum(-1) - shares >= top_p
        logits = logits.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), -math.inf)
    return logits


def drawn(logits: Float[Tensor, "rows vocabulary"], luck: Float[Tensor, " rows"]) -> Int[Tensor, " rows"]:
    """The token at which each row's cumulative probability passes its `luck`, a number in [0, 1)."""
    # In float64: over fifty thousand tokens, sums in float32 would move some draws.
    reached = logits.double().softmax(-1).cumsum(-1)
    return torch.searchsorted(reached, luck[:, None] * reached[:, -1:], right=True).squeeze(-1)


def _batches(
    lm: LanguageModel, prompts: Sequence[Sequence[int]], max_new_tokens: int, batch_size: int
) -> Iterator[tuple[list[int], int]]:
    """Positions of prompts to continue together, of like length, and the most tokens to write."""
    room = [lm.max_positions - len(prompt) for prompt in prompts]
    if room and min(room) < 1:
        raise InvalidData(
            f"prompt {room.index(min(room))} has {len(prompts[room.index(min(room))])} tokens; expected fewer than the "
            f"model's {lm.max_positions} positions. Shorten or leave out that prompt."
        )
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    free = [i for i in order if room[i] >= max_new_tokens]
    for start in range(0, len(free), batch_size):
        yield free[start : start + batch_size], max_new_tokens
    # A prompt near the model's last position writes less, alone, so that it shortens nobody else's answer.
    yield from (([i], room[i]) for i in order if room[i] < max_new_tokens)


def end_ids(lm: LanguageModel) -> set[int]:
    """Every token that ends an answer: the tokenizer's end of text and the model's own generation defaults."""
    configured = getattr(lm.model.generation_config, "eos_token_id", None)
    more = configured if isinstance(configured, list) else [configured]
    return {i for i in (lm.tokenizer.eos_token_id, *more) if isinstance(i, int)}


@torch.no_grad()
def _write(
    lm: LanguageModel, prompts: Sequence[Sequence[int]], max_new_tokens: int, choose: Choose
) -> list[Completion]:
    ends = end_ids(lm)
    length = max(map(len, prompts))
    ids = torch.zeros(len(prompts), length, dtype=torch.long)
    mask = torch.zeros(len(prompts), length, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, length - len(prompt) :] = torch.tensor(list(prompt))
        mask[row, length - len(prompt) :] = 1
    ids, mask = ids.to(lm.device), mask.to(lm.device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=lm.device)
    stop = torch.tensor(sorted(ends), device=lm.device)
    written, cache = [], None
    for step in range(max_new_tokens):
        out = lm.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = out.past_key_values
        ids = choose(out.logits[:, -1], step)[:, None]
        written.append(ids)
        ended |= torch.isin(ids.squeeze(-1), stop)
        if ended.all():
            break
        mask = torch.cat([mask, mask.new_ones(len(prompts), 1)], dim=-1)
        positions = positions[:, -1:] + 1
    rows = torch.cat(written, dim=-1).tolist() if written else [[] for _ in prompts]
    return [_until_end(row, ends) for row in rows]


def _until_end(tokens: list[int], ends: set[int]) -> Completion:
    first = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
    return Completion(tuple(tokens[:first]), tokens[first] if first < len(tokens) else None)
