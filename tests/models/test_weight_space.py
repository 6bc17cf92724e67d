"""A flat vector is the model's weights, there and back."""

from __future__ import annotations

import pytest
import torch

from smidgen.models.load import LanguageModel
from smidgen.models.weight_space import at_weights, by_name, dot, flat_gradient, flat_weights, length, set_weights, unit


def test_there_and_back(tiny: LanguageModel) -> None:
    vector = flat_weights(tiny.model)
    assert len(vector) == sum(p.numel() for p in tiny.model.parameters())
    for name, part in by_name(tiny.model, vector).items():
        assert torch.equal(part, tiny.model.get_parameter(name))
    set_weights(tiny.model, 2 * vector)
    assert torch.equal(flat_weights(tiny.model), 2 * vector)


def test_weights_are_another_ones_only_inside_even_after_an_error(tiny: LanguageModel) -> None:
    before = flat_weights(tiny.model)
    with pytest.raises(RuntimeError, match="stop"), at_weights(tiny.model, before + 1):
        assert torch.equal(flat_weights(tiny.model), before + 1)
        raise RuntimeError("stop")
    assert torch.equal(flat_weights(tiny.model), before)


def test_the_gradient_of_half_the_squared_weights_is_the_weights(tiny: LanguageModel) -> None:
    loss = sum(((p**2).sum() for p in tiny.model.parameters()), torch.zeros(())) / 2
    torch.testing.assert_close(flat_gradient(loss, tiny.model), flat_weights(tiny.model))
    first = next(tiny.model.parameters())
    assert flat_gradient(first.sum(), tiny.model).count_nonzero() == first.numel()


def test_a_vector_of_another_model_is_refused(tiny: LanguageModel) -> None:
    with pytest.raises(ValueError, match="got 3"):
        by_name(tiny.model, torch.zeros(3))


def test_products_and_lengths_of_millions_are_those_of_doubles() -> None:
    one = torch.rand(3_000_001, generator=torch.Generator().manual_seed(0))
    other = one + 1
    assert dot(one, other) == pytest.approx(float(one.double() @ other.double()), rel=2e-6)
    assert length(one) == pytest.approx(float(one.double().norm()), rel=2e-6)
    assert length(unit(one)) == pytest.approx(1, rel=2e-6)
    assert unit(torch.zeros(3)).tolist() == [0, 0, 0]
