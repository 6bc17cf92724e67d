"""The language-model head at answer positions: log softmax(W h)[target], a block of the vocabulary at a time.

Neither pass holds a [tokens, vocabulary] tensor. The forward pass keeps one number a token and block, the block's share
of the softmax's denominator; the backward pass makes a block's logits again, but for a few megabytes of them, and
writes that block's rows of the weight's gradient once.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

# Logits are made in blocks of about this many elements: on a processor large enough for full-speed matrix products and
# small enough for its cache, elsewhere large enough to fill the device.
_BLOCK_ELEMENTS = {"cpu": 1 << 22}
_BLOCK_ELEMENTS_ELSEWHERE = 1 << 27
# Products of the first blocks are kept for the backward pass up to this size, whatever the vocabulary; the rest are
# made again.
_KEPT_BYTES = 64 << 20


def target_logps(
    hidden: Float[Tensor, "n width"],
    weight: Float[Tensor, "vocabulary width"],
    bias: Float[Tensor, " vocabulary"] | None,
    targets: Int[Tensor, " n"],
    *,
    softcap: float | None = None,
    twice_differentiable: bool = False,
) -> Float[Tensor, " n"]:
    """log softmax(softcap(W h + b))[target], float32, nats.

    Args:
        hidden: The hidden state that predicts each target.
        softcap: c in c·tanh(logits / c), as in Gemma 2; None for none.
        twice_differentiable: Make all logits at once by plain operations, whose gradient has a gradient.
    """
    dtype = hidden.dtype
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
    with torch.autocast(hidden.device.type, enabled=False):
        hidden = hidden.to(dtype)
        if twice_differentiable:
            logits = _logits(hidden @ weight.to(dtype).t(), bias, softcap)
            return -cross_entropy(logits, targets, reduction="none")
        return _TargetLogps.apply(hidden, weight, bias, targets, softcap)  # pyright: ignore[reportReturnType]


def _logits(product: Tensor, bias: Tensor | None, softcap: float | None) -> Float[Tensor, "n block"]:
    """At least float32, so that neither bias, cap nor softmax rounds again."""
    logits = product.to(torch.promote_types(product.dtype, torch.float32))
    if bias is not None:
        logits = logits + bias.to(logits.dtype)
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)


class _TargetLogps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, softcap: float | None
    ) -> Float[Tensor, " n"]:
        picked = torch.empty(len(hidden), device=hidden.device)
        block_sums, kept, room = [], [], _KEPT_BYTES
        for part in _vocabulary_blocks(hidden, weight):
            product = hidden @ weight[part].to(hidden.dtype).t()
            room -= product.nbytes
            if room >= 0 and any(ctx.needs_input_grad):
                kept.append(product)
            logits = _logits(product, None if bias is None else bias[part], softcap)
            inside, column = _within(targets, part)
            picked = torch.where(inside, logits.gather(1, column[:, None]).squeeze(1), picked)
            # By way of log_softmax, one pass in cache where torch.logsumexp takes five; at the largest, so exactly.
            block_sums.append(logits.amax(-1) - torch.log_softmax(logits, -1).amax(-1))
        block_sums = torch.stack(block_sums)
        log_sum = block_sums.logsumexp(0)
        ctx.save_for_backward(hidden, weight, bias, targets, (block_sums - log_sum).exp(), *kept)
        ctx.softcap = softcap
        return picked - log_sum

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        hidden, weight, bias, targets, block_shares, *kept = ctx.saved_tensors
        cap = ctx.softcap
        grad_hidden = torch.zeros_like(hidden, dtype=torch.float32) if ctx.needs_input_grad[0] else None
        grad_weight = torch.empty_like(weight) if ctx.needs_input_grad[1] else None
        grad_bias = torch.empty_like(bias) if bias is not None and ctx.needs_input_grad[2] else None
        rows = torch.arange(len(hidden), device=hidden.device)
        for number, part in enumerate(_vocabulary_blocks(hidden, weight)):
            block = weight[part].to(hidden.dtype)
            product = kept[number] if number < len(kept) else hidden @ block.t()
            logits = _logits(product, None if bias is None else bias[part], cap)
            slope = None if cap is None else 1 - (logits / cap) ** 2
            # d log p[target] / d logit = [column is target] - p: the block's softmax times its share.
            towards = torch.softmax(logits, -1).mul_((-grad * block_shares[number])[:, None])
            inside, column = _within(targets, part)
            towards[rows[inside], column[inside]] += grad[inside]
            if slope is not None:
                towards *= slope
            if grad_bias is not None:
                grad_bias[part] = towards.sum(0)
            towards = towards.to(hidden.dtype)
            if grad_hidden is not None:
                grad_hidden += towards @ block
            if grad_weight is not None:
                grad_weight[part] = towards.t() @ hidden
        return None if grad_hidden is None else grad_hidden.to(hidden.dtype), grad_weight, grad_bias, None, None


def _vocabulary_blocks(hidden: Tensor, weight: Tensor) -> list[slice]:
    elements = _BLOCK_ELEMENTS.get(hidden.device.type, _BLOCK_ELEMENTS_ELSEWHERE)
    size = max(256, elements // max(1, len(hidden)))
    return [slice(start, min(start + size, len(weight))) for start in range(0, len(weight), size)]


def _within(targets: Tensor, part: slice) -> tuple[Tensor, Tensor]:
    """Which targets lie in a block of the vocabulary, and at which of its columns; 0 for the others."""
    inside = (targets >= part.start) & (targets < part.stop)
    return inside, torch.where(inside, targets - part.start, 0)
