"""Gradients of pairs equal the naive ones, whatever the model, the layout and the pairs beside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GPTJConfig, LlamaConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from smidgen.data.tokens import EncodedPair
from smidgen.models.load import LanguageModel, language_model
from smidgen.models.logprobs import find_layout, score_answers
from smidgen.models.projection import Projection, random_projection
from smidgen.models.rows import LAYOUTS
from smidgen.models.weight_space import by_name, flat_gradient, flat_weights, set_weights
from smidgen.training.pair_gradients import (
    PairLoss,
    directional_derivatives,
    pair_loss,
    projected_gradients,
    whole_gradients,
)
from smidgen.training.preference import ReferenceLogps

CONFIGS: dict[str, Any] = {
    "llama": LlamaConfig(
        vocab_size=60,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
    ),
    "gptj": GPTJConfig(vocab_size=60, n_embd=32, n_layer=2, n_head=4, n_positions=128, rotary_dim=4),
}


def made_pairs(n: int) -> list[EncodedPair]:
    """Of varied lengths, one with answers of one token."""
    return [
        EncodedPair(
            idx=10 + i,
            prompt=tuple(3 + (i * 7 + k) % 50 for k in range(2 + i % 5)),
            chosen=tuple(4 + (3 * i + k) % 19 for k in range(1 + i % 6)),
            rejected=tuple(30 + (i + 2 * k) % 19 for k in range(1 + (i * 3) % 5)),
        )
        for i in range(n)
    ]


def model(name: str, tiny: LanguageModel) -> LanguageModel:
    if name == "gpt2":
        return tiny
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(CONFIGS[name])
    for parameter in made.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return language_model(made, tiny.tokenizer)


def elsewhere(lm: LanguageModel, pairs: Sequence[EncodedPair]) -> list[ReferenceLogps]:
    """A reference that differs from the model, so that every pair's loss has a slope of its own."""
    found = score_answers(lm, [p.prompt for p in pairs], [(p.chosen, p.rejected) for p in pairs])
    return [(chosen + np.float32(0.3 * i), rejected) for i, (chosen, rejected) in enumerate(found)]


def naive_loss(lm: PreTrainedModel, pair: EncodedPair, reference: ReferenceLogps, beta: float) -> torch.Tensor:
    """DPO from the model's own logits, a row an answer."""

    def summed(answer: Sequence[int]) -> torch.Tensor:
        logits = lm(input_ids=torch.tensor([[*pair.prompt, *answer]])).logits[0].log_softmax(-1)
        positions = torch.arange(len(pair.prompt) - 1, len(pair.prompt) + len(answer) - 1)
        return logits[positions, torch.tensor(answer)].sum()

    chosen, rejected = (float(part.sum(dtype=np.float64)) for part in reference)
    return -torch.nn.functional.logsigmoid(beta * ((summed(pair.chosen) - chosen) - (summed(pair.rejected) - rejected)))


def naive_gradients(lm: LanguageModel, pairs: Sequence[EncodedPair], reference: Any, beta: float) -> torch.Tensor:
    rows = [flat_gradient(naive_loss(lm.model, p, r, beta), lm.model) for p, r in zip(pairs, reference, strict=True)]
    return torch.stack(rows)


def naive_projection(lm: LanguageModel, projection: Projection, gradient: torch.Tensor) -> torch.Tensor:
    """P' G Q of every layer, G the whole gradient as outputs by inputs, its numbers added where they belong."""
    named, found = by_name(lm.model, gradient), torch.zeros(projection.dimensions)
    for name, factors in projection.layers.items():
        whole = named[f"{name}.weight"]
        whole = whole.t() if isinstance(lm.model.get_submodule(name), Conv1D) else whole
        inner = torch.einsum("oi,ok,il->kl", whole, factors.outputs, factors.inputs).flatten()
        for place, sign, value in zip(factors.places, factors.signs, inner, strict=True):
            found[place] += sign * value
    return found


def assert_near(found: torch.Tensor, wanted: torch.Tensor, tolerance: float = 1e-4) -> None:
    """Relative to the length of each row."""
    assert found.shape == wanted.shape
    assert ((found - wanted).norm(dim=-1) <= tolerance * wanted.norm(dim=-1)).all()


CASES = [("gpt2", layout) for layout in LAYOUTS] + [("llama", "packed"), ("llama", "separate"), ("gptj", "shared")]


@pytest.mark.parametrize(("name", "layout"), CASES)
def test_all_three_equal_the_naive_loop(tiny: LanguageModel, name: str, layout: Any) -> None:
    lm, pairs = model(name, tiny), made_pairs(7)
    reference = elsewhere(lm, pairs)
    of = pair_loss(lm, "dpo:beta=0.3", layout=layout)
    wanted = naive_gradients(lm, pairs, reference, 0.3)
    assert_near(torch.stack(list(whole_gradients(of, pairs, reference))), wanted)
    for projection in (random_projection(lm.model, side=5), random_projection(lm.model, dimensions=50, side=6)):
        projected = torch.stack([naive_projection(lm, projection, row) for row in wanted])
        assert_near(projected_gradients(of, pairs, reference, projection), projected)
        assert_near(torch.stack([projection.of_weights(lm.model, by_name(lm.model, row)) for row in wanted]), projected)
    direction = torch.randn(wanted.shape[1], generator=torch.Generator().manual_seed(1))
    found = directional_derivatives(of, pairs, reference, direction)
    assert_near(found, wanted @ direction)


def test_directional_derivatives_are_differences_of_the_loss(tiny: LanguageModel) -> None:
    pairs = made_pairs(3)
    reference = elsewhere(tiny, pairs)
    direction = torch.nn.functional.normalize(torch.randn(len(flat_weights(tiny.model))), dim=0)
    found = directional_derivatives(pair_loss(tiny), pairs, reference, direction)
    tiny.model.double()
    start, step = torch.cat([p.detach().flatten() for p in tiny.model.parameters()]), 1e-5

    def losses(along: float) -> torch.Tensor:
        set_weights(tiny.model, start + along * direction)
        with torch.no_grad():
            rows = [naive_loss(tiny.model, p, r, 0.1) for p, r in zip(pairs, reference, strict=True)]
        return torch.stack(rows)

    differences = (losses(step) - losses(-step)) / (2 * step)
    np.testing.assert_allclose(found.numpy(), differences.numpy(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("objective", ["dpo", "kto", "simpo", "dpo + 0.2*nll"])
def test_a_batch_is_its_pairs_alone_in_any_order(tiny: LanguageModel, objective: str) -> None:
    pairs = made_pairs(6)
    reference = elsewhere(tiny, pairs)
    of, projection = pair_loss(tiny, objective), random_projection(tiny.model, dimensions=400, blocks=2)
    direction = torch.randn(len(flat_weights(tiny.model)), generator=torch.Generator().manual_seed(2))
    together = projected_gradients(of, pairs, reference, projection)
    along = directional_derivatives(of, pairs, reference, direction)
    for i in (5, 0, 3):
        assert_near(projected_gradients(of, [pairs[i]], [reference[i]], projection)[0], together[i], 1e-5)
        assert_near(directional_derivatives(of, [pairs[i]], [reference[i]], direction), along[i : i + 1])
    small = PairLoss(of.lm, of.function, of.layout, batch_tokens=25)
    backwards = projected_gradients(small, pairs[::-1], reference[::-1], projection)
    assert_near(backwards.flip(0), together, 1e-5)


def test_projected_products_are_those_of_the_layers_whole_gradients(tiny: LanguageModel) -> None:
    pairs = made_pairs(12)
    reference = elsewhere(tiny, pairs)
    of = pair_loss(tiny)
    exact = random_projection(tiny.model, dimensions=16 * 512**2, side=512)
    whole = torch.stack(list(whole_gradients(of, pairs, reference)))
    layers = {f"{name}.weight" for name in exact.layers}
    kept = torch.cat([torch.full((p.numel(),), n in layers) for n, p in tiny.model.named_parameters()])
    wanted = whole[:, kept] @ whole[:, kept].t()
    lengths = wanted.diagonal().sqrt()
    scale = lengths[:, None] * lengths
    # With as many dimensions as the layers have, products are exact.
    for projection, tolerance in ((exact, 1e-4), (random_projection(tiny.model), 0.1)):
        found = projected_gradients(of, pairs, reference, projection)
        assert ((found @ found.t() - wanted) / scale).abs().max() < tolerance


def test_the_model_keeps_neither_hooks_nor_gradients(tiny: LanguageModel) -> None:
    pairs = made_pairs(2)
    reference, before = elsewhere(tiny, pairs), flat_weights(tiny.model)
    projected_gradients(pair_loss(tiny), pairs, reference, random_projection(tiny.model, dimensions=64))
    next(whole_gradients(pair_loss(tiny), pairs, reference))
    assert all(not m._forward_hooks for m in tiny.model.modules())
    assert all(p.grad is None for p in tiny.model.parameters())
    assert torch.equal(flat_weights(tiny.model), before)
    assert find_layout(tiny.model) == "packed"
