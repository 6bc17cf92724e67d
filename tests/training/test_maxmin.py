"""Hard EM on models that are fitted exactly: the likelihood never falls, and a planted minority is found."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, log_expit

from smidgen.errors import InvalidData, UsageError
from smidgen.training.maxmin import (
    Fit,
    LogLikelihoods,
    assign,
    part_users,
    refill,
    start_at_random,
    start_by_fit,
    user_log_likelihoods,
)

# Utilities are linear in two features; the best of a grid of weights is found exactly.
GRID = np.array(list(product(np.linspace(-3, 3, 13), repeat=2)))
Weights = tuple[float, float]


def world(sizes: list[int], wants: list[Weights], *, n_each: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Feature differences of every user's pairs, chosen less rejected, [users, pairs, 2]; and who wants what."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(sizes)), sizes)
    x = rng.normal(size=(len(group), n_each, 2))
    gap = np.einsum("upf,uf->up", x, np.array(wants)[group])
    return np.where(rng.random(gap.shape) < expit(gap), 1, -1)[..., None] * x, group


def exact(x: np.ndarray) -> tuple[Fit[Weights], LogLikelihoods[Weights]]:
    def log_likelihoods(weights: Weights) -> np.ndarray:
        return log_expit(x @ np.array(weights)).sum(1)

    def fit(users: Sequence[int]) -> Weights:
        totals = log_expit(x[list(users)] @ GRID.T).sum((0, 1))
        first, second = GRID[totals.argmax()]
        return float(first), float(second)

    return fit, log_likelihoods


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), n_groups=st.integers(1, 4), empty=st.booleans())
def test_the_likelihood_never_falls(seed: int, n_groups: int, empty: bool) -> None:
    x, _ = world([9, 4, 3], [(1, -2), (1, 2), (-2, 0)], n_each=3, seed=seed)
    fit, likelihoods = exact(x)
    start = np.zeros(16, dtype=np.int64) if empty else start_at_random(16, n_groups, seed)
    found = part_users(fit, likelihoods, start, n_groups=n_groups, rounds=20)
    assert all(later >= earlier - 1e-9 for earlier, later in pairwise(found.history))
    assert found.log_likelihood == pytest.approx(max(found.history))
    assert set(found.members) == set(range(n_groups)), "no group is empty"
    if found.converged:
        assert (assign(found.log_likelihoods, found.members) == found.members).all() or found.n_refilled


@pytest.mark.parametrize("seed", range(5))
def test_a_planted_minority_of_one_in_eleven_is_found(seed: int) -> None:
    x, group = world([100, 10], [(1, -2), (1, 2)], n_each=24, seed=seed)
    fit, likelihoods = exact(x)
    single = likelihoods(fit(range(110))) / 24
    found = part_users(fit, likelihoods, start_by_fit(single, 2), n_groups=2)
    assert found.converged
    agree = (found.members == group).mean()
    assert max(agree, 1 - agree) > 0.95
    minority = np.bincount(found.members).argmin()
    assert np.allclose(found.models[minority], (1, 2), atol=1)
    chance = [part_users(fit, likelihoods, start_at_random(110, 2, s), n_groups=2).log_likelihood for s in range(3)]
    assert found.log_likelihood >= max(chance) - 1e-9, "no random start does better; some end elsewhere"
    # The one model for all sides with the majority, and explains the minority worse than a coin.
    assert fit(range(110))[1] < 0
    assert single[group == 1].mean() < -np.log(2) < single[group == 0].mean()


def test_only_groups_that_changed_are_fitted_again() -> None:
    x, _ = world([20, 5, 5], [(1, -2), (1, 2), (-3, 0)], n_each=10, seed=0)
    fit, likelihoods = exact(x)
    asked: list[tuple[int, ...]] = []

    def counted(users: Sequence[int]) -> Weights:
        asked.append(tuple(users))
        return fit(users)

    part_users(counted, likelihoods, start_at_random(30, 3, 1), n_groups=3)
    assert len(asked) == len(set(asked))
    assert len(asked) > 3


def test_of_fits_that_are_not_exact_the_best_round_is_returned() -> None:
    x, _ = world([12], [(1, -2)], n_each=3, seed=0)
    fit, likelihoods = exact(x)
    calls = iter(range(100))

    def worsening(users: Sequence[int]) -> Weights:
        first, second = fit(users)
        return (first, second) if next(calls) < 2 else (-first, -second)

    found = part_users(worsening, likelihoods, start_at_random(12, 2, 0), n_groups=2)
    assert len(found.history) > 1
    assert found.log_likelihood == found.history[0] > found.history[-1]


def test_users_stay_where_they_are_as_well_off() -> None:
    table = np.array([[-1.0, -1.0], [-3.0, -2.0]])
    assert assign(table, np.array([1, 0])).tolist() == [1, 1]


def test_an_empty_group_gets_the_user_that_is_explained_worst_of_those_who_leave_company() -> None:
    table = np.array([[-1.0, -9.0, -9.0], [-5.0, -9.0, -9.0], [-9.0, -7.0, -9.0]])
    members, n_empty = refill(np.array([0, 0, 1]), table)
    assert (members.tolist(), n_empty) == ([0, 2, 1], 1)


def test_log_likelihoods_of_users() -> None:
    found = user_log_likelihoods(np.array([0.0, 2.0, -1.0]), np.array([0, 2, 0]), 4)
    np.testing.assert_allclose(found, [np.log(0.5) + log_expit(-1.0), 0, log_expit(2.0), 0])
    # r_w = .5, r_l = .8
    np.testing.assert_allclose(user_log_likelihoods(np.array([-0.3]), np.array([0]), 1), [-0.854355], atol=5e-7)


def test_starts() -> None:
    assert np.bincount(start_at_random(11, 3, 0)).tolist() == [4, 4, 3]
    assert (start_at_random(50, 2, 0) != start_at_random(50, 2, 1)).any()
    assert start_by_fit(np.array([-0.1, -2.0, -0.2, -3.0, -0.69]), 2).tolist() == [0, 1, 0, 1, 0]
    assert start_by_fit(np.array([-0.1, -2.0, -0.2, -3.0, -0.3]), 3).tolist() == [0, 1, 0, 2, 0]
    assert start_by_fit(np.array([-0.1, -0.2, -0.3]), 3).tolist() == [0, 1, 2]
    assert start_by_fit(np.array([-0.1, -5.0]), 1).tolist() == [0, 0]


def test_bad_input() -> None:
    fit, likelihoods = exact(world([2], [(1, 0)], n_each=2, seed=0)[0])
    with pytest.raises(InvalidData, match="at least 3 users for 3 groups, got 2"):
        part_users(fit, likelihoods, np.zeros(2, dtype=np.int64), n_groups=3)
    with pytest.raises(UsageError, match="at least one group and one round"):
        part_users(fit, likelihoods, np.zeros(2, dtype=np.int64), n_groups=1, rounds=0)
