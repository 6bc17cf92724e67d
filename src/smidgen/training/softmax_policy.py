"""Policies over listed answers, found exactly: what a reward asks of a policy, without sampling or gradients.

Where every prompt has a few candidate answers, the policy that maximises reward less β·KL to a reference has a closed
form. It is what PPO and best-of-n are approximations of, and so shows what a reward is worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import log_softmax, logsumexp

from smidgen.errors import UsageError
from smidgen.models.rewards import multiplicative_weights


@dataclass(frozen=True, slots=True)
class MaxMinPolicy:
    """The policy that does best for the worst-off group.

    Attributes:
        log_policy: [prompts, answers].
        weights: Of the groups, on the simplex; those that are better off have none.
        group_means: Each group's mean reward under the policy.
        kl: KL of the policy to the reference, nats, mean over prompts.
        gap: At most how far the worst group's mean less β·KL is from the best possible; at least 0.
    """

    log_policy: Float[np.ndarray, "prompts answers"]
    weights: Float[np.ndarray, " groups"]
    group_means: Float[np.ndarray, " groups"]
    kl: float
    gap: float


def best_policy(
    log_reference: Float[np.ndarray, "prompts answers"], rewards: Float[np.ndarray, "prompts answers"], *, beta: float
) -> Float[np.ndarray, "prompts answers"]:
    """Log-probabilities of the policy with the highest mean reward less β·KL to the reference: ref · exp(r / β).

    Args:
        log_reference: Log-probabilities of the candidate answers to each prompt.
        rewards: Of the same answers.
        beta: Price of a nat of KL, above 0.

    Raises:
        UsageError: A beta out of range.

    Source: Rafailov et al. 2023, arXiv:2305.18290, Eq. 4.
    """
    if not 0 < beta < np.inf:
        raise UsageError(f"expected beta above 0, got {beta}; give a number such as 0.5.")
    return log_softmax(log_reference + rewards / beta, axis=1)


def maxmin_policy(
    log_reference: Float[np.ndarray, "prompts answers"],
    rewards: Float[np.ndarray, "groups prompts answers"],
    *,
    beta: float,
    step_size: float = 0.5,
    rounds: int = 2000,
    tolerance: float = 1e-4,
) -> MaxMinPolicy:
    """The policy that maximises the worst group's mean reward less β·KL to the reference.

    For fixed weights of the groups `best_policy` is exact; the weights descend the dual, which is convex, by
    `multiplicative_weights`.

    Args:
        log_reference: Log-probabilities of the candidate answers to each prompt.
        rewards: Every group's, of the same answers, normalised.
        beta: Price of a nat of KL, above 0.
        step_size: Of the mirror descent in the first round; it falls with the root of the round.
        rounds: Most steps.
        tolerance: Of the duality gap, at which to stop.

    Source: Chakraborty et al. 2024, MaxMin-RLHF, arXiv:2402.08925, the MaxMin alignment objective.
    """
    weights = np.full(len(rewards), 1 / len(rewards))
    found = best = _at(weights, log_reference, rewards, beta)
    for number in range(rounds):
        if best.gap <= tolerance:
            break
        weights = multiplicative_weights(weights, found.group_means, step_size=step_size / (1 + number) ** 0.5)
        found = _at(weights, log_reference, rewards, beta)
        best = min(best, found, key=lambda policy: policy.gap)
    return best


def _at(
    weights: Float[np.ndarray, " groups"], log_reference: np.ndarray, rewards: np.ndarray, beta: float
) -> MaxMinPolicy:
    mixed = np.tensordot(weights, rewards, axes=1)
    log_policy = best_policy(log_reference, mixed, beta=beta)
    means = mean_rewards(log_policy, rewards)
    kl = float((np.exp(log_policy) * (log_policy - log_reference)).sum(1).mean())
    # The dual value bounds what any policy reaches from above.
    log_mass: Any = logsumexp(np.stack([log_reference + mixed / beta, log_reference]), axis=2)
    dual = float(beta * (log_mass[0] - log_mass[1]).mean())
    return MaxMinPolicy(log_policy, weights, means, kl, max(0.0, dual - float(means.min() - beta * kl)))


def mean_rewards(
    log_policy: Float[np.ndarray, "prompts answers"], rewards: Float[np.ndarray, "groups prompts answers"]
) -> Float[np.ndarray, " groups"]:
    """Each group's mean reward under a policy, averaged over prompts."""
    return (np.exp(log_policy) * rewards).sum(-1).mean(-1)
