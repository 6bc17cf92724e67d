"""The length-controlled win rate: against a peer's fit, mirrored by a swap, honest where there is no fit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from smidgen.evaluation.length_control import (
    BEYOND,
    EQUAL_LENGTHS,
    FEW_PROMPTS,
    NO_SPREAD,
    ONE_PROMPT,
    SEPARATED,
    length_controlled,
)


def drawn(rng: np.random.Generator, n_prompts: int, theta: float, phi: float, letters: int = 3):
    """Matches whose outcome follows the model, with ties; the longer answer's advantage is `phi`."""
    prompts = np.repeat(np.arange(n_prompts), letters)
    a, b = rng.integers(20, 400, len(prompts)), rng.integers(20, 300, len(prompts))
    x = np.tanh((a - b) / (a - b).std())
    p = expit(theta + phi * x)
    outcomes = np.where(rng.random(len(p)) < 0.1, 0.5, (rng.random(len(p)) < p).astype(float))
    return outcomes, a, b, prompts.tolist()


def test_the_fit_is_that_of_statsmodels() -> None:
    import statsmodels.api as sm

    y, a, b, prompts = drawn(np.random.default_rng(0), 40, 0.4, 1.2)
    x = np.tanh((a - b) / (a - b).std())
    peer = sm.GLM(y, sm.add_constant(x), family=sm.families.Binomial()).fit()
    found = length_controlled(y, a, b, prompts)

    assert found.win_rate == pytest.approx(float(expit(peer.params[0])))
    assert found.length_effect == pytest.approx(float(peer.params[1]))


def test_a_model_that_wins_by_length_alone_wins_half_at_equal_length() -> None:
    rng = np.random.default_rng(1)
    prompts = list(range(400))
    b = rng.integers(100, 200, 400)
    a = b + rng.integers(-60, 160, 400)
    y = (rng.random(400) < expit((a - b) / 40)).astype(float)
    found = length_controlled(y, a, b, prompts)

    assert y.mean() > 0.6
    assert found.low is not None and found.high is not None and found.low <= 0.5 <= found.high
    assert found.length_effect is not None and found.length_effect > 0


def test_a_swap_of_the_models_mirrors_the_fit() -> None:
    y, a, b, prompts = drawn(np.random.default_rng(2), 12, 0.5, 1.0)
    mine, theirs = length_controlled(y, a, b, prompts), length_controlled(1 - y, b, a, prompts)

    assert mine.interval and theirs.interval
    assert mine.win_rate == pytest.approx(1 - theirs.interval.mean)
    assert (mine.low, mine.high) == pytest.approx((1 - theirs.interval.high, 1 - theirs.interval.low))
    assert mine.length_effect == pytest.approx(theirs.length_effect)


def test_the_interval_holds_the_truth() -> None:
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(150):
        # Ties pull the truth towards a half: 10 % of the matches, wherever they fall.
        y, a, b, prompts = drawn(rng, 30, 0.0, 1.5)
        found = length_controlled(y, a, b, prompts)
        assert found.interval is not None
        held += found.interval.low <= 0.5 <= found.interval.high
    assert held / 150 > 0.91


@pytest.mark.parametrize(
    ("y", "a", "b", "note"),
    [
        ([1, 0, 1, 0.5], [5, 6, 7, 8], [5, 6, 7, 8], EQUAL_LENGTHS),
        ([1, 0, 1, 0], [15, 16, 17, 18], [5, 6, 7, 8], NO_SPREAD),
        ([1, 1, 1, 1], [5, 9, 2, 8], [7, 6, 7, 8], SEPARATED),
        ([1, 1, 0, 0], [9, 8, 2, 1], [5, 5, 5, 5], SEPARATED),
        # Nothing but a tie stands where wins and losses meet: the curve still steepens without end.
        ([1, 1, 0.5, 0, 0], [9, 8, 5, 2, 1], [5, 5, 5, 5, 5], SEPARATED),
        ([1, 0, 1, 0], [9, 8, 2, 1], [5, 5, 5, 5], ONE_PROMPT),
    ],
)
def test_where_nothing_can_be_fitted_it_says_why(y: list[float], a: list[int], b: list[int], note: str) -> None:
    found = length_controlled(y, a, b, list(range(len(y))))
    assert found.note == note and found.interval is None
    if note == EQUAL_LENGTHS:
        assert found.win_rate == np.mean(y)


def test_few_prompts_have_no_interval_and_extrapolation_is_said() -> None:
    y, a, b = [1, 0, 1, 0, 0, 1], [9, 8, 2, 1, 7, 3], [5] * 6
    assert length_controlled(y, a, b, [1, 1, 1, 2, 2, 2]).note == FEW_PROMPTS
    assert length_controlled(y, np.add(a, 5), b, [1, 1, 2, 2, 3, 3]).note in (BEYOND, ONE_PROMPT)
    with pytest.raises(ValueError, match="as many lengths"):
        length_controlled([], [], [], [])
