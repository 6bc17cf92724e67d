"""A point to explain: log-probabilities of a pair's answers, and what a real loss says and pulls there."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from smidgen.errors import UsageError
from smidgen.models.logprobs import PairLogps, TokenLogps
from smidgen.training.losses.base import MissingReference

Pair = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Point:
    """Log-probabilities of the chosen and the rejected answer under policy and reference, nats."""

    policy: Pair
    reference: Pair

    @property
    def log_ratios(self) -> Pair:
        """log π − log ref of the chosen and of the rejected answer."""
        return self.policy[0] - self.reference[0], self.policy[1] - self.reference[1]

    @property
    def margin(self) -> float:
        """h, the difference of the log-ratios."""
        chosen, rejected = self.log_ratios
        return chosen - rejected

    @property
    def swapped(self) -> Point:
        """The same with the label turned round: what was rejected is chosen."""
        return Point((self.policy[1], self.policy[0]), (self.reference[1], self.reference[0]))

    def moved(self, chosen: float, rejected: float) -> Point:
        """The reference with the policy at these log-ratios to it."""
        return replace(self, policy=(self.reference[0] + chosen, self.reference[1] + rejected))


@dataclass(frozen=True, slots=True)
class Pull:
    """A loss at a point, and its derivatives by the policy's two log-probabilities; descent goes against them."""

    loss: float
    chosen: float
    rejected: float


def point(policy: Pair, reference: Pair, *, logs: bool = False) -> Point:
    """The point at these probabilities, or log-probabilities.

    Args:
        policy: Of the chosen and the rejected answer under the policy, each above 0, together at most 1.
        reference: The same under the reference.
        logs: They are log-probabilities, nats, at most 0. Held to no sum: they may be averages over tokens.

    Raises:
        UsageError: Numbers that are none.
    """
    if logs:
        for name, pair in (("policy", policy), ("reference", reference)):
            _check(name, pair, "log-probabilities of at most 0, finite", lambda x: -math.inf < x <= 0)
        return Point(policy, reference)
    for name, pair in (("policy", policy), ("reference", reference)):
        _check(name, pair, "probabilities above 0 and at most 1", lambda x: 0 < x <= 1)
        if sum(pair) > 1 + 1e-9:
            raise UsageError(
                f"expected {name} probabilities of two answers to one prompt, together at most 1, got {pair[0]:g} and "
                f"{pair[1]:g}, together {sum(pair):g}; correct one, or give averages a token as log-probabilities."
            )
    return Point((math.log(policy[0]), math.log(policy[1])), (math.log(reference[0]), math.log(reference[1])))


def check_beta(*betas: float) -> None:
    """UsageError for a beta that is not above 0 and finite."""
    for beta in betas:
        if not 0 < beta < math.inf:
            raise UsageError(f"expected beta above 0, got {beta:g}; give a positive number, such as 0.1.")


def _check(name: str, pair: Pair, expected: str, holds: Callable[[float], bool]) -> None:
    if len(pair) != 2 or not all(holds(value) for value in pair):
        listed = ", ".join(f"{value:g}" for value in pair) or "nothing"
        raise UsageError(
            f"expected {name} to be two {expected}: of the chosen and of the rejected answer; got {listed}. Correct "
            "them."
        )


def pull(loss: Callable[[PairLogps], Tensor], at: Point, scores: Pair = (1.0, 0.0)) -> Pull:
    """What a loss, its settings fixed, says at a point; derivatives by autograd.

    Every answer counts as one token, so that sums and averages over tokens are the same.
    """
    logps = _logps(at, scores)
    policy = [answer.values.requires_grad_() for answer in (logps.policy_chosen, logps.policy_rejected)]
    value = loss(logps)[0]
    gradients = torch.autograd.grad(value, policy, allow_unused=True)
    chosen, rejected = (0.0 if found is None else float(found) for found in gradients)
    return Pull(float(value.detach()), chosen, rejected)


def reads_reference(loss: Callable[[PairLogps], Tensor], at: Point, scores: Pair = (1.0, 0.0)) -> bool:
    """Whether a loss compares the policy with a reference."""
    try:
        loss(replace(_logps(at, scores), ref_chosen=None, ref_rejected=None))
    except MissingReference:
        return True
    return False


def _logps(at: Point, scores: Pair) -> PairLogps:
    def answer(value: float) -> TokenLogps:
        return TokenLogps(torch.tensor([[value]], dtype=torch.float64), torch.ones(1, 1, dtype=torch.bool))

    chosen_score, rejected_score = (torch.tensor([score], dtype=torch.float64) for score in scores)
    return PairLogps(
        policy_chosen=answer(at.policy[0]),
        policy_rejected=answer(at.policy[1]),
        ref_chosen=answer(at.reference[0]),
        ref_rejected=answer(at.reference[1]),
        chosen_score=chosen_score,
        rejected_score=rejected_score,
    )
