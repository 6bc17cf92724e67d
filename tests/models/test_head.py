"""The head's values and gradients equal the naive softmax, however the vocabulary is cut, and never need it whole."""

import pytest
import torch

from smidgen.models import head
from smidgen.models.head import target_logps


def naive(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor, cap: float | None
) -> torch.Tensor:
    logits = torch.nn.functional.linear(hidden, weight, bias)
    if cap is not None:
        logits = cap * torch.tanh(logits / cap)
    return logits.log_softmax(-1)[torch.arange(len(targets)), targets]


@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("twice_differentiable", [False, True])
@pytest.mark.parametrize("vocabulary", [30, 1000])
@pytest.mark.parametrize("kept_bytes", [0, 50_000])
def test_values_and_gradients_equal_the_naive_softmax(
    monkeypatch: pytest.MonkeyPatch,
    cap: float | None,
    with_bias: bool,
    twice_differentiable: bool,
    vocabulary: int,
    kept_bytes: int,
) -> None:
    monkeypatch.setitem(head._BLOCK_ELEMENTS, "cpu", 300 * 17)
    monkeypatch.setattr(head, "_KEPT_BYTES", kept_bytes)
    torch.manual_seed(0)
    targets = torch.randint(0, vocabulary, (17,))
    inputs = [torch.randn(17, 8), torch.randn(vocabulary, 8), *([torch.randn(vocabulary)] if with_bias else [])]
    results = []
    for function in (naive, target_logps):
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        hidden, weight, bias = leaves if with_bias else (*leaves, None)
        if function is naive:
            values = naive(hidden, weight, bias, targets, cap)
        else:
            values = target_logps(hidden, weight, bias, targets, softcap=cap, twice_differentiable=twice_differentiable)
        (values * torch.linspace(-1, 1, 17)).sum().backward()
        results.append([values.detach(), *(leaf.grad for leaf in leaves)])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)


def test_gradients_of_frozen_weights_are_not_made() -> None:
    hidden, weight = torch.randn(5, 8, requires_grad=True), torch.randn(30, 8)
    target_logps(hidden, weight, None, torch.arange(5)).sum().backward()
    assert hidden.grad is not None
    assert weight.grad is None


@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_logits_far_apart_stay_exact(logit: float) -> None:
    weight = torch.tensor([[logit], [0.0], [1.0]])
    found = target_logps(torch.ones(1, 1), weight, None, torch.tensor([1]))
    assert found.item() == pytest.approx(weight.squeeze().double().log_softmax(-1)[1].item(), abs=1e-5)


def test_a_vocabulary_of_150_thousand_never_exists_beside_its_tokens() -> None:
    """Every tensor either pass makes is smaller than [tokens, vocabulary], in any type."""
    from torch.utils._python_dispatch import TorchDispatchMode

    tokens, vocabulary, largest = 400, 150_000, 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else [out]:
                if isinstance(tensor, torch.Tensor):
                    largest = max(largest, tensor.numel())
            return out

    hidden, weight = torch.randn(tokens, 8, requires_grad=True), torch.randn(vocabulary, 8, requires_grad=True)
    with Watch():
        target_logps(hidden, weight, None, torch.arange(tokens)).sum().backward()
    assert weight.numel() <= largest < tokens * vocabulary / 4
