"""Random factors: fixed by name and seed, kept products, no surprises about which layers."""

from __future__ import annotations

import pytest
import torch

from smidgen.errors import UsageError
from smidgen.models.load import LanguageModel
from smidgen.models.projection import Projection, random_projection
from smidgen.models.weight_space import by_name, flat_weights


def test_factors_depend_on_name_shape_and_seed_alone(tiny: LanguageModel) -> None:
    whole, last = random_projection(tiny.model), random_projection(tiny.model, blocks=1)
    assert list(last.layers) == [name for name in whole.layers if name.startswith("transformer.h.3.")]
    for name, factors in last.layers.items():
        for part in ("outputs", "inputs", "places", "signs"):
            assert torch.equal(getattr(factors, part), getattr(whole.layers[name], part))
    other = random_projection(tiny.model, seed=1)
    name = next(iter(whole.layers))
    assert not torch.equal(other.layers[name].inputs, whole.layers[name].inputs)
    assert not torch.equal(other.layers[name].places, whole.layers[name].places)


def test_a_first_stage_that_fits_is_kept_as_it_is(tiny: LanguageModel) -> None:
    assert random_projection(tiny.model, side=5).dimensions == 16 * 25
    assert random_projection(tiny.model, side=5, dimensions=400).dimensions == 400
    layers = random_projection(tiny.model, side=5, dimensions=400).layers.values()
    assert torch.cat([factors.places for factors in layers]).tolist() == list(range(400))
    assert all((factors.signs == 1).all() for factors in layers)
    assert random_projection(tiny.model, side=5, dimensions=399).dimensions == 399


def test_the_head_has_no_share(tiny: LanguageModel) -> None:
    names = list(random_projection(tiny.model).layers)
    assert len(names) == 4 * 4
    assert "lm_head" not in names


def test_settings_out_of_range_are_refused(tiny: LanguageModel) -> None:
    for dimensions, side in ((0, 64), (10, 0)):
        with pytest.raises(UsageError, match=f"got {dimensions} and {side}"):
            random_projection(tiny.model, dimensions=dimensions, side=side)
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
        whole = random_projection(tiny.model, dimensions=512, blocks=1, side=32, seed=seed)
        projection = Projection({"transformer.h.3.mlp.c_fc": whole.layers["transformer.h.3.mlp.c_fc"]}, 512)
        found.append(float(projection.of_weights(tiny.model, one) @ projection.of_weights(tiny.model, other)))
    products = torch.tensor(found)
    # The mean of 200 draws within four of its standard errors, and those are small.
    error = float(products.std()) / 200**0.5
    assert abs(float(products.mean()) - wanted) < 4 * error < 0.1 * wanted
