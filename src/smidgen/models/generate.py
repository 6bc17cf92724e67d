"""Greedy generation at speed: prompts of equal length together, key-value cache, stop when every row has ended."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from smidgen.errors import InvalidData
from smidgen.models.load import LanguageModel


@torch.no_grad()
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
    room = [lm.max_positions - len(prompt) for prompt in prompts]
    if room and min(room) < 1:
        raise InvalidData(
            f"prompt {room.index(min(room))} has {len(prompts[room.index(min(room))])} tokens; expected fewer than the "
            f"model's {lm.max_positions} positions. Shorten or leave out that prompt."
        )
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    free = [i for i in order if room[i] >= max_new_tokens]
    batches = [free[start : start + batch_size] for start in range(0, len(free), batch_size)]
    # A prompt near the model's last position writes less, alone, so that it shortens nobody else's answer.
    batches += [[i] for i in order if room[i] < max_new_tokens]
    result: list[tuple[int, ...]] = [()] * len(prompts)
    for batch in batches:
        most = min(max_new_tokens, room[batch[-1]])
        for i, tokens in zip(batch, _greedy(lm, [prompts[i] for i in batch], most), strict=True):
            result[i] = tokens
    return result


def end_ids(lm: LanguageModel) -> set[int]:
    """Every token that ends an answer: the tokenizer's end of text and the model's own generation defaults."""
    configured = getattr(lm.model.generation_config, "eos_token_id", None)
    more = configured if isinstance(configured, list) else [configured]
    return {i for i in (lm.tokenizer.eos_token_id, *more) if isinstance(i, int)}


def _greedy(lm: LanguageModel, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[tuple[int, ...]]:
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
    for _ in range(max_new_tokens):
        out = lm.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = out.past_key_values
        ids = out.logits[:, -1].argmax(-1, keepdim=True)
        written.append(ids)
        ended |= torch.isin(ids.squeeze(-1), stop)
        if ended.all():
            break
        mask = torch.cat([mask, mask.new_ones(len(prompts), 1)], dim=-1)
        positions = positions[:, -1:] + 1
    rows = torch.cat(written, dim=-1).tolist() if written else [[] for _ in prompts]
    return [_until_end(row, ends) for row in rows]


def _until_end(tokens: list[int], ends: set[int]) -> tuple[int, ...]:
    first = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
    return tuple(tokens[:first])
