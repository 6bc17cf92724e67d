"""Losses that judge each answer by its own log-ratio to the reference, so that chosen ones cannot sink unseen."""

from __future__ import annotations

import torch
from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor

from smidgen.models.logprobs import PairLogps
from smidgen.training.losses.base import check_positive, cross_entropy, log_ratios, loss


@loss
def apo_zero(logps: PairLogps, *, beta: PositiveFloat = 0.1) -> Float[Tensor, " pairs"]:
    """Anchored preference optimisation, zero: raises chosen answers and lowers rejected ones.

    For chosen answers that are better than what the model would write.

    Args:
        logps: Log-probabilities of both answers under policy and reference, nats, summed over tokens here.
        beta: Scale of the implicit reward. Positive.

    Returns:
        1 − σ(β r_w) + σ(β r_l) with r the log-ratio of each answer, shape [pairs]; from 0 to 2.

    Raises:
        UsageError: beta out of range.
        ValueError: No reference.

    Source: D'Oosterlinck et al. 2024, arXiv:2408.06266, Eq. 7.
    """
    check_positive(beta=beta)
    chosen, rejected = log_ratios(logps)
    return torch.sigmoid(-beta * chosen) + torch.sigmoid(beta * rejected)


@loss
def apo_down(logps: PairLogps, *, beta: PositiveFloat = 0.1) -> Float[Tensor, " pairs"]:
    """Anchored preference optimisation, down: lowers both answers, rejected ones more.

    For chosen answers that are worse than what the model would write.

    Args:
        logps: Log-probabilities of both answers under policy and reference, nats, summed over tokens here.
        beta: Scale of the implicit reward. Positive.

    Returns:
        σ(β r_w) + 1 − σ(β (r_w − r_l)) with r the log-ratio of each answer, shape [pairs]; from 0 to 2.

    Raises:
        UsageError: beta out of range.
        ValueError: No reference.

    Source: D'Oosterlinck et al. 2024, arXiv:2408.06266, Eq. 8.
    """
    check_positive(beta=beta)
    chosen, rejected = log_ratios(logps)
    return torch.sigmoid(beta * chosen) + torch.sigmoid(-beta * (chosen - rejected))


@loss
def nca(logps: PairLogps, *, beta: PositiveFloat = 0.1) -> Float[Tensor, " pairs"]:
    """Noise contrastive alignment on pairs: both answers' likelihoods against the reference's.

    Args:
        logps: Log-probabilities of both answers under policy and reference, nats, summed over tokens here.
        beta: Scale of the implicit reward. Positive.

    Returns:
        −log σ(β r_w) − ½ log σ(−β r_w) − ½ log σ(−β r_l) with r the log-ratio of each answer, shape [pairs].

    Raises:
        UsageError: beta out of range.
        ValueError: No reference.

    Source: Chen et al. 2024, arXiv:2402.05369, for two answers with rewards 1 and 0.
    """
    check_positive(beta=beta)
    chosen, rejected = (beta * ratio for ratio in log_ratios(logps))
    return cross_entropy(chosen) + 0.5 * cross_entropy(-chosen) + 0.5 * cross_entropy(-rejected)


@loss
def bco(logps: PairLogps, *, beta: PositiveFloat = 0.1) -> Float[Tensor, " pairs"]:
    """Binary classifier optimisation on pairs: chosen answers are labelled 1, rejected ones 0.

    Args:
        logps: Log-probabilities of both answers under policy and reference, nats, summed over tokens here.
        beta: Scale of the implicit reward. Positive.

    Returns:
        −log σ(β r_w) − log σ(−β r_l) with r the log-ratio of each answer, shape [pairs]. The paper's shift of the
        rewards, a running mean over batches, is left out.

    Raises:
        UsageError: beta out of range.
        ValueError: No reference.

    Source: Jung et al. 2024, arXiv:2404.04656, without its reward shift.
    """
    check_positive(beta=beta)
    chosen, rejected = log_ratios(logps)
    return cross_entropy(beta * chosen) + cross_entropy(-beta * rejected)
