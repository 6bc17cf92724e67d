"""The lasso: soft-thresholding where that is exact, what a minimum must meet, a peer's values, and recovery."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import hadamard
from statsmodels.regression.linear_model import OLS

from smidgen.evaluation.lasso import cross_validated_lasso, lasso


def test_an_orthogonal_design_is_soft_thresholded() -> None:
    design = hadamard(16)[:, 1:8].astype(float)  # centred, and each column's mean square is 1
    outcomes = design @ np.array([2.0, -1.0, 0.3, -0.3, 0.0, 0.5, 0.0]) + 7
    expected = [[1.5, -0.5, 0, 0, 0, 0, 0], [1.75, -0.75, 0.05, -0.05, 0, 0.25, 0], [2, -1, 0.3, -0.3, 0, 0.5, 0]]
    np.testing.assert_allclose(lasso(design, outcomes, [0.5, 0.25, 0]), expected, atol=1e-12)
    np.testing.assert_allclose(lasso(3 * design, outcomes, [0.75])[0] * 3, [1.75, -0.75, 0.05, -0.05, 0, 0.25, 0])


def test_statsmodels_finds_the_same() -> None:
    rng = np.random.default_rng(0)
    design, outcomes = (rng.random((40, 6)) < 0.5).astype(float), rng.normal(size=40)
    outcomes += design @ [1, -1, 0.2, 0, 0, 0.5]
    x, y = design - design.mean(axis=0), outcomes - outcomes.mean()
    for penalty in (0.15, 0.05, 0.005):
        peer = OLS(y, x).fit_regularized(alpha=penalty, L1_wt=1.0, cnvrg_tol=1e-12, maxiter=5000)
        np.testing.assert_allclose(lasso(design, outcomes, [penalty])[0], peer.params, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 12), p=st.integers(1, 40), shares=st.lists(st.floats(0.01, 1.2)))
def test_every_solution_meets_the_conditions_of_a_minimum(seed: int, n: int, p: int, shares: list[float]) -> None:
    """More columns than rows, constant ones and copies among them."""
    rng = np.random.default_rng(seed)
    design, outcomes = (rng.random((n, p)) < 0.5).astype(float), rng.normal(size=n)
    x, y = design - design.mean(axis=0), outcomes - outcomes.mean()
    largest = np.abs(x.T @ y).max() / n
    penalties = sorted((share * largest for share in shares), reverse=True)
    for penalty, w in zip(penalties, lasso(design, outcomes, penalties), strict=True):
        pull = x.T @ (y - x @ w) / n
        assert (np.abs(pull) <= penalty + 1e-6).all()
        np.testing.assert_allclose(pull[w != 0], penalty * np.sign(w[w != 0]), atol=1e-6)
        if penalty > largest:
            assert not w.any()


def test_copies_share_and_the_order_of_columns_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    design, outcomes = (rng.random((20, 5)) < 0.5).astype(float), rng.normal(size=20)
    alone = lasso(design, outcomes, [0.1, 0.01])
    columns = np.array([3, 0, 1, 2, 3, 4, 3])
    expected = alone[:, columns] / np.array([3, 1, 1, 1, 3, 1, 3])
    np.testing.assert_allclose(lasso(design[:, columns], outcomes, [0.1, 0.01]), expected, atol=1e-9)


def test_few_members_that_matter_are_found_among_many_that_do_not() -> None:
    rng = np.random.default_rng(1)
    design = (rng.random((80, 200)) < 0.5).astype(float)
    truth = np.zeros(200)
    truth[[3, 50, 120, 199]] = [1.0, -1.0, 0.8, -0.8]
    fit = cross_validated_lasso(design, design @ truth + rng.normal(scale=0.2, size=80))
    assert set(np.argsort(-np.abs(fit.coefficients))[:4]) == {3, 50, 120, 199}
    np.testing.assert_allclose(fit.coefficients[[3, 50, 120, 199]], truth[[3, 50, 120, 199]], atol=0.3)
    assert fit.correlation > 0.7


def test_noise_is_not_predicted() -> None:
    found = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        found.append(cross_validated_lasso((rng.random((60, 80)) < 0.5).astype(float), rng.normal(size=60)))
    assert abs(np.mean([fit.correlation for fit in found])) < 0.2
    assert np.mean([np.count_nonzero(fit.coefficients) for fit in found]) < 20


def test_outcomes_that_are_all_the_same_follow_from_nothing() -> None:
    fit = cross_validated_lasso((np.random.default_rng(0).random((8, 3)) < 0.5).astype(float), np.full(8, 0.3))
    assert (fit.coefficients.tolist(), fit.correlation) == ([0.0, 0.0, 0.0], 0.0)


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="4 rows or more"):
        cross_validated_lasso(np.eye(3), np.arange(3.0))
