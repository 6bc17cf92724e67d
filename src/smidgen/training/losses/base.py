"""What all losses share: their registry and sums, log-ratios, external scores, and checks of what a loss needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from smidgen.errors import InvalidData, UsageError
from smidgen.models.logprobs import PairLogps, TokenLogps
from smidgen.settings import Registry

T = TypeVar("T")
Loss = Callable[..., Float[Tensor, " pairs"]]

_NAMED_PAIRS = 5


class MissingReference(ValueError):
    """A loss that compares with a reference was given none."""


class MissingScores(InvalidData):
    """A loss that learns from external scores was given none, or not for every pair."""


def weighted_sum(terms: Sequence[tuple[float, Loss]]) -> Loss:
    """One loss from several with their settings fixed: for each pair, the sum of weight times value."""

    def weighted(logps: PairLogps) -> Float[Tensor, " pairs"]:
        first, *rest = (weight * function(logps) for weight, function in terms)
        return sum(rest, first)

    return weighted


loss: Registry[Loss] = Registry("loss", combine=weighted_sum)


def combine(terms: Mapping[str | Loss, float]) -> Loss:
    """A weighted sum of losses, such as DPO with a pull towards the chosen answers.

    The same as one text, wherever a loss is named: `"dpo:beta=0.1 + 0.2*nll"`.

    Args:
        terms: Weight by loss: a registered loss with settings, or a loss itself. At least one.

    Raises:
        UsageError: No terms, or an unknown loss or setting.

    >>> objective = combine({"dpo:beta=0.1": 1.0, "nll": 0.2})
    """
    if not terms:
        raise UsageError('expected at least one loss with its weight, got none; give {"dpo": 1.0}, for example')
    return weighted_sum([(weight, loss.bind(spec)) for spec, weight in terms.items()])


def log_ratios(
    logps: PairLogps, over_tokens: Callable[[TokenLogps], Tensor] = TokenLogps.sum
) -> tuple[Float[Tensor, " pairs"], Float[Tensor, " pairs"]]:
    """log π(y) − log ref(y) of the chosen and of the rejected answers, nats.

    Args:
        logps: Log-probabilities of both answers under policy and reference, nats.
        over_tokens: `TokenLogps.sum`, or `TokenLogps.mean` for the average over each answer's tokens.

    Raises:
        MissingReference: A ValueError.
    """
    if logps.ref_chosen is None or logps.ref_rejected is None:
        raise MissingReference(
            "expected reference log-probabilities, which this loss compares the policy with; got None for ref_chosen "
            "or ref_rejected. Give both, or take a loss without a reference, such as simpo or orpo."
        )
    chosen = over_tokens(logps.policy_chosen) - over_tokens(logps.ref_chosen)
    return chosen, over_tokens(logps.policy_rejected) - over_tokens(logps.ref_rejected)


def log_ratio_difference(
    logps: PairLogps, over_tokens: Callable[[TokenLogps], Tensor] = TokenLogps.sum
) -> Float[Tensor, " pairs"]:
    """h = [log π(chosen) − log ref(chosen)] − [log π(rejected) − log ref(rejected)], by default summed, nats."""
    chosen, rejected = log_ratios(logps, over_tokens)
    return chosen - rejected


def cross_entropy(margin: Float[Tensor, " pairs"], target: Tensor | float = 1.0) -> Float[Tensor, " pairs"]:
    """−q log σ(margin) − (1 − q) log σ(−margin): of the preference σ(margin) to the target q, from 0 to 1."""
    return -target * logsigmoid(margin) - (1 - target) * logsigmoid(-margin)


def score_gap(logps: PairLogps) -> Float[Tensor, " pairs"]:
    """External score of the chosen answer less that of the rejected one.

    Raises:
        MissingScores: An InvalidData.
    """
    if logps.chosen_score is None or logps.rejected_score is None:
        raise MissingScores(
            "expected a chosen_score and a rejected_score for every pair, which this loss learns from; got pairs "
            "without. Add both to the data as columns of numbers, as `smidgen score` does, and leave out the rows that "
            "lack one."
        )
    return logps.chosen_score - logps.rejected_score


def named(logps: PairLogps, which: Bool[Tensor, " pairs"]) -> str:
    """How many pairs these are, and the first of them by idx, or by position where the idx are not known."""
    positions = which.nonzero().flatten()
    shown = positions if logps.idx is None else logps.idx[positions]
    listed = ", ".join(str(number) for number in shown[:_NAMED_PAIRS].tolist())
    more = ", …" if len(shown) > _NAMED_PAIRS else ""
    return f"{len(shown)} of {len(which)} pairs ({'position' if logps.idx is None else 'idx'} {listed}{more})"


def choice(name: str, value: str, options: Mapping[str, T]) -> T:
    """What stands behind a setting's value; UsageError, listing the values, for any other."""
    if value not in options:
        raise UsageError(f"unknown {name} {value!r}; expected one of: {', '.join(options)}")
    return options[value]


def check_positive(**settings: float) -> None:
    """UsageError for a setting that is not above 0 and finite."""
    for name, value in settings.items():
        if not 0 < value < math.inf:
            raise UsageError(f"expected {name} above 0, got {value}; give a positive number, such as 0.1")


def check_not_negative(**settings: float) -> None:
    """UsageError for a setting that is below 0 or not finite."""
    for name, value in settings.items():
        if not 0 <= value < math.inf:
            raise UsageError(f"expected {name} of at least 0, got {value}; 0 leaves out what it weighs")


def check_label_smoothing(label_smoothing: float) -> None:
    """UsageError for a share of flipped labels outside 0 ≤ ε < 0.5."""
    if not 0 <= label_smoothing < 0.5:
        raise UsageError(
            f"expected label_smoothing from 0 to below 0.5, got {label_smoothing}; at a half, labels say nothing"
        )
