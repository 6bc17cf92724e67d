"""Losses that pull log-ratios to a target by their squared distance."""

from __future__ import annotations

from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor

from smidgen.models.logprobs import PairLogps, TokenLogps
from smidgen.training.losses.base import check_positive, log_ratio_difference, log_ratios, loss


@loss
def ipo(logps: PairLogps, *, beta: PositiveFloat = 0.1) -> Float[Tensor, " pairs"]:
    """Identity preference optimisation on summed log-ratios.

    Args:
        logps: Log-probabilities of both answers under policy and reference, nats, summed over tokens here.
        beta: Strength of the pull to the reference; the target of h is 1 / (2 beta). Positive.

    Returns:
        (h − 1 / (2β))², shape [pairs].

    Raises:
        UsageError: beta out of range.
        ValueError: No reference.

    Source: Azar et al. 2023, arXiv:2310.12036, Eq. 17. Summed, as in the paper; TRL averages: `ipo_averaged`.
    """
    check_positive(beta=beta)
    return (log_ratio_difference(logps) - 1 / (2 * beta)) ** 2


@loss
def ipo_averaged(logps: PairLogps, *, beta: PositiveFloat = 0.1) -> Float[Tensor, " pairs"]:
    """Identity preference optimisation on log-ratios averaged over tokens, as in TRL.

    Args:
        logps: Log-probabilities of both answers under policy and reference, nats, averaged over tokens here.
        beta: Strength of the pull to the reference; the target of h is 1 / (2 beta), nats a token. Positive.

    Returns:
        (h − 1 / (2β))² with h the difference of the answers' mean log-ratios, shape [pairs].

    Raises:
        UsageError: beta out of range.
        ValueError: No reference.

    Source: Azar et al. 2023, arXiv:2310.12036, Eq. 17, on averages: TRL, which names the paper's authors for it.
    """
    check_positive(beta=beta)
    return (log_ratio_difference(logps, TokenLogps.mean) - 1 / (2 * beta)) ** 2


@loss
def sppo(logps: PairLogps, *, beta: PositiveFloat = 0.1) -> Float[Tensor, " pairs"]:
    """Self-play preference optimisation, with a win rate of 1 for the chosen answer and 0 for the rejected one.

    Args:
        logps: Log-probabilities of both answers under policy and reference, nats, summed over tokens here. In
            self-play the reference is the policy of the round before.
        beta: 1 / η of the paper; log-ratios are pulled to ±1 / (2 beta). Positive.

    Returns:
        (r_w − 1 / (2β))² + (r_l + 1 / (2β))² with r the log-ratio of each answer, shape [pairs].

    Raises:
        UsageError: beta out of range.
        ValueError: No reference.

    Source: Wu et al. 2024, arXiv:2405.00675, Eq. 4.7 with hard win rates.
    """
    check_positive(beta=beta)
    chosen, rejected = log_ratios(logps)
    return (chosen - 1 / (2 * beta)) ** 2 + (rejected + 1 / (2 * beta)) ** 2
