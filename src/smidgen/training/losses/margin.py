"""Losses of the implicit reward margin z = βh alone, h the log-ratio difference."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from annotated_types import Interval
from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor
from torch.nn.functional import logsigmoid

from smidgen.errors import UsageError
from smidgen.models.logprobs import PairLogps
from smidgen.settings import PositiveShare
from smidgen.training.losses.base import (
    check_label_smoothing,
    check_positive,
    cross_entropy,
    log_ratio_difference,
    loss,
)


@loss
def dpo(
    logps: PairLogps, *, beta: PositiveFloat = 0.1, label_smoothing: Annotated[float, Interval(ge=0, lt=0.5)] = 0.0
) -> Float[Tensor, " pairs"]:
    """Direct preference optimisation; with label smoothing its conservative form (cDPO).

    Args:
        logps: Log-probabilities of both answers under policy and reference, nats, summed over tokens here.
        beta: Strength of the pull to the reference. Positive.
        label_smoothing: Assumed share of flipped labels, 0 ≤ ε < 0.5.

    Returns:
        −(1 − ε) log σ(βh) − ε log σ(−βh), shape [pairs]; ln 2 where policy and reference are equal.

    Raises:
        UsageError: A setting out of range.
        ValueError: No reference.

    Source: Rafailov et al. 2023, arXiv:2305.18290, Eq. 7; conservative form: Mitchell 2023, "A note on DPO".
    """
    check_positive(beta=beta)
    check_label_smoothing(label_smoothing)
    return cross_entropy(beta * log_ratio_difference(logps), 1 - label_smoothing)


@loss
def robust(
    logps: PairLogps, *, beta: PositiveFloat = 0.1, label_smoothing: Annotated[float, Interval(ge=0, lt=0.5)] = 0.1
) -> Float[Tensor, " pairs"]:
    """Provably robust DPO: unbiased under a known share of flipped labels.

    Its authors call it rDPO; so do others refined DPO, which is `refined_dpo` here. It has no lower bound.

    Args:
        logps: Log-probabilities of both answers under policy and reference, nats, summed over tokens here.
        beta: Strength of the pull to the reference. Positive.
        label_smoothing: Share of flipped labels, 0 ≤ ε < 0.5.

    Returns:
        [−(1 − ε) log σ(βh) + ε log σ(−βh)] / (1 − 2ε), shape [pairs]. Averaged over flips of the labels at the rate
        ε, this is DPO's loss on the true ones.

    Raises:
        UsageError: A setting out of range.
        ValueError: No reference.

    Source: Ray Chowdhury et al. 2024, "Provably robust DPO", arXiv:2403.00409.
    """
    check_positive(beta=beta)
    check_label_smoothing(label_smoothing)
    z = beta * log_ratio_difference(logps)
    kept, flipped = (1 - label_smoothing) * logsigmoid(z), label_smoothing * logsigmoid(-z)
    return (flipped - kept) / (1 - 2 * label_smoothing)


@loss
def hinge(logps: PairLogps, *, beta: PositiveFloat = 0.1) -> Float[Tensor, " pairs"]:
    """Hinge loss on the implicit reward margin.

    Args:
        logps: Log-probabilities of both answers under policy and reference, nats, summed over tokens here.
        beta: Scale of the implicit reward. Positive.

    Returns:
        max(0, 1 − βh), shape [pairs].

    Raises:
        UsageError: beta out of range.
        ValueError: No reference.

    Source: Zhao et al. 2023 (SLiC-HF), arXiv:2305.10425, in DPO's parametrisation as in Liu et al. 2023 (RSO),
        arXiv:2309.06657. SLiC-HF itself has no reference in its margin.
    """
    check_positive(beta=beta)
    return (1 - beta * log_ratio_difference(logps)).clamp(min=0)


@loss
def exo(
    logps: PairLogps, *, beta: PositiveFloat = 0.1, label_smoothing: Annotated[float, Interval(gt=0, lt=0.5)] = 0.1
) -> Float[Tensor, " pairs"]:
    """Efficient exact optimisation on pairs: reverse KL divergence to the smoothed preference.

    Args:
        logps: Log-probabilities of both answers under policy and reference, nats, summed over tokens here.
        beta: Strength of the pull to the reference. Positive.
        label_smoothing: Probability that the rejected answer is preferred, 0 < ε < 0.5; at 0 the divergence is
            infinite.

    Returns:
        KL([σ(βh), σ(−βh)] ‖ [1 − ε, ε]), nats, shape [pairs]; 0 where σ(βh) = 1 − ε.

    Raises:
        UsageError: A setting out of range.
        ValueError: No reference.

    Source: Ji et al. 2024, arXiv:2402.00856, Eq. 16.
    """
    check_positive(beta=beta)
    if not 0 < label_smoothing < 0.5:
        raise UsageError(
            f"expected label_smoothing above 0 and below 0.5, got {label_smoothing}; give 0.001 for hardly any"
        )
    z = beta * log_ratio_difference(logps)
    chosen = torch.sigmoid(z) * (logsigmoid(z) - math.log1p(-label_smoothing))
    return chosen + torch.sigmoid(-z) * (logsigmoid(-z) - math.log(label_smoothing))


@loss
def discopop(logps: PairLogps, *, beta: PositiveFloat = 0.1, tau: PositiveShare = 0.05) -> Float[Tensor, " pairs"]:
    """DiscoPOP, a blend of logistic and exponential loss that a language model found.

    Not convex: with the default tau it rises with the margin around 0, so at the start it first lowers the margin.

    Args:
        logps: Log-probabilities of both answers under policy and reference, nats, summed over tokens here.
        beta: Strength of the pull to the reference. Positive.
        tau: Width of the passage from one loss to the other, in units of βh; above 0, at most 1.

    Returns:
        (1 − σ(βh/τ)) · −log σ(βh) + σ(βh/τ) · exp(−βh), shape [pairs].

    Raises:
        UsageError: A setting out of range.
        ValueError: No reference.

    Source: Lu et al. 2024, arXiv:2406.08414, Eq. 5 (log-ratio modulated loss).
    """
    check_positive(beta=beta)
    if not 0 < tau <= 1:
        raise UsageError(f"expected tau above 0 and at most 1, got {tau}; the paper's is 0.05")
    z = beta * log_ratio_difference(logps)
    # The product in the exponent: far below 0, exp(−z) alone is infinite where its weight is 0.
    return torch.sigmoid(-z / tau) * -logsigmoid(z) + torch.exp(logsigmoid(z / tau) - z)
