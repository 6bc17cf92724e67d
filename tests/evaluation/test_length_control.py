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
    UNFOUND,
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


def test_few_prompts_have_no_interval() -> None:
    y, a, b = [1, 0, 1, 0, 0, 1], [9, 8, 2, 1, 7, 3], [5] * 6
    assert length_controlled(y, a, b, [1, 1, 1, 2, 2, 2]).note == FEW_PROMPTS
    with pytest.raises(ValueError, match="as many lengths"):
        length_controlled([], [], [], [])


@pytest.mark.parametrize("sign", [1, -1])
def test_extrapolation_is_said_whichever_model_is_the_shorter(sign: int) -> None:
    difference = np.tile([10, 20, 30, 40], 6) * sign
    y = np.tile([1, 0, 1, 0, 0, 1, 0, 1], 3)
    found = length_controlled(y, 100 + difference, np.full(24, 100), list(range(24)))
    assert found.note == BEYOND and found.interval is not None
    assert "one model's answers are never the longer ones" in found.note


def test_a_runaway_answer_hides_no_fit() -> None:
    """It presses all other differences together, so that the slope in their unit is in the hundreds."""
    import statsmodels.api as sm

    rng, n_steep = np.random.default_rng(1), 0
    for _ in range(60):
        a, b = rng.integers(150, 250, 40), rng.integers(150, 250, 40)
        a[0] = 20_000
        y = (rng.random(40) < expit((a - b) / 40)).astype(float)
        found = length_controlled(y, a, b, list(range(40)))
        assert found.win_rate is not None and found.length_effect is not None and found.note == ""
        if found.length_effect > 150:
            n_steep += 1
            x = np.tanh((a - b) / (a - b).std())
            peer = sm.GLM(y, sm.add_constant(x), family=sm.families.Binomial()).fit(maxiter=500)
            assert found.win_rate == pytest.approx(float(expit(peer.params[0])), rel=1e-5)
            assert found.length_effect == pytest.approx(float(peer.params[1]), rel=1e-5)
    assert n_steep > 1


def test_a_fit_is_missing_just_where_a_line_parts_wins_from_losses() -> None:
    rng = np.random.default_rng(4)
    seen = set()
    for _ in range(1000):
        n = int(rng.integers(3, 9))
        difference = np.round(rng.standard_cauchy(n) * 100)
        y = rng.choice([0, 0.5, 1], n)
        if difference.std() == 0:
            continue
        won, lost = difference[y > 0], difference[y < 1]
        parted = not len(won) or not len(lost) or won.min() >= lost.max() or lost.min() >= won.max()
        found = length_controlled(y, difference, np.zeros(n), list(range(n)))
        assert (found.note == SEPARATED) == parted == (found.win_rate is None)
        assert found.note != UNFOUND
        seen.add(parted)
    assert seen == {True, False}
