"""Exact policies: no other does better, and max-min leaves no group behind that it could help."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax

from smidgen.errors import UsageError
from smidgen.training.softmax_policy import best_policy, maxmin_policy, mean_rewards

RNG = np.random.default_rng(0)
REFERENCE = log_softmax(RNG.normal(size=(6, 5)), axis=1)
REWARDS = RNG.normal(size=(3, 6, 5))


def worst(log_policy: np.ndarray, rewards: np.ndarray, beta: float) -> float:
    kl = (np.exp(log_policy) * (log_policy - REFERENCE)).sum(1).mean()
    return float(mean_rewards(log_policy, rewards).min() - beta * kl)


def test_the_best_policy_is_best() -> None:
    log_policy = best_policy(REFERENCE, REWARDS[0], beta=0.7)
    np.testing.assert_allclose(np.exp(log_policy).sum(1), 1)
    reached = worst(log_policy, REWARDS[:1], 0.7)
    for _ in range(200):
        other = log_softmax(log_policy + 0.3 * RNG.normal(size=log_policy.shape), axis=1)
        assert worst(other, REWARDS[:1], 0.7) < reached


def test_no_policy_near_or_far_does_better_for_the_worst_group() -> None:
    found = maxmin_policy(REFERENCE, REWARDS, beta=0.5)
    assert 0 <= found.gap < 1e-3
    reached = worst(found.log_policy, REWARDS, 0.5)
    for scale in (0.02, 0.3, 2.0):
        for _ in range(100):
            other = log_softmax(found.log_policy + scale * RNG.normal(size=REFERENCE.shape), axis=1)
            assert worst(other, REWARDS, 0.5) < reached + found.gap
    for weights in RNG.dirichlet(np.ones(3), size=100):
        fixed = best_policy(REFERENCE, np.tensordot(weights, REWARDS, axes=1), beta=0.5)
        assert worst(fixed, REWARDS, 0.5) < reached + found.gap


def test_opposed_groups_end_equal_whatever_the_majority() -> None:
    """Two groups want opposite styles, and both want help."""
    helps, style = RNG.normal(size=(6, 5)), RNG.normal(size=(6, 5))
    groups = np.stack([helps - 2 * style, helps + 2 * style])
    found = maxmin_policy(np.full((6, 5), -np.log(5)), groups, beta=0.5)
    assert found.group_means[0] == pytest.approx(found.group_means[1], abs=0.02)
    majority = best_policy(np.full((6, 5), -np.log(5)), (10 * groups[0] + groups[1]) / 11, beta=0.5)
    few = mean_rewards(majority, groups)
    assert few[1] < found.group_means.min() < few[0]


def test_one_group_is_the_best_policy() -> None:
    found = maxmin_policy(REFERENCE, REWARDS[:1], beta=0.5)
    np.testing.assert_allclose(found.log_policy, best_policy(REFERENCE, REWARDS[0], beta=0.5))
    assert found.gap == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan")])
def test_bad_beta(beta: float) -> None:
    with pytest.raises(UsageError, match="beta above 0"):
        best_policy(REFERENCE, REWARDS[0], beta=beta)
