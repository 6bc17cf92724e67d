"""The engine: log-probabilities of answers, one row a prompt.

A row is `prompt | answer 1 | answer 2 | …`. An answer sees the prompt and itself, never another answer, and its
positions restart after the prompt, so the prompt is computed once however many answers it has. Logits exist only
where an answer's token is predicted. Where an architecture does not take a custom mask and positions, each answer
gets a row of its own; which of the two applies is found by comparing numbers (`find_layout`), not by a list of names.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from smidgen.models.load import LanguageModel

Tokens = Sequence[int]
Layout = Literal["shared", "separate"]

# Logits are made in blocks of about this many elements, so [tokens, vocabulary] never exists as a whole.
_LOGIT_BLOCK = 1 << 25
_PLAIN_ATTENTION_TOKENS = 256


@dataclass(frozen=True, slots=True)
class TokenLogps:
    """Per-token log-probabilities of answers, nats; `mask` is True where a token is."""

    values: Float[Tensor, "answers tokens"]
    mask: Bool[Tensor, "answers tokens"]

    def sum(self) -> Float[Tensor, " answers"]:
        """Summed over each answer's tokens."""
        return (self.values * self.mask).sum(-1)

    def mean(self) -> Float[Tensor, " answers"]:
        """Averaged over each answer's tokens."""
        return self.sum() / self.tokens()

    def tokens(self) -> Float[Tensor, " answers"]:
        """Number of tokens of each answer."""
        return self.mask.sum(-1).to(self.values.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairLogps:
    """What a preference loss sees; scores, weight and group are [pairs] or None."""

    policy_chosen: TokenLogps
    policy_rejected: TokenLogps
    ref_chosen: TokenLogps | None = None
    ref_rejected: TokenLogps | None = None
    chosen_score: Tensor | None = None
    rejected_score: Tensor | None = None
    weight: Tensor | None = None
    group: Tensor | None = None


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Rows ready for a model. Answers of all rows are numbered through, row by row.

    Attributes:
        segments: 0 for the prompt, 1, 2, … for the row's answers, -1 for padding.
        sources: Flat position (row * length + column) of the hidden state that predicts each answer token.
        targets: The answer tokens, in the order of `sources`.
        answer_mask: True where answer i has a j-th token; its True entries are in the order of `sources`.
    """

    input_ids: Int[Tensor, "rows length"]
    position_ids: Int[Tensor, "rows length"]
    segments: Int[Tensor, "rows length"]
    sources: Int[Tensor, " n"]
    targets: Int[Tensor, " n"]
    answer_mask: Bool[Tensor, "answers tokens"]

    def to(self, device: torch.device) -> RowBatch:
        return RowBatch(*(getattr(self, name).to(device) for name in self.__slots__))


def collate_rows(prompts: Sequence[Tokens], answers: Sequence[Sequence[Tokens]], *, layout: Layout) -> RowBatch:
    """Pack prompts with their answers into one right-padded batch.

    An answer's last token is predicted but predicts nothing, so it is not fed.

    Args:
        prompts: Token ids, at least one each.
        answers: For each prompt its answers' token ids, at least one each.
        layout: "shared" puts all answers of a prompt in its row, "separate" repeats the prompt for each.

    Raises:
        ValueError: An empty prompt or answer: there is nothing to predict from, or to predict.
    """
    if layout == "separate":
        prompts, answers = (
            [p for p, group in zip(prompts, answers, strict=True) for _ in group],
            [[answer] for group in answers for answer in group],
        )
    rows: list[tuple[list[int], list[int], list[int]]] = []
    sources: list[tuple[int, int]] = []
    targets: list[int] = []
    lengths: list[int] = []
    for row, (prompt, group) in enumerate(zip(prompts, answers, strict=True)):
        if not len(prompt) or not all(len(answer) for answer in group):
            raise ValueError(f"row {row}: a prompt and its answers need at least one token each")
        ids, positions, segments = list(prompt), list(range(len(prompt))), [0] * len(prompt)
        for number, answer in enumerate(group, start=1):
            start = len(ids)
            sources += [(row, len(prompt) - 1)] + [(row, start + i) for i in range(len(answer) - 1)]
            ids += answer[:-1]
            positions += range(len(prompt), len(prompt) + len(answer) - 1)
            segments += [number] * (len(answer) - 1)
            targets += answer
            lengths.append(len(answer))
        rows.append((ids, positions, segments))
    length = max(len(ids) for ids, _, _ in rows)
    columns = [np.full((len(rows), length), fill, dtype=np.int64) for fill in (0, 0, -1)]
    for row, parts in enumerate(rows):
        for column, part in zip(columns, parts, strict=True):
            column[row, : len(part)] = part
    return RowBatch(
        *(torch.from_numpy(column) for column in columns),
        sources=torch.tensor([row * length + column for row, column in sources]),
        targets=torch.tensor(targets),
        answer_mask=torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None],
    )


def attention_mask(segments: Int[Tensor, "rows length"]) -> Bool[Tensor, "rows 1 length length"]:
    """Who sees whom: causal, the prompt for everyone, otherwise only the own answer; padding sees itself."""
    length = segments.shape[1]
    query, key = segments[:, :, None], segments[:, None, :]
    causal = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    seen = causal & ((key == 0) | (key == query)) & (key >= 0)
    return (seen | torch.eye(length, dtype=torch.bool, device=segments.device))[:, None]


class AnswerLogps(nn.Module):
    """Computes log-probabilities inside one forward, so that sharded weights are gathered where they are used."""

    def __init__(self, model: PreTrainedModel, layout: Layout) -> None:
        super().__init__()
        self.model = model
        self.layout: Layout = layout

    def forward(self, batch: RowBatch) -> TokenLogps:
        """Log-probabilities of every answer of the batch, float32, nats, [answers, tokens]."""
        if self.layout == "shared":
            with _attention_kernel(batch.input_ids):
                hidden = self.model.base_model(
                    input_ids=batch.input_ids,
                    position_ids=batch.position_ids,
                    attention_mask=attention_mask(batch.segments),
                    use_cache=False,
                ).last_hidden_state
            head = self.model.get_output_embeddings() or nn.Identity()
        else:
            # Whatever the architecture does to its logits (caps, scales) happens inside its own forward.
            hidden = self.model(
                input_ids=batch.input_ids, attention_mask=(batch.segments >= 0).long(), use_cache=False
            ).logits
            head = nn.Identity()
        picked = hidden.flatten(0, 1)[batch.sources]
        values = picked.new_zeros(batch.answer_mask.shape, dtype=torch.float32)
        values[batch.answer_mask] = target_logps(picked, head, batch.targets)
        return TokenLogps(values, batch.answer_mask)


def _attention_kernel(input_ids: Tensor) -> AbstractContextManager[Any]:
    """On a CPU, short rows take plain attention: its bfloat16 backward needs a third of the fused kernel's time."""
    if input_ids.device.type == "cpu" and input_ids.shape[1] <= _PLAIN_ATTENTION_TOKENS:
        return sdpa_kernel(SDPBackend.MATH)
    return nullcontext()


def target_logps(hidden: Float[Tensor, "n width"], head: nn.Module, targets: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """log softmax(head(hidden))[target] in float32, block by block; blocks are recomputed in the backward pass."""

    def block_logps(block: Tensor, wanted: Tensor) -> Tensor:
        return -cross_entropy(head(block).float(), wanted, reduction="none")

    vocabulary = getattr(head, "out_features", hidden.shape[-1])
    size = max(1, _LOGIT_BLOCK // vocabulary)
    if len(hidden) <= size:
        return block_logps(hidden, targets)
    blocks = zip(hidden.split(size), targets.split(size), strict=True)
    return torch.cat([checkpoint(block_logps, b, t, use_reentrant=False) for b, t in blocks])  # pyright: ignore


def find_layout(model: PreTrainedModel, *, tolerance: float = 2e-4) -> Layout:
    """Compare shared rows with plain ones on a small probe; "shared" only if they agree within `tolerance` nats.

    Heads with a bias or soft cap, sliding windows and attention that ignores the mask all show up here. A model that
    raises on the custom mask takes separate rows too.
    """
    vocabulary = len(cast(nn.Embedding, model.get_input_embeddings()).weight)
    generator = torch.Generator().manual_seed(0)

    def draw(n: int) -> list[int]:
        return torch.randint(0, vocabulary, (n,), generator=generator).tolist()

    prompts, answers = [draw(7), draw(4)], [[draw(5), draw(9)], [draw(8), draw(3)]]
    device = next(model.parameters()).device
    with torch.no_grad():
        values = {}
        for layout in ("shared", "separate"):
            try:
                batch = collate_rows(prompts, answers, layout=layout).to(device)
                values[layout] = AnswerLogps(model, layout)(batch).values
            except (AttributeError, TypeError, ValueError, RuntimeError, IndexError):
                if layout == "separate":
                    raise
                return "separate"
    if next(model.parameters()).dtype != torch.float32:
        tolerance = 0.1
    return "shared" if torch.allclose(values["shared"], values["separate"], atol=tolerance, rtol=0) else "separate"


def token_budget_batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Indices in batches of similar length whose padded size stays within `batch_tokens`; longest first."""
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= batch_tokens:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


@torch.no_grad()
def score_answers(
    lm: LanguageModel,
    prompts: Sequence[Tokens],
    answers: Sequence[Sequence[Tokens]],
    *,
    batch_tokens: int = 8192,
    layout: Layout | None = None,
) -> list[list[np.ndarray]]:
    """Per-token log-probabilities of any number of answers to each prompt.

    Returns:
        For each prompt, for each of its answers, float32 [answer tokens], nats, in the order given.
    """
    scorer = AnswerLogps(lm.model, layout or find_layout(lm.model))
    lengths = [len(p) + sum(len(a) for a in group) for p, group in zip(prompts, answers, strict=True)]
    result: list[list[np.ndarray]] = [[] for _ in prompts]
    for batch in token_budget_batches(lengths, batch_tokens):
        rows = collate_rows([prompts[i] for i in batch], [answers[i] for i in batch], layout=scorer.layout)
        logps = scorer(rows.to(lm.device))
        values, counts = logps.values.cpu().numpy(), logps.mask.sum(-1).tolist()
        flat = iter(range(len(counts)))
        for i in batch:
            result[i] = [values[k, : counts[k]].copy() for _, k in zip(answers[i], flat, strict=False)]
    return result
