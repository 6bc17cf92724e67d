"""Checkpoints are the training run's own, and Adam's step from them is the optimiser's."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from smidgen.data.tokens import EncodedPair
from smidgen.errors import UsageError
from smidgen.models.load import LanguageModel
from smidgen.models.logprobs import score_answers
from smidgen.models.weight_space import flat, flat_weights
from smidgen.training.loop import Recipe
from smidgen.training.preference import ReferenceLogps, train_preference
from smidgen.training.warmup import Checkpoint, adam_step, warm_up

RECIPE = Recipe(learning_rate=1e-3, batch_size=2, schedule="linear", dtype="float32", weight_decay=0.0)


def made_pairs(n: int) -> list[EncodedPair]:
    return [EncodedPair(i, (3 + i % 7, 4, 5), (60 + i % 9, 61, 0), (90 + i % 5, 0)) for i in range(n)]


def read(lm: LanguageModel, pairs: Sequence[EncodedPair]) -> list[ReferenceLogps]:
    found = score_answers(lm, [p.prompt for p in pairs], [(p.chosen, p.rejected) for p in pairs])
    return [(chosen, rejected) for chosen, rejected in found]


def test_adams_step_is_the_optimisers(tiny: LanguageModel) -> None:
    model = tiny.model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    generator = torch.Generator().manual_seed(0)
    norm = 2.0

    def step(scale: float) -> torch.Tensor:
        for parameter in model.parameters():
            parameter.grad = scale * torch.randn(parameter.shape, generator=generator)
        gradient = flat([p.grad for p in model.parameters() if p.grad is not None])
        torch.nn.utils.clip_grad_norm_(model.parameters(), norm)
        optimizer.step()
        return gradient

    for scale in (1.0, 1e-4, 0.1):
        step(scale)
    states = [optimizer.state[p] for p in model.parameters()]
    at = Checkpoint(
        weights=flat_weights(model),
        first_moment=flat([state["exp_avg"] for state in states]),
        second_moment=flat([state["exp_avg_sq"] for state in states]),
        step=3,
        learning_rate=1e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        max_grad_norm=norm,
    )
    kept = copy.deepcopy(optimizer.state_dict())
    for scale in (0.5, 1e-4):
        optimizer.load_state_dict(copy.deepcopy(kept))
        before = flat_weights(model)
        gradient = step(scale)
        moved = (before - flat_weights(model)) / 1e-3
        torch.testing.assert_close(adam_step(at, gradient), moved, atol=1e-3, rtol=1e-3)


def test_checkpoints_are_those_of_the_same_run_without_stops(tiny: LanguageModel) -> None:
    pairs = made_pairs(40)
    before = flat_weights(tiny.model)
    found = warm_up(tiny, pairs, partial(read, tiny), recipe=RECIPE, seed=3, share=0.2, checkpoints=2)
    assert torch.equal(flat_weights(tiny.model), before)
    # 8 pairs in batches of 2, two passes; the rate falls from 1 to 1/8 of its peak.
    assert [c.step for c in found] == [4, 8]
    rates = [1e-3 * (1 - done / 8) for done in range(8)]
    assert [c.learning_rate for c in found] == pytest.approx([sum(rates[:4]) / 4, sum(rates[4:]) / 4])
    backwards = warm_up(tiny, pairs[::-1], partial(read, tiny), recipe=RECIPE, seed=3, share=0.2, checkpoints=2)
    for one, other in zip(found, backwards, strict=True):
        assert torch.equal(one.weights, other.weights)
        assert torch.equal(one.second_moment, other.second_moment)
    assert not torch.equal(found[0].weights, found[1].weights)
    assert (found[1].second_moment >= 0).all()


def test_with_all_pairs_the_last_checkpoint_is_the_trained_model(tiny: LanguageModel) -> None:
    pairs = made_pairs(6)
    reference = read(tiny, pairs)
    found = warm_up(tiny, pairs, partial(read, tiny), recipe=RECIPE, seed=1, share=1.0, checkpoints=3)
    # The order of drawing does not matter to training, which draws its own from each idx.
    train_preference(tiny, pairs, reference, recipe=replace(RECIPE, epochs=3.0), seed=1)
    torch.testing.assert_close(found[-1].weights, flat_weights(tiny.model), atol=1e-6, rtol=0)


def test_what_cannot_be_is_refused(tiny: LanguageModel) -> None:
    pairs = made_pairs(4)
    wrong: list[dict[str, Any]] = [{"share": 0.0}, {"share": 1.5}, {"checkpoints": 0}]
    for settings in wrong:
        with pytest.raises(UsageError, match="share above 0"):
            warm_up(tiny, pairs, partial(read, tiny), recipe=RECIPE, seed=0, **settings)
    with pytest.raises(UsageError, match="lora_rank 2"):
        warm_up(tiny, pairs, partial(read, tiny), recipe=Recipe(lora_rank=2), seed=0)
