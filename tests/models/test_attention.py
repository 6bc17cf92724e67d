"""The packed kernels agree with each other and with attention over each prompt and answer alone."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.attention import flex_attention

from smidgen.models import attention as module
from smidgen.models.attention import Packing, Span, attention

PACKING = Packing((Span(0, 5, (4, 3)), Span(12, 1, (0, 6)), Span(19, 7, (2,))))
TOKENS = 28
HEADS, WIDTH = 4, 8


@pytest.fixture(params=[0, 384], ids=["prompts and answers apart", "whole spans"], autouse=True)
def _blocks(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WHOLE_SPAN_TOKENS", request.param)


def inputs(kv_heads: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(1, heads, TOKENS, WIDTH, generator=generator).requires_grad_()
        for heads in (HEADS, kv_heads, kv_heads)
    ]


def call(leaves: list[torch.Tensor], packing: Packing, **settings: Any) -> torch.Tensor:
    query, key, value = leaves
    return attention(torch.nn.Identity(), query, key, value, None, packing=packing, **settings)[0]


def run(packing: Packing, kv_heads: int, **settings: Any) -> list[torch.Tensor]:
    """Output and gradients."""
    leaves = inputs(kv_heads)
    out = call(leaves, packing, **settings)
    (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    return [out.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("settings", [{}, {"scaling": 0.3}, {"sliding_window": 4}])
def test_the_fast_blocks_equal_the_plain_ones(kv_heads: int, settings: dict[str, Any]) -> None:
    fast = run(PACKING, kv_heads, **settings)
    plain = run(replace(PACKING, twice_differentiable=True), kv_heads, **settings)
    for one, other in zip(fast, plain, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_weights_computed_again_equal_weights_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = run(PACKING, 2)
    monkeypatch.setattr(module, "_KEEP_WEIGHTS_KEYS", 0)
    for one, other in zip(run(PACKING, 2), kept, strict=True):
        torch.testing.assert_close(one, other, atol=0, rtol=0)


@pytest.mark.parametrize("settings", [{}, {"sliding_window": 4}, {"softcap": 2.0}])
def test_flex_attention_equals_the_plain_blocks(monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]) -> None:
    """The kernel that GPUs take, uncompiled."""
    monkeypatch.setattr(flex_attention, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
    query, key, value = (tensor.detach() for tensor in inputs(2))
    scale = WIDTH**-0.5
    found = module._flex(query, key, value, PACKING, scale, settings.get("sliding_window"), settings.get("softcap"))
    expected = call([query, key, value], replace(PACKING, twice_differentiable=True), **settings)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("window", [None, 3])
def test_every_answer_attends_as_if_alone_behind_its_prompt(window: int | None) -> None:
    query, key, value = (tensor.detach() for tensor in inputs(HEADS))
    packed = call([query, key, value], PACKING, sliding_window=window)
    for span in PACKING.spans:
        start = span.start + span.prompt
        for length in span.answers:
            places = [*range(span.start, span.start + span.prompt), *range(start, start + length)]
            start += length
            alone = [tensor[:, :, places] for tensor in (query, key, value)]
            seen = torch.ones(len(places), len(places)).tril().bool()
            if window is not None:
                seen &= torch.ones_like(seen).triu(1 - window)
            expected = torch.nn.functional.scaled_dot_product_attention(*alone, attn_mask=seen).transpose(1, 2)
            torch.testing.assert_close(packed[:, places], expected, atol=1e-5, rtol=1e-5)


def test_attention_sinks_are_refused() -> None:
    with pytest.raises(NotImplementedError):
        run(PACKING, 4, s_aux=torch.zeros(4))
