"""Gradients of RLHF and of preference losses on a softmax policy over listed answers, exact, and steps along them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import log_softmax
from torch import Tensor

from smidgen.explain.point import Point, pull
from smidgen.models.logprobs import PairLogps

Logps = Float[np.ndarray, " answers"]
# Of a policy's log-probabilities, the direction in its logits that training takes.
Gradient = Callable[[Logps], Float[np.ndarray, " answers"]]


@dataclass(frozen=True, slots=True)
class Regularised:
    """RLHF's objective on listed answers: mean reward less β·KL to the reference.

    Attributes:
        rewards: Of every answer.
        log_reference: Log-probabilities of the answers under the reference.
        beta: Price of a nat of KL, above 0.
    """

    rewards: Float[np.ndarray, " answers"]
    log_reference: Logps
    beta: float

    def advantages(self, log_policy: Logps) -> tuple[Float[np.ndarray, " answers"], Float[np.ndarray, " answers"]]:
        """How far each answer lies above the policy's mean: by its reward, and by what its share of the KL costs."""
        policy, cost = np.exp(log_policy), self.beta * (log_policy - self.log_reference)
        return self.rewards - policy @ self.rewards, policy @ cost - cost

    def gradient(self, log_policy: Logps) -> Float[np.ndarray, " answers"]:
        """Of the objective by the logits: π(y) times the answer's advantage. The KL's own derivative has mean 0."""
        reward, kl = self.advantages(log_policy)
        return np.exp(log_policy) * (reward + kl)


def descent(loss: Callable[[PairLogps], Tensor], log_reference: Logps) -> Gradient:
    """The way that descent on a preference loss takes in the logits; chosen is answer 0, rejected answer 1."""
    reference = (float(log_reference[0]), float(log_reference[1]))

    def gradient(log_policy: Logps) -> Float[np.ndarray, " answers"]:
        found = pull(loss, Point((float(log_policy[0]), float(log_policy[1])), reference))
        at_logps = np.zeros(len(log_policy))
        at_logps[:2] = found.chosen, found.rejected
        # Every log-probability of a softmax also falls by π with each logit.
        return -(at_logps - at_logps.sum() * np.exp(log_policy))

    return gradient


def velocity(log_policy: Logps, gradient: Float[np.ndarray, " answers"]) -> Float[np.ndarray, " answers"]:
    """How fast the probabilities change as the logits follow a gradient; sums to 0."""
    policy = np.exp(log_policy)
    return policy * (gradient - policy @ gradient)


def walk(
    log_policy: Logps, gradient: Gradient, *, steps: int, learning_rate: float
) -> Float[np.ndarray, "steps answers"]:
    """Log-probabilities from the start through each step; one row more than steps."""
    rows = [log_policy]
    for _ in range(steps):
        rows.append(log_softmax(rows[-1] + learning_rate * gradient(rows[-1])))
    return np.stack(rows)
