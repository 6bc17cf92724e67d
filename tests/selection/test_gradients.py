"""Columns from gradients are what naive gradients say, slice by slice, and a step on a pair does what they promise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from smidgen.data.tokens import EncodedPair
from smidgen.errors import InvalidData
from smidgen.evaluation.surrogate import refusal_opening_gradient, refusal_opening_logits
from smidgen.models.load import LanguageModel
from smidgen.models.logprobs import score_answers
from smidgen.models.weight_space import at_weights, flat_weights, unit
from smidgen.selection.gradients import (
    alignment_columns,
    gradient_columns,
    gradient_target,
    less_checkpoints,
    less_columns,
    task_vector,
)
from smidgen.training.loop import Recipe
from smidgen.training.pair_gradients import pair_loss, projected_gradients, whole_gradients
from smidgen.training.preference import ReferenceLogps
from smidgen.training.warmup import Checkpoint, adam_step, warm_up

HARMFUL, HARMLESS = [(3, 9, 20), (5, 7)], [(11, 12), (40, 41, 42, 43)]
OPENINGS = [(60,), (61, 62)]


def made_pairs(n: int) -> list[EncodedPair]:
    return [
        EncodedPair(i, tuple(3 + (i * 7 + k) % 50 for k in range(2 + i % 5)), (60 + i % 9, 61, 0), (90 + i % 5, 0))
        for i in range(n)
    ]


def read(lm: LanguageModel, pairs: Sequence[EncodedPair]) -> list[ReferenceLogps]:
    found = score_answers(lm, [p.prompt for p in pairs], [(p.chosen, p.rejected) for p in pairs])
    return [(chosen, rejected) for chosen, rejected in found]


def surrogate(lm: LanguageModel) -> float:
    """What the benchmark wants, averaged over its prompts."""
    harmful, harmless = (refusal_opening_logits(lm, prompts, OPENINGS).mean() for prompts in (HARMFUL, HARMLESS))
    return harmful - harmless


def test_gradient_columns(tiny: LanguageModel) -> None:
    pairs = made_pairs(9)
    reference, of = read(tiny, pairs), pair_loss(tiny)
    target = gradient_target(tiny, HARMFUL, HARMLESS, OPENINGS, dimensions=500)
    columns = gradient_columns(of, target, pairs, reference)
    projected = projected_gradients(of, pairs, reference, target.projection).numpy()
    assert columns["gradient"].dtype == np.float16
    assert columns["gradient"].shape == (9, 500)
    np.testing.assert_allclose(
        columns["gradient"] * columns["gradient_norm"][:, None], projected, atol=2e-3 * np.abs(projected).max()
    )
    along = projected @ target.projected.numpy()
    np.testing.assert_allclose(
        columns["gradient_cosine"],
        -along / np.linalg.norm(projected, axis=1) / target.projected.norm().item(),
        atol=1e-5,
    )
    exact = [-float(g @ target.direction) for g in whole_gradients(of, pairs, reference)]
    np.testing.assert_allclose(columns["gradient_target"], exact, rtol=1e-3, atol=1e-5)
    assert all(columns[name].dtype == np.float64 for name in columns if name != "gradient")
    parts = [gradient_columns(of, target, pairs[s], reference[s]) for s in (slice(0, 4), slice(4, 9))]
    for name, values in columns.items():
        together = np.concatenate([part[name] for part in parts])
        np.testing.assert_allclose(together.astype(float), values.astype(float), rtol=2e-3, atol=1e-4)


def test_a_small_step_on_a_pair_moves_the_surrogate_as_its_target_says(tiny: LanguageModel) -> None:
    pairs = made_pairs(4)
    reference, of = read(tiny, pairs), pair_loss(tiny)
    columns = gradient_columns(of, gradient_target(tiny, HARMFUL, HARMLESS, OPENINGS), pairs, reference)
    weights = flat_weights(tiny.model)
    for gradient, promised in zip(list(whole_gradients(of, pairs, reference)), columns["gradient_target"], strict=True):
        rate = 3e-3 / float(gradient.norm())
        sides = []
        for sign in (1, -1):
            with at_weights(tiny.model, weights - sign * rate * gradient):
                sides.append(surrogate(tiny))
        assert (sides[0] - sides[1]) / (2 * rate) == pytest.approx(promised, rel=0.02, abs=0.02)


def test_a_pair_without_a_slope_has_zeros(tiny: LanguageModel) -> None:
    pairs = made_pairs(3)
    # Policy far above the reference: the hinge is satisfied.
    reference = [(chosen - 50, rejected) for chosen, rejected in read(tiny, pairs)]
    of = pair_loss(tiny, "hinge:beta=1")
    target = gradient_target(tiny, HARMFUL, HARMLESS, OPENINGS, dimensions=64)
    columns = gradient_columns(of, target, pairs, reference)
    columns |= alignment_columns(of, torch.ones(len(target.direction)), pairs, reference)
    assert all((values == 0).all() for values in columns.values())


def test_the_vectors_of_a_loss_too_small_for_half_precision_are_the_same(tiny: LanguageModel) -> None:
    pairs = made_pairs(5)
    target = gradient_target(tiny, HARMFUL, HARMLESS, OPENINGS, dimensions=200)
    reference = read(tiny, pairs)
    usual, small = (pair_loss(tiny, f"dpo:beta={beta}") for beta in ("0.1", "1e-9"))
    found, tiny_found = (gradient_columns(of, target, pairs, reference) for of in (usual, small))
    np.testing.assert_allclose(tiny_found["gradient"], found["gradient"], atol=1e-3)
    np.testing.assert_allclose(tiny_found["gradient_norm"] / found["gradient_norm"], 1e-8, rtol=1e-3)


def test_alignment_is_the_cosine_with_where_the_aligned_model_went(tiny: LanguageModel) -> None:
    pairs = made_pairs(5)
    reference, of = read(tiny, pairs), pair_loss(tiny)
    weights, gradients = flat_weights(tiny.model), list(whole_gradients(of, pairs, reference))
    with at_weights(tiny.model, weights - 1e-3 * gradients[2]):
        moved = flat_weights(tiny.model)
    direction = unit(moved - weights)
    found = alignment_columns(of, direction, pairs, reference)["task_alignment"]
    assert found[2] == pytest.approx(1.0, abs=1e-3)
    cosines = [-torch.cosine_similarity(g.double(), direction.double(), dim=0).item() for g in gradients]
    np.testing.assert_allclose(found, cosines, atol=1e-5)
    with pytest.raises(InvalidData, match="same weights"):
        task_vector(tiny, tiny)


def test_less_is_its_formula_over_the_checkpoints_of_a_warm_up(tiny: LanguageModel) -> None:
    pairs = made_pairs(12)
    reference, before = read(tiny, pairs), flat_weights(tiny.model)
    recipe = Recipe(learning_rate=1e-3, batch_size=4, schedule="linear", dtype="float32")
    warm = warm_up(tiny, pairs, partial(read, tiny), recipe=recipe, seed=0, share=0.5, checkpoints=2)
    of, prepared = pair_loss(tiny), less_checkpoints(tiny, warm, HARMFUL, HARMLESS, OPENINGS)
    some = slice(3, 8)
    columns = less_columns(of, prepared, pairs[some], reference[some])
    assert torch.equal(flat_weights(tiny.model), before)
    rates = [checkpoint.learning_rate for checkpoint in warm]
    wanted = np.zeros((2, 5))
    for checkpoint in warm:
        with at_weights(tiny.model, checkpoint.weights):
            directions = [refusal_opening_gradient(tiny, prompts, OPENINGS)[1] for prompts in (HARMFUL, HARMLESS)]
            for i, gradient in enumerate(whole_gradients(of, pairs[some], reference[some])):
                moved = -adam_step(checkpoint, gradient).double()
                for side, sign in ((0, 1), (1, -1)):
                    cosine = sign * torch.cosine_similarity(moved, directions[side].double(), dim=0).item()
                    wanted[side, i] += checkpoint.learning_rate / sum(rates) * cosine
    np.testing.assert_allclose(columns["less_harmful"], wanted[0], atol=1e-5)
    np.testing.assert_allclose(columns["less_harmless"], wanted[1], atol=1e-5)


def test_less_grows_with_the_surrogate_that_the_step_moves(tiny: LanguageModel) -> None:
    pairs = made_pairs(8)
    reference, of = read(tiny, pairs), pair_loss(tiny)
    recipe = Recipe(learning_rate=1e-3, batch_size=4, dtype="float32")
    (at,) = warm_up(tiny, pairs, partial(read, tiny), recipe=recipe, seed=0, share=1.0, checkpoints=1)
    # Without memory, Adam's step is the pair's own.
    at = replace(at, first_moment=torch.zeros_like(at.weights), betas=(0.0, 0.999))
    columns = less_columns(of, less_checkpoints(tiny, [at], HARMFUL, HARMLESS, OPENINGS), pairs, reference)
    for name, prompts, sign in (("less_harmful", HARMFUL, 1), ("less_harmless", HARMLESS, -1)):
        gains = [gain(tiny, at, step, prompts) for step in steps(tiny, at, pairs, reference)]
        np.testing.assert_allclose(columns[name], sign * np.array(gains), atol=0.01)


def steps(
    lm: LanguageModel, at: Checkpoint, pairs: list[EncodedPair], reference: list[ReferenceLogps]
) -> list[torch.Tensor]:
    with at_weights(lm.model, at.weights):
        return [adam_step(at, gradient) for gradient in whole_gradients(pair_loss(lm), pairs, reference)]


def gain(lm: LanguageModel, at: Checkpoint, step: torch.Tensor, prompts: list[tuple[int, ...]]) -> float:
    """Difference quotient of the surrogate along a step, by the lengths of the step and of the surrogate's slope."""
    rate = 3e-3 / float(step.norm())
    sides = []
    for sign in (1, -1):
        with at_weights(lm.model, at.weights - sign * rate * step):
            sides.append(refusal_opening_logits(lm, prompts, OPENINGS).mean())
    with at_weights(lm.model, at.weights):
        slope = float(refusal_opening_gradient(lm, prompts, OPENINGS)[1].norm())
    return (sides[0] - sides[1]) / (2 * rate) / slope / float(step.norm())
