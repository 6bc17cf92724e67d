"""The engine: log-probabilities of answers, each prompt computed once, logits only where an answer is predicted.

How rows are laid out is `rows`; who sees whom, `attention`; the softmax over the vocabulary, `head`. Which layout a
model takes is found by comparing numbers (`find_layout`), not by a list of names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from smidgen.models.attention import BESIDE
from smidgen.models.head import target_logps
from smidgen.models.load import DTYPES, LanguageModel, computing_dtype
from smidgen.models.rows import (
    LAYOUTS,
    Layout,
    RowBatch,
    Tokens,
    attention_mask,
    collate_rows,
    row_lengths,
    token_budget_batches,
)

# Of one forward over answers, at most: what else computes the same values has to batch them the same way.
BATCH_TOKENS = 8192


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
    """What a preference loss sees; scores, weight, group and idx (for messages) are [pairs] or None."""

    policy_chosen: TokenLogps
    policy_rejected: TokenLogps
    ref_chosen: TokenLogps | None = None
    ref_rejected: TokenLogps | None = None
    chosen_score: Tensor | None = None
    rejected_score: Tensor | None = None
    weight: Tensor | None = None
    group: Tensor | None = None
    idx: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedLogps:
    """What a loss on single marked answers sees, the unpaired twin of `PairLogps`; weight and idx may be None.

    Attributes:
        desirable: True where the answer is a good one.
        mismatched_log_ratio: Mean of log π − log ref over answers to prompts that are not theirs, of the whole step
            that these answers are a part of, nats, without gradient; None where nobody measured it.
    """

    policy: TokenLogps
    ref: TokenLogps
    desirable: Bool[Tensor, " answers"]
    mismatched_log_ratio: Float[Tensor, ""] | None = None
    weight: Float[Tensor, " answers"] | None = None
    idx: Tensor | None = None


class AnswerLogps(nn.Module):
    """Computes log-probabilities inside one forward, so that sharded weights are gathered where they are used.

    Args:
        model: A causal language model, adapters inside it or not.
        layout: Of the batches it will be given.
        twice_differentiable: Take plain operations throughout, so that gradients have gradients; slower, for float32.
    """

    def __init__(self, model: PreTrainedModel, layout: Layout, *, twice_differentiable: bool = False) -> None:
        super().__init__()
        self.model = model
        self.layout: Layout = layout
        self.twice_differentiable = twice_differentiable

    def forward(self, batch: RowBatch) -> TokenLogps:
        """Log-probabilities of every answer of the batch, float32, nats, [answers, tokens]."""
        with sdpa_kernel(SDPBackend.MATH) if self.twice_differentiable else nullcontext():
            if self.layout == "model":
                # Whatever the architecture does to its logits happens inside its own forward.
                logits = self.model(**self._inputs(batch)).logits.flatten(0, 1)[batch.sources]
                found = -cross_entropy(logits.float(), batch.targets, reduction="none")
            else:
                states = self.model.base_model(**self._inputs(batch)).last_hidden_state
                found = self._head(states.flatten(0, 1)[batch.sources], batch.targets)
        values = found.new_zeros(batch.answer_mask.shape)
        values[batch.answer_mask] = found
        return TokenLogps(values, batch.answer_mask)

    def _inputs(self, batch: RowBatch) -> dict[str, Any]:
        inputs: dict[str, Any] = {"input_ids": batch.input_ids, "use_cache": False}
        if self.layout in ("separate", "model"):
            return inputs | {"attention_mask": (batch.segments >= 0).long()}
        inputs["position_ids"] = batch.position_ids
        if self.layout == "shared":
            mask = attention_mask(batch.segments)
            if self.model.config._attn_implementation != BESIDE["sdpa"]:
                # Plain implementations add their mask to the scores.
                mask = torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, torch.finfo(torch.float32).min)
            return inputs | {"attention_mask": mask}
        packing = batch.packing
        if packing is not None and self.twice_differentiable:
            packing = replace(packing, twice_differentiable=True)
        # A mask of four dimensions is handed on as it is, so none of the row's length is ever built.
        return inputs | {"packing": packing, "attention_mask": torch.ones(1, 1, 1, 1, device=batch.input_ids.device)}

    def _head(self, states: Tensor, targets: Tensor) -> Float[Tensor, " n"]:
        head = cast(nn.Linear, self.model.get_output_embeddings())
        cap = getattr(self.model.config.get_text_config(), "final_logit_softcapping", None)
        return target_logps(
            states, head.weight, head.bias, targets, softcap=cap, twice_differentiable=self.twice_differentiable
        )


def functional_logps(
    lm: LanguageModel, layout: Layout, parameters: Mapping[str, Tensor], batch: RowBatch
) -> TokenLogps:
    """Log-probabilities as a function of the weights, differentiable as often as wanted; for float32.

    Args:
        layout: Of `batch`.
        parameters: By name as in `lm.model.named_parameters()`; those left out are the model's own.
    """
    scorer = AnswerLogps(lm.model, layout, twice_differentiable=True)
    return functional_call(scorer, {f"model.{name}": tensor for name, tensor in parameters.items()}, (batch,))


def find_layout(model: PreTrainedModel, *, tolerance: float = 2e-4) -> Layout:
    """The fastest layout whose log-probabilities agree with the model's own within `tolerance` nats, on a small probe.

    Heads with a bias, cap or scale, sliding windows and attention that ignores the mask all show up here. A layout
    that the model's code does not take is passed over.
    """
    vocabulary = len(cast(nn.Embedding, model.get_input_embeddings()).weight)
    generator = torch.Generator().manual_seed(0)

    def draw(n: int) -> list[int]:
        return torch.randint(0, vocabulary, (n,), generator=generator).tolist()

    prompts, answers = [draw(7), draw(4)], [[draw(5), draw(9)], [draw(8), draw(1)]]
    parameter = next(model.parameters())
    if parameter.dtype != torch.float32:
        tolerance = 0.1

    def values(layout: Layout) -> Tensor:
        batch = collate_rows(prompts, answers, layout=layout).to(parameter.device)
        return AnswerLogps(model, layout)(batch).values

    with torch.no_grad(), torch.autocast(parameter.device.type, enabled=False), _short_windows(model):
        own = values("model")
        for layout in LAYOUTS[:-1]:
            try:
                if torch.allclose(values(layout), own, atol=tolerance, rtol=0):
                    return layout
            except (AttributeError, TypeError, ValueError, RuntimeError, IndexError, NotImplementedError):
                continue
    return "model"


@contextmanager
def _short_windows(model: PreTrainedModel, tokens: int = 5) -> Iterator[None]:
    """Inside, sliding windows are shorter than the probe's rows, so that a layout that gets them wrong is found out."""
    holders = [m for m in (model.config.get_text_config(), *model.modules()) if hasattr(m, "sliding_window")]
    before = [(m, m.sliding_window) for m in holders if isinstance(m.sliding_window, int)]
    for holder, _ in before:
        setattr(holder, "sliding_window", tokens)  # noqa: B010
    try:
        yield
    finally:
        for holder, window in before:
            setattr(holder, "sliding_window", window)  # noqa: B010


@torch.no_grad()
def score_answers(
    lm: LanguageModel,
    prompts: Sequence[Tokens],
    answers: Sequence[Sequence[Tokens]],
    *,
    batch_tokens: int = BATCH_TOKENS,
    layout: Layout | None = None,
    dtype: str = "float32",
) -> list[list[np.ndarray]]:
    """Per-token log-probabilities of any number of answers to each prompt.

    Args:
        dtype: Of the computation, one of `DTYPES`, or "auto" as in `computing_dtype`.

    Returns:
        For each prompt, for each of its answers, float32 [answer tokens], nats, in the order given.
    """
    scorer = AnswerLogps(lm.model, layout or find_layout(lm.model))
    batches = token_budget_batches(row_lengths(prompts, answers), batch_tokens, padded=scorer.layout != "packed")
    result: list[list[np.ndarray]] = [[] for _ in prompts]
    for batch in batches:
        rows = collate_rows([prompts[i] for i in batch], [answers[i] for i in batch], layout=scorer.layout)
        with computing_in(dtype, lm.device):
            logps = scorer(rows.to(lm.device))
        values, counts = logps.values.cpu().numpy(), logps.mask.sum(-1).tolist()
        flat = iter(range(len(counts)))
        for i in batch:
            result[i] = [values[k, : counts[k]].copy() for _, k in zip(answers[i], flat, strict=False)]
    return result


def computing_in(dtype: str, device: torch.device) -> AbstractContextManager[Any]:
    """Matrix products in `dtype` on weights that stay as they are; nothing to do for float32."""
    dtype = computing_dtype(dtype, device)
    if dtype == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=DTYPES[dtype])
