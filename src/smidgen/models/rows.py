"""Token rows for a model: prompts with their answers, laid out so that little is computed twice or for nothing.

Four layouts, from the fastest to the one that any causal model takes:

- `packed`: one row for the whole batch, `prompt | answer 1 | answer 2 | … | next prompt | …`, nothing padded. An answer
  sees its prompt and itself, never another answer, and its positions restart after the prompt.
- `shared`: the same, one row a prompt, padded on the right, under an ordinary four-dimensional mask.
- `separate`: one row an answer, prompt repeated, padded on the right.
- `model`: as `separate`, with logits from the model's own forward, whatever it does to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from smidgen.models.attention import Packing, Span

Tokens = Sequence[int]
Layout = Literal["packed", "shared", "separate", "model"]
LAYOUTS: tuple[Layout, ...] = ("packed", "shared", "separate", "model")


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Rows ready for a model. Answers of all rows are numbered through, row by row.

    Attributes:
        segments: 0 for a prompt, 1, 2, … for its answers, -1 for padding and for hidden tokens.
        sources: Flat position (row * length + column) of the hidden state that predicts each answer token.
        targets: The answer tokens, in the order of `sources`.
        answer_mask: True where answer i has a j-th token; its True entries are in the order of `sources`.
        packing: Where prompts and answers lie in a packed row; None in the other layouts.
    """

    input_ids: Int[Tensor, "rows length"]
    position_ids: Int[Tensor, "rows length"]
    segments: Int[Tensor, "rows length"]
    sources: Int[Tensor, " n"]
    targets: Int[Tensor, " n"]
    answer_mask: Bool[Tensor, "answers tokens"]
    packing: Packing | None = None

    def to(self, device: torch.device) -> RowBatch:
        if device.type == "cpu":
            return self
        moved = {f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)[:-1]}
        return replace(self, **moved)

    @property
    def n_tokens(self) -> int:
        """Tokens fed, padding and hidden ones not counted."""
        return int(self.segments.ge(0).sum())


def collate_rows(prompts: Sequence[Tokens], answers: Sequence[Sequence[Tokens]], *, layout: Layout) -> RowBatch:
    """Lay out prompts with their answers as one batch.

    An answer's last token is predicted but predicts nothing, so it is not fed.

    Args:
        prompts: Token ids, at least one each.
        answers: For each prompt its answers' token ids, at least one each.
        layout: One of `LAYOUTS`.

    Raises:
        ValueError: An empty prompt or answer: there is nothing to predict from, or to predict.
    """
    if layout in ("separate", "model"):
        prompts, answers = (
            [p for p, group in zip(prompts, answers, strict=True) for _ in group],
            [[answer] for group in answers for answer in group],
        )
    ids: list[list[int]] = []
    positions: list[list[int]] = []
    segments: list[list[int]] = []
    sources: list[list[int]] = []
    targets: list[int] = []
    lengths: list[int] = []
    spans: list[Span] = []
    start = 0
    for row, (prompt, group) in enumerate(zip(prompts, answers, strict=True)):
        n = len(prompt)
        if not n or not all(len(answer) for answer in group):
            raise ValueError(f"row {row}: a prompt and its answers need at least one token each")
        row_ids, row_positions, row_segments, row_sources = list(prompt), list(range(n)), [0] * n, []
        for number, answer in enumerate(group, start=1):
            fed = len(answer) - 1
            row_sources += [n - 1, *range(len(row_ids), len(row_ids) + fed)]
            row_ids += answer[:-1]
            row_positions += range(n, n + fed)
            row_segments += [number] * fed
            targets += answer
            lengths.append(len(answer))
        spans.append(Span(start, n, tuple(len(answer) - 1 for answer in group)))
        start += len(row_ids)
        ids.append(row_ids)
        positions.append(row_positions)
        segments.append(row_segments)
        sources.append(row_sources)
    if layout == "packed":
        offsets = [span.start for span in spans]
        columns = [np.asarray([[x for part in parts for x in part]]) for parts in (ids, positions, segments)]
    else:
        length = max(map(len, ids))
        offsets = [row * length for row in range(len(ids))]
        columns = [_pad(parts, length, fill) for parts, fill in ((ids, 0), (positions, 0), (segments, -1))]
    return RowBatch(
        *(torch.from_numpy(column) for column in columns),
        sources=torch.tensor([o + s for o, part in zip(offsets, sources, strict=True) for s in part]),
        targets=torch.tensor(targets),
        answer_mask=torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None],
        packing=Packing(tuple(spans)) if layout == "packed" else None,
    )


def _pad(rows: list[list[int]], length: int, fill: int) -> np.ndarray:
    column = np.full((len(rows), length), fill, dtype=np.int64)
    for row, part in enumerate(rows):
        column[row, : len(part)] = part
    return column


def hide_tokens(rows: RowBatch, hidden: Sequence[Bool[np.ndarray, " tokens"]]) -> RowBatch:
    """The same rows, in which no token looks at the hidden ones; what these predict themselves is still predicted.

    For the layouts `separate` and `model` only, where padding is what nobody looks at.

    Args:
        hidden: For each row, True at the fed tokens to hide; never at the first, which some have nothing else to see.
    """
    segments = rows.segments.clone()
    for row, which in enumerate(hidden):
        segments[row, : len(which)][torch.from_numpy(which)] = -1
    return replace(rows, segments=segments)


def attention_mask(segments: Int[Tensor, "rows length"]) -> Bool[Tensor, "rows 1 length length"]:
    """Who sees whom in shared rows: causal, the prompt for everyone, otherwise the own answer; padding sees itself."""
    length = segments.shape[1]
    query, key = segments[:, :, None], segments[:, None, :]
    causal = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    seen = causal & ((key == 0) | (key == query)) & (key >= 0)
    return (seen | torch.eye(length, dtype=torch.bool, device=segments.device))[:, None]


def row_lengths(prompts: Sequence[Tokens], answers: Sequence[Sequence[Tokens]]) -> list[int]:
    """Tokens of each prompt with all its answers."""
    return [len(p) + sum(map(len, group)) for p, group in zip(prompts, answers, strict=True)]


def token_budget_batches(lengths: Sequence[int], batch_tokens: int, *, padded: bool = True) -> list[list[int]]:
    """Indices in batches of similar length whose size stays within `batch_tokens`; longest first.

    Args:
        lengths: Tokens of each row.
        batch_tokens: Most tokens of a batch; a longer row is a batch alone.
        padded: Count what padding to the longest row adds; False for packed rows.
    """
    batches: list[list[int]] = []
    size = 0
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        cost = lengths[batches[-1][0]] if padded and batches else lengths[i]
        if batches and size + cost <= batch_tokens:
            batches[-1].append(i)
            size += cost
        else:
            batches.append([i])
            size = lengths[i]
    return batches
