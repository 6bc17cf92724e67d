"""RLHF and DPO on a softmax policy: closed form, exact gradients, and which way each one goes."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch

from smidgen.errors import UsageError
from smidgen.explain.point import Point, pull
from smidgen.explain.policy import policy
from smidgen.explain.policy_gradient import Regularised, descent, velocity
from smidgen.training.losses import dpo, orpo

POLICY, REFERENCE = (0.2, 0.3), (0.2, 0.4)
LOG_POLICY, LOG_REFERENCE = np.log([0.2, 0.3, 0.5]), np.log([0.2, 0.4, 0.4])


def test_the_optimum_is_the_reference_times_exp_r_over_beta() -> None:
    found = policy(policy=POLICY, reference=REFERENCE, rewards=(0.5, 0.8), beta=2).data
    optimum = found["rlhf"]["optimum"]
    assert sum(optimum.values()) == pytest.approx(1)
    assert optimum["rejected"] / optimum["chosen"] == pytest.approx(2 * math.exp(0.3 / 2))
    assert found["rewards"]["all others"] == pytest.approx((0.2 * 0.5 + 0.4 * 0.8) / 0.6)


def test_rlhf_gradient_equals_autograd() -> None:
    objective = Regularised(np.array([0.5, 0.8, -1.0]), LOG_REFERENCE, 2.0)
    logits = torch.tensor(LOG_POLICY, requires_grad=True)
    log_policy = torch.log_softmax(logits, 0)
    advantage = torch.tensor(objective.rewards) - 2.0 * (log_policy - torch.tensor(LOG_REFERENCE))
    (log_policy.exp() @ advantage).backward()
    assert logits.grad is not None
    assert objective.gradient(LOG_POLICY) == pytest.approx(logits.grad.numpy())


@pytest.mark.parametrize("loss", [partial(dpo, beta=2.0), orpo])
def test_descent_follows_the_loss_through_the_softmax(loss: partial) -> None:
    gradient, step = descent(loss, LOG_REFERENCE)(LOG_POLICY), 1e-6

    def value(logits: np.ndarray) -> float:
        logps = logits - np.log(np.exp(logits).sum())
        return pull(loss, Point((logps[0], logps[1]), (LOG_REFERENCE[0], LOG_REFERENCE[1]))).loss

    for i in range(3):
        nudge = step * (np.arange(3) == i)
        slope = (value(LOG_POLICY + nudge) - value(LOG_POLICY - nudge)) / (2 * step)
        assert gradient[i] == pytest.approx(-slope, abs=1e-7)
    assert velocity(LOG_POLICY, gradient).sum() == pytest.approx(0)


def test_rlhf_walks_to_its_optimum() -> None:
    found = policy(policy=POLICY, reference=REFERENCE, rewards=(0.5, 0.8), beta=2).data["rlhf"]
    assert found["after_steps"] == pytest.approx(found["optimum"], abs=1e-4)


def test_a_reward_that_prefers_the_rejected_answer_parts_the_two() -> None:
    found = policy(policy=POLICY, reference=REFERENCE, rewards=(0.5, 0.8), beta=2)
    rlhf, trained = found.data["rlhf"], found.data["dpo"]
    assert rlhf["speed"]["rejected"] > 0 > trained["speed"]["rejected"]
    assert trained["speed"]["chosen"] > 0
    assert rlhf["optimum"]["rejected"] > POLICY[1] > trained["after_steps"]["rejected"]
    text = " ".join(found.conclusion)
    assert "prefers the rejected answer, 0.8 against 0.5" in text
    assert "They disagree" in text


def test_a_reward_that_prefers_the_chosen_answer_unites_them() -> None:
    found = policy(policy=POLICY, reference=REFERENCE[::-1], rewards=(0.8, 0.5), beta=2)
    text = " ".join(found.conclusion)
    assert "prefers the chosen answer, 0.8 against 0.5" in text
    assert "Both raise the odds" in text


def test_dpo_does_not_see_the_rewards() -> None:
    one, other = (policy(policy=POLICY, reference=REFERENCE, rewards=r, beta=2) for r in ((0.5, 0.8), (0.9, 0.1)))
    assert one.data["dpo"]["speed"] == other.data["dpo"]["speed"]
    weight = one.data["dpo"]["gradient_weight"]
    assert weight["now"] == pytest.approx(0.72)
    assert 0 < weight["after_steps"] < weight["now"]


def test_at_the_optimum_rlhf_stands_still() -> None:
    optimum = policy(policy=POLICY, reference=REFERENCE, rewards=(0.5, 0.8), beta=2).data["rlhf"]["optimum"]
    there = policy(
        policy=(optimum["chosen"], optimum["rejected"]), reference=REFERENCE, rewards=(0.5, 0.8), beta=2
    )  # fmt: skip
    assert list(there.data["rlhf"]["speed"].values()) == pytest.approx([0, 0, 0], abs=1e-12)
    assert "stands at RLHF’s optimum already" in " ".join(there.conclusion)


def test_equal_rewards_leave_the_reference() -> None:
    found = policy(policy=POLICY, reference=REFERENCE, rewards=(1.0, 1.0), beta=0.3)
    assert list(found.data["rlhf"]["optimum"].values()) == pytest.approx([0.2, 0.4, 0.4])
    assert "gives both answers 1" in found.conclusion[0]


def test_two_answers_may_be_all_there_are() -> None:
    found = policy(policy=(0.4, 0.6), reference=(0.5, 0.5), rewards=(1.0, 0.0), beta=1).data
    assert list(found["policy"]) == ["chosen", "rejected"]
    assert found["rlhf"]["optimum"]["chosen"] == pytest.approx(1 / (1 + math.exp(-1)))
    with pytest.raises(UsageError, match=r"both to leave something to other answers, or neither; got 0.5 and 0\."):
        policy(policy=POLICY, reference=(0.5, 0.5), rewards=(1.0, 0.0))


def test_small_and_large_scales_arrive_too() -> None:
    for beta, rewards in ((0.05, (0.5, 0.8)), (50.0, (0.5, 0.8)), (1.0, (30.0, -30.0))):
        found = policy(policy=POLICY, reference=REFERENCE, rewards=rewards, beta=beta, steps=400).data["rlhf"]
        assert np.isfinite(list(found["after_steps"].values())).all()
        assert found["after_steps"]["rejected"] == pytest.approx(found["optimum"]["rejected"], abs=0.02)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": (math.nan, 0.0)}, "finite rewards, got nan"),
        ({"rest_reward": math.inf}, "finite rewards, got inf"),
        ({"steps": 0}, "at least one step"),
        ({"learning_rate": 0.0}, "learning rate above 0, got 100 and 0"),
        ({"learning_rate": -1.0}, "learning rate above 0, got 100 and -1"),
        ({"beta": 0.0}, "beta above 0, got 0"),
        ({"policy": (0.9, 0.3)}, "together at most 1, got 0.9 and 0.3"),
    ],
)
def test_what_cannot_be_followed(changes: dict, message: str) -> None:
    given = {"policy": POLICY, "reference": REFERENCE, "rewards": (0.5, 0.8), "beta": 2.0}
    with pytest.raises(UsageError, match=message):
        policy(**(given | changes))
