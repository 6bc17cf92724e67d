"""Attention over a packed row: every answer sees its prompt and itself, nothing else, and nothing is padded.

Registered with transformers under the names in `BESIDE`. A call that brings a `packing` takes the packed kernels; any
other call, generation for one, takes what the model took before.

On a CPU the row is a loop over blocks (a prompt with its answers; where they are long, the prompt, then each answer
beside it), each two matrix products and a softmax with their own backward: in bfloat16 PyTorch's fused CPU kernel needs
2.2 ms forward and 5.4 ms backward for 12 heads of 64 at 246 tokens, plain products 1.0 and 2.1. On a GPU it is one
FlexAttention call under a block mask.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask

# Our name for each implementation that a model may have had, and still has for rows that are not packed.
BESIDE = {"sdpa": "smidgen_sdpa", "eager": "smidgen_eager"}

# Up to this many tokens a prompt and its answers are one block: what its mask throws away costs less than more, smaller
# products would.
_WHOLE_SPAN_TOKENS = 384
# Above this many keys a block's attention weights are computed again in the backward pass instead of kept.
_KEEP_WEIGHTS_KEYS = 1024


@dataclass(frozen=True, slots=True)
class Span:
    """A prompt and its answers in a packed row: the first token's position, then how many tokens each has."""

    start: int
    prompt: int
    answers: tuple[int, ...]

    @property
    def tokens(self) -> int:
        return self.prompt + sum(self.answers)


@dataclass(frozen=True, slots=True)
class Packing:
    """Where everything lies in a packed row, without gaps and in order.

    Attributes:
        twice_differentiable: Take plain operations, whose gradient has a gradient, instead of the fast kernels.
    """

    spans: tuple[Span, ...]
    twice_differentiable: bool = False
    _masks: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    def blocks(self) -> Iterator[Block]:
        """The row's queries, block by block, in order."""
        for span in self.spans:
            if span.tokens <= _WHOLE_SPAN_TOKENS:
                yield Block(span.start, span.tokens, span.start, 0, (span.prompt, *span.answers))
                continue
            yield Block(span.start, span.prompt, span.start, 0)
            start = span.start + span.prompt
            for length in span.answers:
                if length:
                    yield Block(start, length, span.start, span.prompt)
                start += length

    def mask(self, block: Block, like: Tensor, window: int | None) -> Float[Tensor, "queries keys"]:
        """0 where a query may look, -inf elsewhere, in the type of `like`; made once a batch, for all its layers.

        Args:
            window: How many positions back a query sees; positions, not places in the row. None: all.
        """
        end = block.n_prompt + block.length
        if len(block.segments) < 3:
            size = 1 << (end - 1).bit_length()
            return _causal(size, window, like.dtype, like.device)[block.n_prompt : end, :end]
        key = (block.segments, window, like.dtype, like.device)
        if key not in self._masks:
            self._masks[key] = _span_mask(*key)
        return self._masks[key]


@dataclass(frozen=True, slots=True)
class Block:
    """Queries `start : start + length`, which see the `n_prompt` keys from `prompt` on and, causally, themselves.

    Attributes:
        segments: Where the queries are a whole span, the lengths of its prompt and answers; answers are blind to each
            other.
    """

    start: int
    length: int
    prompt: int
    n_prompt: int
    segments: tuple[int, ...] = ()

    def keys(self, tensor: Float[Tensor, "heads tokens width"]) -> Float[Tensor, "heads keys width"]:
        """What the block's queries may see: prompt, then themselves."""
        own = tensor[:, self.start : self.start + self.length]
        if not self.n_prompt:
            return own
        if self.prompt + self.n_prompt == self.start:
            return tensor[:, self.prompt : self.start + self.length]
        return torch.cat([tensor[:, self.prompt : self.prompt + self.n_prompt], own], dim=1)


def _span_mask(
    segments: tuple[int, ...], window: int | None, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "tokens tokens"]:
    """Of a prompt with several answers."""
    prompt, *answers = segments
    seen = torch.ones(sum(segments), sum(segments), dtype=torch.bool, device=device).tril()
    start = prompt
    for length in answers:
        seen[start + length :, start : start + length] = False
        start += length
    if window is not None:
        position = torch.cat([torch.arange(prompt), *(torch.arange(prompt, prompt + n) for n in answers)]).to(device)
        seen &= position[:, None] - position < window
    return torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill_(~seen, float("-inf"))


@lru_cache(maxsize=32)
def _causal(size: int, window: int | None, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "size size"]:
    seen = torch.ones(size, size, dtype=torch.bool, device=device).tril()
    if window is not None:
        seen &= torch.ones_like(seen).triu(1 - window)
    return torch.zeros(size, size, dtype=dtype, device=device).masked_fill_(~seen, float("-inf"))


def attention(
    module: nn.Module,
    query: Float[Tensor, "rows heads tokens width"],
    key: Float[Tensor, "rows kv_heads tokens width"],
    value: Float[Tensor, "rows kv_heads tokens width"],
    attention_mask: Tensor | None,
    packing: Packing | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **settings: Any,
) -> tuple[Tensor, Tensor | None]:
    """What transformers calls in every layer; see the top of the file.

    Returns:
        The attended values, [rows, tokens, heads, width], and the attention's weights where the model's own plain
        implementation made them.
    """
    if packing is None:
        given = {"scaling": scaling, "sliding_window": sliding_window, "softcap": softcap}
        settings |= {name: value for name, value in given.items() if value is not None}
        return _unpacked(module)(module, query, key, value, attention_mask, **settings)
    if settings.get("s_aux") is not None:
        raise NotImplementedError("attention sinks are not packed")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if torch.is_autocast_enabled(query.device.type):
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    with torch.autocast(query.device.type, enabled=False):
        if query.device.type != "cpu" and not packing.twice_differentiable:
            return _flex(query, key, value, packing, scale, sliding_window, softcap), None
        groups = query.shape[1] // key.shape[1]
        if groups > 1:
            key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
        if packing.twice_differentiable or softcap is not None:
            out = _plain(query[0], key[0], value[0], packing, scale, sliding_window, softcap)
        else:
            out = _Blocks.apply(query[0], key[0], value[0], packing, scale, sliding_window)
    return out[None], None  # pyright: ignore[reportOptionalSubscript]


def _unpacked(module: Any) -> Any:
    """The implementation that the model had: PyTorch's, or the plain one in the model's own file."""
    if module.config._attn_implementation == BESIDE["sdpa"]:
        return sdpa_attention_forward
    return getattr(sys.modules[type(module).__module__], "eager_attention_forward")  # noqa: B009


def _plain(
    query: Tensor, key: Tensor, value: Tensor, packing: Packing, scaling: float, window: int | None, cap: float | None
) -> Float[Tensor, "tokens heads width"]:
    """Block by block in operations that PyTorch differentiates as often as wanted; softmax in float32."""
    out = []
    for block in packing.blocks():
        scores = query[:, block.start : block.start + block.length] @ block.keys(key).transpose(1, 2) * scaling
        if cap is not None:
            scores = cap * torch.tanh(scores / cap)
        weights = (scores + packing.mask(block, query, window)).softmax(
            -1, dtype=torch.promote_types(query.dtype, torch.float32)
        )
        weights = weights.to(query.dtype)
        out.append(weights @ block.keys(value))
    return torch.cat(out, dim=1).transpose(0, 1)


class _Blocks(torch.autograd.Function):
    """As `_plain`, with the softmax's weights kept in the computing type and a backward of four products a block."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, packing: Packing, scaling: float, window: int | None
    ) -> Float[Tensor, "tokens heads width"]:
        heads, tokens, width = query.shape
        out = query.new_empty(tokens, heads, width)
        # Each block's parts as dense tensors: the products of both passes read them several times.
        kept: list[tuple[Tensor, ...]] = []
        for block in packing.blocks():
            own = slice(block.start, block.start + block.length)
            scaled = query[:, own] * scaling
            keys, values = block.keys(key).contiguous(), block.keys(value).contiguous()
            mask = packing.mask(block, query, window)
            weights = _weights(scaled, keys, mask)
            out[own] = torch.bmm(weights, values).transpose(0, 1)
            if any(ctx.needs_input_grad):
                kept.append((scaled, keys, values, weights if len(mask.t()) <= _KEEP_WEIGHTS_KEYS else mask))
        ctx.save_for_backward(*(part for parts in kept for part in parts))
        ctx.packing, ctx.scaling, ctx.shape = packing, scaling, query.shape
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        saved = iter(ctx.saved_tensors)
        grads: list[Tensor] = []
        for block, scaled, keys, values, weights in zip(ctx.packing.blocks(), *[saved] * 4, strict=True):
            if not grads:
                grads = [scaled.new_empty(ctx.shape) for _ in range(3)]
            if weights.ndim == 2:
                weights = _weights(scaled, keys, weights)
            own, n = slice(block.start, block.start + block.length), block.n_prompt
            out = grad[own].to(scaled.dtype).transpose(0, 1).contiguous()
            towards = torch.bmm(out, values.transpose(1, 2))
            scores = torch.ops.aten._softmax_backward_data(towards, weights, -1, weights.dtype)
            grads[0][:, own] = torch.bmm(scores, keys).mul_(ctx.scaling)
            for total, part in (
                (grads[1], torch.bmm(scores.transpose(1, 2), scaled)),
                (grads[2], torch.bmm(weights.transpose(1, 2), out)),
            ):
                total[:, own] = part[:, n:]
                if n:
                    total[:, block.prompt : block.prompt + n] += part[:, :n]
        return *grads, None, None, None


def _weights(scaled: Tensor, keys: Tensor, mask: Tensor) -> Float[Tensor, "heads queries keys"]:
    scores = torch.baddbmm(mask, scaled, keys.transpose(1, 2))
    return torch.softmax(scores, -1, dtype=torch.float32).to(scores.dtype)


def _flex(
    query: Tensor, key: Tensor, value: Tensor, packing: Packing, scaling: float, window: int | None, cap: float | None
) -> Float[Tensor, "rows tokens heads width"]:
    """One FlexAttention call; the block mask is made once a batch and window."""
    from torch.nn.attention.flex_attention import create_block_mask

    device, tokens = query.device, query.shape[2]
    if (device, window) not in packing._masks:
        row, segment, position = _places(packing, device)

        def sees(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
            near = (segment[k] == 0) | (segment[k] == segment[q])
            seen = (row[q] == row[k]) & near & (q >= k)
            return seen if window is None else seen & (position[q] - position[k] < window)

        packing._masks[device, window] = create_block_mask(sees, None, None, tokens, tokens, device=str(device))

    def capped(score: Tensor, batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return cast(float, cap) * torch.tanh(score / cast(float, cap))

    out = _flex_kernel(device.type)(
        query,
        key,
        value,
        score_mod=capped if cap is not None else None,
        block_mask=packing._masks[device, window],
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return out.transpose(1, 2).contiguous()


@cache
def _flex_kernel(device_type: str) -> Any:
    """FlexAttention compiled where it matters; uncompiled on a CPU, where only tests take it."""
    from torch.nn.attention.flex_attention import flex_attention

    return flex_attention if device_type == "cpu" else torch.compile(flex_attention, dynamic=True)


def _places(packing: Packing, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Of every token of the row: the number of its span, its segment, its position."""
    rows, segments, positions = [], [], []
    for number, span in enumerate(packing.spans):
        for segment, length in enumerate((span.prompt, *span.answers)):
            first = span.prompt if segment else 0
            rows += [number] * length
            segments += [segment] * length
            positions += range(first, first + length)
    row, segment, position = (torch.tensor(x, device=device) for x in (rows, segments, positions))
    return row, segment, position


for _name, _mask in (("sdpa", sdpa_mask), ("eager", eager_mask)):
    AttentionInterface.register(BESIDE[_name], attention)
    AttentionMaskInterface.register(BESIDE[_name], _mask)
