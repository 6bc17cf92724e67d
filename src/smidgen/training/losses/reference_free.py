"""Losses of the policy alone; no reference is needed."""

from __future__ import annotations

import torch
from jaxtyping import Float
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from smidgen.models.logprobs import PairLogps
from smidgen.training.losses.base import check_not_negative, check_positive, cross_entropy, loss


@loss
def nll(logps: PairLogps) -> Float[Tensor, " pairs"]:
    """Negative log-likelihood of the chosen answer a token; the regulariser to add to other losses.

    Args:
        logps: Log-probabilities of the chosen answer under the policy, nats, averaged over tokens here. Nothing else is
            looked at; prompts count for nothing.

    Returns:
        Average over the tokens of each answer, nats, shape [pairs]; every pair counts the same, whatever its length.

    Source: The SFT term of Pang et al. 2024 (iterative reasoning preference optimisation), arXiv:2404.19733, Eq. 1.
    """
    return -logps.policy_chosen.mean()


@loss
def simpo(logps: PairLogps, *, beta: PositiveFloat = 2.0, gamma: NonNegativeFloat = 0.5) -> Float[Tensor, " pairs"]:
    """Simple preference optimisation: average log-probability as reward, with a target margin.

    Args:
        logps: Log-probabilities of both answers under the policy, nats, averaged over tokens here.
        beta: Scale of the reward. Positive.
        gamma: Target reward margin, on the scale after beta. The authors' code asks for gamma / beta instead
            (`gamma_beta_ratio`): 0.25 at these defaults. At least 0.

    Returns:
        −log σ(β [mean log π(chosen) − mean log π(rejected)] − γ), shape [pairs].

    Raises:
        UsageError: A setting out of range.

    Source: Meng et al. 2024, arXiv:2405.14734, Eq. 6.
    """
    check_positive(beta=beta)
    check_not_negative(gamma=gamma)
    return cross_entropy(beta * (logps.policy_chosen.mean() - logps.policy_rejected.mean()) - gamma)


@loss
def cpo(logps: PairLogps, *, beta: PositiveFloat = 0.1, nll_weight: NonNegativeFloat = 1.0) -> Float[Tensor, " pairs"]:
    """Contrastive preference optimisation: DPO against a uniform reference, with likelihood of the chosen answer.

    Args:
        logps: Log-probabilities of both answers under the policy, nats; summed over tokens in the preference term,
            averaged in the likelihood.
        beta: Scale of the margin. Positive.
        nll_weight: Of the chosen answer's negative log-likelihood a token. At least 0.

    Returns:
        −log σ(β [log π(chosen) − log π(rejected)]) − nll_weight · mean log π(chosen), shape [pairs].

    Raises:
        UsageError: A setting out of range.

    Source: Xu et al. 2024, arXiv:2401.08417.
    """
    check_positive(beta=beta)
    check_not_negative(nll_weight=nll_weight)
    margin = logps.policy_chosen.sum() - logps.policy_rejected.sum()
    return cross_entropy(beta * margin) + nll_weight * nll(logps)


@loss
def orpo(logps: PairLogps, *, odds_weight: NonNegativeFloat = 0.1) -> Float[Tensor, " pairs"]:
    """Odds ratio preference optimisation: likelihood of the chosen answer, and its odds over the rejected one's.

    Args:
        logps: Log-probabilities of both answers under the policy, nats, averaged over tokens here.
        odds_weight: λ, of the odds ratio's loss beside the likelihood. At least 0.

    Returns:
        NLL − λ log σ(log odds(chosen) − log odds(rejected)), shape [pairs]. NLL of the chosen answer a token, prompt
        not counted (TRL counts it); odds p / (1 − p) of p, the geometric mean of an answer's token probabilities.

    Raises:
        UsageError: odds_weight out of range.

    Source: Hong et al. 2024, arXiv:2403.07691, Eqs. 4–7.
    """
    check_not_negative(odds_weight=odds_weight)
    log_odds_ratio = log_odds(logps.policy_chosen.mean()) - log_odds(logps.policy_rejected.mean())
    return nll(logps) + odds_weight * cross_entropy(log_odds_ratio)


def log_odds(log_probability: Tensor) -> Tensor:
    """log(p / (1 − p)) from log p, to the last digits where p is near 1; finite at 1 itself."""
    # Nearer to 1 than this, the gradient 1 / (1 − p) would overflow.
    least = torch.finfo(log_probability.dtype).tiny ** 0.5
    log_probability = log_probability.clamp(max=-least)
    return log_probability - torch.log(-torch.expm1(log_probability))
