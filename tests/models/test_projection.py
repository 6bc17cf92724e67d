"""Random factors: fixed by name and seed, kept products, no surprises about which layers."""

from __future__ import annotations

import pytest
import torch

from smidgen.errors import UsageError
from smidgen.models.load import LanguageModel
from smidgen.models.projection import random_projection
from smidgen.models.weight_space import by_name, flat_weights


def test_factors_depend_on_name_shape_and_seed_alone(tiny: LanguageModel) -> None:
    whole, last = random_projection(tiny.model, dimensions=64), random_projection(tiny.model, dimensions=16, blocks=1)
    assert list(last.layers) == [name for name in whole.layers if name.startswith("transformer.h.3.")]
    for name, factors in last.layers.items():
        assert torch.equal(factors.inputs, whole.layers[name].inputs)
    other = random_projection(tiny.model, dimensions=64, seed=1)
    name = next(iter(whole.layers))
    assert not torch.equal(other.layers[name].inputs, whole.layers[name].inputs)
    assert not torch.equal(whole.layers[name].inputs[:1], whole.layers[name].outputs[:1])


def test_every_layer_but_the_head_has_its_share(tiny: LanguageModel) -> None:
    projection = random_projection(tiny.model, dimensions=16 * 9 + 15)
    assert len(projection.layers) == 4 * 4
    assert projection.dimensions == 16 * 9
    with pytest.raises(UsageError, match="16 layers, got 15"):
        random_projection(tiny.model, dimensions=15)
    for blocks in (0, 5):
        with pytest.raises(UsageError, match=f"1 to 4 blocks.*got {blocks}"):
            random_projection(tiny.model, blocks=blocks)


def test_inner_products_are_kept_on_average(tiny: LanguageModel) -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(len(flat_weights(tiny.model)), generator=generator) for _ in range(2))
    other += one
    name = "transformer.h.3.mlp.c_fc.weight"
    one, other = ({name: by_name(tiny.model, v)[name]} for v in (one, other))
    wanted = float((one[name] * other[name]).sum())
    found = []
    for seed in range(200):
        whole = random_projection(tiny.model, dimensions=16 * 64, blocks=1, seed=seed)
        layers = {"transformer.h.3.mlp.c_fc": whole.layers["transformer.h.3.mlp.c_fc"]}
        projection = type(whole)(layers)
        found.append(float(projection.of_weights(tiny.model, one) @ projection.of_weights(tiny.model, other)))
    products = torch.tensor(found)
    # The mean of 200 draws within four of its standard errors, and those are small.
    error = float(products.std()) / 200**0.5
    assert abs(float(products.mean()) - wanted) < 4 * error < 0.1 * wanted
