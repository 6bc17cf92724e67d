"""Kahneman–Tversky optimisation: how far answers stand from a reference point, with gains and losses that flatten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor

from smidgen.models.logprobs import PairLogps
from smidgen.training.losses.base import check_positive, choice, log_ratios, loss

Point = Literal["batch", "zero"]


@loss
def kto(logps: PairLogps, *, beta: PositiveFloat = 0.1, reference_point: Point = "batch") -> Float[Tensor, " pairs"]:
    """Kahneman–Tversky optimisation on pairs: the chosen answer is desirable, the rejected one undesirable.

    Args:
        logps: Log-probabilities of both answers under policy and reference, nats, summed over tokens here.
        beta: Scale of the implicit reward. Positive.
        reference_point: z0, the log-ratio that counts as neither gain nor loss: an estimate of KL(policy ‖ reference),
            nats. batch: `batch_reference_point` of the pairs given together, so that pairs of one batch are not
            independent, and parts of a step computed apart have their own. zero: 0, which makes them independent.

    Returns:
        ½ [1 − σ(β (r_w − z0)) + 1 − σ(β (z0 − r_l))] with r the log-ratio of each answer, shape [pairs]: the average
        of both answers, so that the mean over pairs is that over all answers. With z0 = 0, half of `apo_zero`.

    Raises:
        UsageError: A setting out of range.
        ValueError: No reference.

    Source: Ethayarajh et al. 2024, arXiv:2402.01306, Eq. 7 with both weights 1; its z0 is over mismatched prompts and
        answers.
    """
    check_positive(beta=beta)
    chosen, rejected = log_ratios(logps)
    z0 = choice("reference_point", reference_point, REFERENCE_POINTS)(chosen, rejected)
    return (kto_desirable(chosen, z0, beta=beta) + kto_undesirable(rejected, z0, beta=beta)) / 2


def kto_desirable(log_ratio: Tensor, z0: Tensor | float, *, beta: float) -> Float[Tensor, " answers"]:
    """1 − σ(β (r − z0)): what a desirable answer loses by standing low over the reference point, 0 to 1."""
    return torch.sigmoid(-beta * (log_ratio - z0))


def kto_undesirable(log_ratio: Tensor, z0: Tensor | float, *, beta: float) -> Float[Tensor, " answers"]:
    """1 − σ(β (z0 − r)): what an undesirable answer loses by standing high over the reference point, 0 to 1."""
    return torch.sigmoid(beta * (log_ratio - z0))


def batch_reference_point(chosen: Tensor, rejected: Tensor) -> Float[Tensor, ""]:
    """z0 from what pairs tell: the mean log-ratio of all answers of the batch, at least 0, without gradient, nats.

    The paper takes the mean over answers to other prompts, whose log-probabilities pairs do not hold. Answers to their
    own prompts shift more: as long as chosen and rejected ones move apart evenly, the mean stays near 0.
    """
    return torch.cat([chosen, rejected]).detach().mean().clamp(min=0)


REFERENCE_POINTS: dict[str, Callable[[Tensor, Tensor], Tensor | float]] = {
    "batch": batch_reference_point,
    "zero": lambda chosen, rejected: 0.0,
}
