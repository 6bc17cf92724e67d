"""Calibration: worked values, right probabilities are found right, and wrong ones wrong."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.special import expit

from smidgen.evaluation.calibration import (
    brier,
    calibration,
    calibration_error,
    equal_mass_bins,
    reliability,
    turned,
)
from smidgen.evaluation.statistics import wilson

RNG = np.random.default_rng(0)


def world(n: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Rewards whose differences, times `scale`, are the true log-odds; the chosen answer is drawn from them."""
    truth = RNG.normal(size=n) * 1.5
    first_wins = RNG.random(n) < expit(truth)
    chosen = np.where(first_wins, truth, 0.0) / scale
    rejected = np.where(first_wins, 0.0, truth) / scale
    return chosen, rejected


def test_worked_values() -> None:
    probabilities, outcomes = np.array([0.1, 0.2, 0.7, 0.8]), np.array([0.0, 1.0, 1.0, 1.0])
    assert brier(probabilities, outcomes) == pytest.approx((0.01 + 0.64 + 0.09 + 0.04) / 4)
    bins = equal_mass_bins(probabilities, 2)
    # |.15 − .5| and |.75 − 1|, half each
    assert calibration_error(probabilities, outcomes, bins) == pytest.approx(0.3)
    low, high = reliability(probabilities, outcomes, bins)
    assert (low.n, low.probability, low.won) == (2, pytest.approx(0.15), wilson(1, 2))
    assert (high.probability, high.won.mean) == (pytest.approx(0.75), 1.0)
    found = calibration([0.5], [0.8], [7])
    assert found.log_loss == pytest.approx(0.854355, abs=5e-7)
    assert found.accuracy == wilson(0, 1)


def test_bins_hold_equally_many_in_order() -> None:
    probabilities = RNG.random(103)
    bins = equal_mass_bins(probabilities, 10)
    assert {len(part) for part in bins} == {10, 11}
    assert sorted(np.concatenate(bins)) == list(range(103))
    assert all(probabilities[a].max() <= probabilities[b].min() for a, b in pairwise(bins))
    assert len(equal_mass_bins(probabilities[:3], 10)) == 3


def test_pairs_are_turned_by_their_idx_alone_half_of_them() -> None:
    gaps = RNG.normal(size=4000)
    probabilities, first_won = turned(gaps, range(4000))
    assert 0.46 < first_won.mean() < 0.54
    np.testing.assert_allclose(probabilities, np.where(first_won == 1, expit(gaps), expit(-gaps)))
    backwards = turned(gaps[::-1], range(3999, -1, -1))
    np.testing.assert_array_equal(backwards[0][::-1], probabilities)


def test_right_probabilities_are_found_right_and_boasting_ones_wrong() -> None:
    right = calibration(*world(4000, 1.0), range(4000))
    assert right.calibration_error < 2 * right.chance_error < 0.05
    assert right.accuracy.low < float(np.mean(expit(np.abs(RNG.normal(size=100_000) * 1.5)))) < right.accuracy.high
    inside = [b.won.low <= b.probability <= b.won.high for b in right.bins]
    assert sum(inside) >= 8
    boasting = calibration(*world(4000, 0.2), range(4000))
    assert boasting.calibration_error > 4 * boasting.chance_error
    assert boasting.log_loss > right.log_loss
    assert boasting.brier > right.brier


def test_a_model_that_says_nothing_is_a_coin() -> None:
    found = calibration(np.zeros(50), np.zeros(50), range(50))
    assert found.accuracy.mean == 0.5
    assert (found.log_loss, found.brier) == (pytest.approx(math.log(2)), 0.25)
    assert found.numbers()["heldout_accuracy"] == 0.5
    assert found.markdown().count("\n|") == 12


def test_extreme_rewards_stay_finite() -> None:
    found = calibration([1e6, -1e6], [-1e6, 1e6], [0, 1])
    assert found.log_loss == pytest.approx(1e6)
    assert found.brier == 0.5


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="0 > 0 pairs"):
        calibration([], [], [])
    with pytest.raises(ValueError, match="2 > 0 pairs"):
        calibration([1.0, 2.0], [1.0], [0, 1])
    with pytest.raises(ValueError, match="finite"):
        calibration([float("nan")], [1.0], [0])
    with pytest.raises(ValueError, match="at least one bin"):
        calibration([2.0], [1.0], [0], n_bins=0)
