"""The winner's curse: measured against simulated contests whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from smidgen.evaluation.selection_bias import Contest, contest, selection_bias


def argmax(changes: np.ndarray) -> int:
    return int(np.argmax(changes))


def test_equal_candidates_are_corrected_by_the_expected_maximum() -> None:
    """Of two equal estimates with independent unit errors the larger is expected at 1 / sqrt(pi)."""
    found = selection_bias(Contest(np.zeros(2), np.eye(2)), argmax, draws=40_000)
    assert found == pytest.approx(1 / np.sqrt(np.pi), abs=0.015)


def test_errors_that_all_share_bias_nothing() -> None:
    shared = np.ones((5, 5))
    assert selection_bias(Contest(np.arange(5) * 0.01, shared), argmax, draws=4000) == pytest.approx(0, abs=0.04)


def test_a_lone_candidate_and_a_clear_winner_owe_nothing_to_luck() -> None:
    assert selection_bias(Contest(np.array([0.3]), np.eye(1)), argmax, draws=4000) == pytest.approx(0, abs=0.05)
    clear = Contest(np.array([0.0, 0.1, 9.0]), 0.01 * np.eye(3))
    assert selection_bias(clear, argmax, draws=4000) == pytest.approx(0, abs=0.01)


def test_where_nothing_is_chosen_nothing_is_corrected() -> None:
    assert selection_bias(Contest(np.zeros(3), np.eye(3)), lambda changes: None) == 0.0


@pytest.mark.parametrize("spread", [0.0, 0.05, 0.2])
def test_the_correction_takes_most_of_the_curse_away(spread: float) -> None:
    """300 contests of 10: equal ones, close ones, and ones that differ by more than the noise."""
    rng = np.random.default_rng(0)
    naive, corrected = [], []
    for _ in range(300):
        truth = spread * rng.standard_normal(10)
        seen = Contest(truth + 0.07 * rng.standard_normal(10), 0.07**2 * np.eye(10))
        best = argmax(seen.changes)
        naive.append(seen.changes[best] - truth[best])
        corrected.append(naive[-1] - selection_bias(seen, argmax, draws=200))
    assert np.mean(naive) > 0.02
    assert abs(np.mean(corrected)) < 0.35 * np.mean(naive)


def test_a_contest_knows_its_changes_and_errors() -> None:
    """Its variances, over many contests drawn alike, are those of the changes themselves."""
    rng = np.random.default_rng(1)
    changes, stated = [], []
    for _ in range(300):
        prompts = rng.standard_normal((2, 60))

        def arm(level: float, prompts: np.ndarray = prompts) -> tuple[np.ndarray, np.ndarray]:
            seeds, noise = 0.4 * rng.standard_normal((2, 4, 1)), rng.standard_normal((2, 4, 60))
            return tuple((prompts[i] + noise[i] + seeds[i] + level > 0).astype(float) for i in (0, 1))  # pyright: ignore

        common = arm(0.0)
        found = contest([arm(0.2), arm(0.2)], common)
        assert found.changes.shape == (2,)
        changes.append(found.changes)
        stated.append(found.covariance)
    seen = np.cov(np.array(changes).T)
    mean = np.mean(stated, axis=0)
    assert np.diag(mean) == pytest.approx(np.diag(seen), rel=0.3)
    assert mean[0, 1] == pytest.approx(seen[0, 1], rel=0.45)
