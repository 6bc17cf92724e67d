"""What scores an answer: the one shape that reward models, rules and sums of them share, and how several become one.

Several groups of people have several rewards. Their minimum, or the worst-off group's, is a reward again, so whatever
takes one takes these; rewards of different models have different zeros and units, so normalise them first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from smidgen.errors import InvalidData, UsageError
from smidgen.pairs import Messages

# Prompts and one answer to each, as text, to one number an answer, higher is better; no side effects.
Reward = Callable[[Sequence[Messages], Sequence[str]], Float[np.ndarray, " answers"]]


@dataclass(frozen=True, slots=True)
class Scale:
    """Mean and standard deviation of a reward over a calibration set."""

    mean: float
    sd: float


def fit_scale(rewards: ArrayLike) -> Scale:
    """The scale of a reward from its values on a calibration set, [answers].

    Raises:
        InvalidData: Fewer than two values, values that are not finite, or all the same.
    """
    values = np.asarray(rewards, np.float64)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all() or np.ptp(values) == 0:
        raise InvalidData(
            f"expected finite rewards of two answers or more that differ, to normalise by; got {values.size} values, "
            f"{len(np.unique(values))} of them distinct. Give a larger calibration set, or a reward model that learned."
        )
    return Scale(float(values.mean()), float(values.std()))


def normalised(reward: Reward, scale: Scale) -> Reward:
    """The reward with mean 0 and standard deviation 1 on the answers that `scale` was fitted to."""
    if not scale.sd > 0:
        raise UsageError(f"expected a scale with sd above 0, got {scale.sd}; fit it with fit_scale.")
    return lambda prompts, answers: (np.asarray(reward(prompts, answers), np.float64) - scale.mean) / scale.sd


def minimum(rewards: Sequence[Reward]) -> Reward:
    """Of each answer, the least of several rewards: what the group that likes it least thinks of it.

    This is MaxMin-RLHF as its public code has it; the worst group may change from answer to answer. `WorstGroup` is the
    objective as its paper has it.

    Raises:
        UsageError: No rewards.
    """
    _check_rewards(rewards)
    return lambda prompts, answers: group_rewards(rewards, prompts, answers).min(0)


def group_rewards(
    rewards: Sequence[Reward], prompts: Sequence[Messages], answers: Sequence[str]
) -> Float[np.ndarray, "groups answers"]:
    """Every group's reward of every answer, float64."""
    return np.stack([np.asarray(reward(prompts, answers), np.float64) for reward in rewards])


def multiplicative_weights(
    weights: Float[np.ndarray, " groups"], group_means: Float[np.ndarray, " groups"], *, step_size: float
) -> Float[np.ndarray, " groups"]:
    """One step of mirror ascent over the simplex towards the groups that fare worst: w_g exp(−η mean_g), normalised.

    Args:
        weights: On the simplex.
        group_means: Mean reward of each group.
        step_size: η, above 0.

    Source: Nemirovski et al. 2009, SIAM J. Optimization 19:1574 (mirror descent for minimax); Sagawa et al. 2020,
        arXiv:1911.08731, Algorithm 1 (groups).
    """
    exponents = np.log(weights) - step_size * np.asarray(group_means, np.float64)
    raised = np.exp(exponents - exponents.max())
    return raised / raised.sum()


class WorstGroup:
    """The mean reward of the worst-off group, by a mixture whose weights move towards that group.

    Called, it is a `Reward`: the weighted sum of the groups' rewards, without side effects. After each batch of a
    policy's answers call `update` with it, so that the weights follow. Where the policy does its best against them,
    the weights settle where no group can be helped without hurting a worse-off one.

    Args:
        rewards: One a group, normalised.
        step_size: Of the mirror ascent; above 0.

    Source: Chakraborty et al. 2024, MaxMin-RLHF, arXiv:2402.08925, the MaxMin alignment objective; its weights by
        `multiplicative_weights`.
    """

    def __init__(self, rewards: Sequence[Reward], *, step_size: float = 0.1) -> None:
        _check_rewards(rewards)
        if not 0 < step_size < float("inf"):
            raise UsageError(f"expected step_size above 0, got {step_size}; give a number such as 0.1.")
        self.rewards = tuple(rewards)
        self.step_size = step_size
        self.weights = np.full(len(rewards), 1 / len(rewards))

    def __call__(self, prompts: Sequence[Messages], answers: Sequence[str]) -> Float[np.ndarray, " answers"]:
        return self.weights @ group_rewards(self.rewards, prompts, answers)

    def update(self, prompts: Sequence[Messages], answers: Sequence[str]) -> Float[np.ndarray, " groups"]:
        """Move the weights by a batch of the policy's answers; each group's mean reward of them."""
        means = group_rewards(self.rewards, prompts, answers).mean(1)
        self.weights = multiplicative_weights(self.weights, means, step_size=self.step_size)
        return means


def best_of(reward: Reward, prompts: Sequence[Messages], candidates: Sequence[Sequence[str]]) -> list[int]:
    """Best-of-n: of each prompt's candidates, the position of the one with the highest reward, the first of equals.

    Args:
        prompts: One a list of candidates.
        candidates: At least one answer to each prompt.
    """
    asked = [prompt for prompt, answers in zip(prompts, candidates, strict=True) for _ in answers]
    values = np.asarray(reward(asked, [answer for answers in candidates for answer in answers]), np.float64)
    ends = np.cumsum([len(answers) for answers in candidates])
    return [int(part.argmax()) for part in np.split(values, ends[:-1])] if len(ends) else []


def _check_rewards(rewards: Sequence[Reward]) -> None:
    if not rewards:
        raise UsageError("expected at least one reward, got none; give one a group.")
