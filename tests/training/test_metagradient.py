"""The derivative through a run equals what moving a weight does, member or candidate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from smidgen.data.tokens import EncodedPair
from smidgen.models.load import LanguageModel
from smidgen.models.logprobs import AnswerLogps, score_answers
from smidgen.models.rows import collate_rows
from smidgen.models.weight_space import at_weights
from smidgen.training import metagradient
from smidgen.training.loop import Recipe
from smidgen.training.losses import loss
from smidgen.training.metagradient import Metagradients, metagradients
from smidgen.training.preference import ReferenceLogps, train_preference

RECIPE = Recipe(learning_rate=3e-3, steps=5, batch_size=2, dtype="float32", schedule="linear", warmup_steps=2)
MEMBERS = [0, 2, 3]


def pairs() -> list[EncodedPair]:
    return [
        EncodedPair(
            idx=10 * i,
            prompt=tuple(3 + (i * 7 + k) % 50 for k in range(2 + i % 3)),
            chosen=tuple(60 + (i + k) % 9 for k in range(1 + i % 4)),
            rejected=tuple(90 + (i + 2 * k) % 9 for k in range(1 + (i * 3) % 4)),
        )
        for i in range(6)
    ]


def reference(n: int) -> list[ReferenceLogps]:
    return [(np.full(len(p.chosen), -5.0, np.float32), np.full(len(p.rejected), -5.5, np.float32)) for p in pairs()[:n]]


def first_answer(lm: LanguageModel) -> tuple[float, Tensor]:
    """The log-probability of an answer that no pair holds."""
    rows = collate_rows([(5, 6, 7)], [[(61, 62)]], layout="separate")
    value = AnswerLogps(lm.model, "separate", twice_differentiable=True)(rows).sum().sum()
    return value.item(), parameters_to_vector(torch.autograd.grad(value, list(lm.model.parameters())))


def double(lm: LanguageModel) -> LanguageModel:
    return replace(lm, model=lm.model.double())


def found(lm: LanguageModel, recipe: Recipe = RECIPE, **changes: object) -> Metagradients:
    settings = {"members": MEMBERS, "recipe": recipe, "seed": 1, "looks": 2, "layout": "packed"}
    return metagradients(lm, pairs(), reference(6), first_answer, **{**settings, **changes})  # pyright: ignore


@pytest.mark.parametrize("recipe", [RECIPE, replace(RECIPE, max_grad_norm=0.05), replace(RECIPE, steps=1)])
def test_it_equals_finite_differences(tiny: LanguageModel, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64, by training again with one pair's weight moved, at every time it is drawn."""
    lm = double(tiny)
    exact = found(lm, recipe)
    own = metagradient._Run._losses
    drawn = {i for i in range(6) if exact.draws[i]}
    assert len(drawn) >= 4

    def target(pair: int, change: float) -> float:
        # A candidate joins the steps that it is drawn in; a member's loss is scaled in its own.
        def weighted(self: metagradient._Run, weights: Tensor, positions: list[int]) -> Tensor:
            losses = own(self, weights, positions)
            scale = torch.tensor([1 + change * (i == pair) for i in positions], dtype=losses.dtype)
            step = next(s for s, batch in enumerate(self.batches) if batch is positions)
            losses = losses * scale
            beside = pair in self.candidates and step in self.looks
            return losses + change * own(self, weights, [pair]) / len(losses) if beside else losses

        with monkeypatch.context() as patch:
            patch.setattr(metagradient._Run, "_losses", weighted)
            run = metagradient._Run(lm, pairs(), reference(6), loss.bind("dpo"), recipe, 1, MEMBERS, 2, 1e-9, "packed")
            state = run.start()
            for step in range(run.steps):
                state = run.advance(state, step)
            with at_weights(lm.model, state.weights):
                return first_answer(lm)[0]

    step = 1e-5
    for pair in drawn:
        slope = (target(pair, step) - target(pair, -step)) / (2 * step)
        assert exact.per_draw[pair] * exact.draws[pair] == pytest.approx(slope, rel=1e-4, abs=1e-8), pair
    assert np.abs(exact.per_draw).max() > 1e-4


@pytest.mark.parametrize("weights", [False, True])
def test_the_run_is_the_loops_own(tiny: LanguageModel, weights: bool) -> None:
    """Members alone decide what comes out: what train_preference would make, in float64, up to the smoothing.

    Compared by log-probabilities: a key's bias has no gradient but rounding, which Adam blows up to whole steps.
    """
    lm = double(tiny)
    given = [replace(p, weight=0.2 + p.idx / 20) if weights else p for p in pairs()]
    prompts, answers = [p.prompt for p in given], [(p.chosen, p.rejected) for p in given]
    ends: list[np.ndarray] = []

    def keep(trained: LanguageModel) -> tuple[float, Tensor]:
        ends.append(flat(score_answers(trained, prompts, answers)))
        return first_answer(trained)

    start = flat(score_answers(lm, prompts, answers))
    metagradients(
        lm, given, reference(6), keep, members=MEMBERS, recipe=RECIPE, seed=1, smoothing=1e-20, layout="packed"
    )
    train_preference(
        lm, [given[i] for i in MEMBERS], [reference(6)[i] for i in MEMBERS], recipe=RECIPE, seed=1, layout="packed"
    )
    np.testing.assert_allclose(ends[0], flat(score_answers(lm, prompts, answers)), atol=1e-5)
    assert np.abs(ends[0] - start).max() > 0.1


def flat(scored: list[list[np.ndarray]]) -> np.ndarray:
    return np.concatenate([values for group in scored for values in group])


def test_the_model_gets_its_weights_back(tiny: LanguageModel) -> None:
    before = {name: tensor.clone() for name, tensor in tiny.model.state_dict().items()}
    found(tiny)
    for name, tensor in tiny.model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_every_pair_has_its_draws_and_candidates_change_nothing(tiny: LanguageModel) -> None:
    result = found(tiny)
    assert (result.draws[[1, 4, 5]] == 2).all()
    assert sum(result.draws[i] for i in MEMBERS) == pytest.approx(9, abs=1)
    alone = found(tiny, looks=0)
    assert alone.target == result.target
    np.testing.assert_allclose(alone.per_draw[MEMBERS], result.per_draw[MEMBERS], rtol=1e-4)
    assert (alone.draws[[1, 4, 5]] == 0).all()
