"""Rewards of several groups as one: normalised, their minimum, the worst-off group's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen.errors import InvalidData, UsageError
from smidgen.models.rewards import (
    Reward,
    Scale,
    WorstGroup,
    best_of,
    fit_scale,
    group_rewards,
    minimum,
    multiplicative_weights,
    normalised,
)
from smidgen.pairs import Messages, messages_from

PROMPT = messages_from("Why?", "user")
ANSWERS = ["a", "bb", "cccc", "cc"]


def longer(prompts: Sequence[Messages], answers: Sequence[str]) -> np.ndarray:
    return np.array([100.0 + 10 * len(answer) for answer in answers])


def shorter(prompts: Sequence[Messages], answers: Sequence[str]) -> np.ndarray:
    return np.array([-float(len(answer)) for answer in answers])


def scaled(reward: Reward) -> Reward:
    return normalised(reward, fit_scale(reward([PROMPT] * 4, ANSWERS)))


def test_normalised_has_mean_0_and_deviation_1_on_its_set_and_keeps_the_order() -> None:
    values = scaled(longer)([PROMPT] * 4, ANSWERS)
    assert values.mean() == pytest.approx(0)
    assert values.std() == pytest.approx(1)
    assert list(values.argsort()) == list(longer([PROMPT] * 4, ANSWERS).argsort())


def test_the_minimum_is_below_both_and_touches_one() -> None:
    both = group_rewards([scaled(longer), scaled(shorter)], [PROMPT] * 4, ANSWERS)
    least = minimum([scaled(longer), scaled(shorter)])([PROMPT] * 4, ANSWERS)
    np.testing.assert_array_equal(least, np.where(both[0] < both[1], both[0], both[1]))
    # Without normalising, the reward with the lower zero decides alone.
    np.testing.assert_array_equal(minimum([longer, shorter])([PROMPT] * 4, ANSWERS), shorter([PROMPT] * 4, ANSWERS))


def test_the_worst_off_group_gains_weight_and_scoring_changes_nothing() -> None:
    reward = WorstGroup([scaled(longer), scaled(shorter)], step_size=0.5)
    first = reward([PROMPT] * 2, ["cccc", "a"])
    np.testing.assert_array_equal(reward([PROMPT] * 2, ["cccc", "a"]), first)
    means = reward.update([PROMPT] * 2, ["cccc", "cccc"])
    assert means[0] > 0 > means[1]
    assert reward.weights[1] > 0.5 > reward.weights[0]
    assert reward.weights.sum() == pytest.approx(1)
    # A policy that always takes the better of two opposed answers ends with both groups equally off.
    for _ in range(400):
        answers = ["cccc" if np.subtract(*reward([PROMPT] * 2, ["cccc", "a"])) > 0 else "a"]
        reward.update([PROMPT], answers)
    assert abs(np.subtract(*reward([PROMPT] * 2, ["cccc", "a"]))) < 1.5


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=5), st.floats(0.01, 5))
def test_weights_stay_on_the_simplex_and_lean_to_the_worst(means: list[float], step_size: float) -> None:
    start = np.full(len(means), 1 / len(means))
    weights = multiplicative_weights(start, np.array(means), step_size=step_size)
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    assert weights[int(np.argmin(means))] == weights.max()
    # Moving every group alike moves nothing.
    np.testing.assert_allclose(
        multiplicative_weights(start, np.array(means) + 7, step_size=step_size), weights, atol=1e-9
    )


def test_best_of_takes_each_prompts_best_and_the_first_of_equals() -> None:
    assert best_of(longer, [PROMPT] * 3, [["a", "bb"], ["cccc", "a", "bb"], ["x", "y"]]) == [1, 0, 0]
    assert best_of(shorter, [], []) == []


def test_bad_input() -> None:
    for values in ([], [1.0], [2.0, 2.0], [1.0, float("nan")]):
        with pytest.raises(InvalidData, match="two answers or more that differ"):
            fit_scale(values)
    with pytest.raises(UsageError, match="sd above 0"):
        normalised(longer, Scale(0.0, 0.0))
    for made in (minimum, WorstGroup):
        with pytest.raises(UsageError, match="at least one reward"):
            made([])
    with pytest.raises(UsageError, match="step_size above 0, got nan"):
        WorstGroup([longer], step_size=float("nan"))
