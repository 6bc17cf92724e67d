"""DPO that answers' lengths weigh less in: averaged over tokens, or with the longer answer's tail played down."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor

from smidgen.errors import UsageError
from smidgen.models.logprobs import PairLogps, TokenLogps
from smidgen.settings import Share
from smidgen.training.losses.base import check_positive, cross_entropy, log_ratio_difference, loss
from smidgen.training.losses.margin import dpo


@loss
def dpo_averaged(logps: PairLogps, *, beta: PositiveFloat = 5.0) -> Float[Tensor, " pairs"]:
    """DPO on log-ratios averaged over tokens (length-normalised DPO).

    Args:
        logps: Log-probabilities of both answers under policy and reference, nats, averaged over tokens here.
        beta: Strength of the pull to the reference; larger than DPO's, since averages are smaller than sums. Positive.

    Returns:
        −log σ(βh) with h the difference of the answers' mean log-ratios, shape [pairs].

    Raises:
        UsageError: beta out of range.
        ValueError: No reference.

    Source: Lambert et al. 2024 (Tülu 3), arXiv:2411.15124, and its beta.
    """
    check_positive(beta=beta)
    return cross_entropy(beta * log_ratio_difference(logps, TokenLogps.mean))


@loss
def ld_dpo(logps: PairLogps, *, beta: PositiveFloat = 0.1, alpha: Share = 0.5) -> Float[Tensor, " pairs"]:
    """Length-desensitised DPO: tokens beyond the shorter answer's length count alpha times.

    Args:
        logps: Log-probabilities of both answers under policy and reference, nats, summed over tokens here.
        beta: Strength of the pull to the reference. Positive.
        alpha: Weight of the longer answer's tokens from the shorter one's length on, 0 to 1; 1 is DPO.

    Returns:
        −log σ(βh) with h of the sums so weighted, shape [pairs].

    Raises:
        UsageError: A setting out of range.
        ValueError: No reference.

    Source: Liu et al. 2024, "Length desensitization in direct preference optimization", arXiv:2409.06411.
    """
    if not 0 <= alpha <= 1:
        raise UsageError(f"expected alpha from 0 to 1, got {alpha}; 1 is DPO, 0 leaves the longer answer's tail out")
    shorter = torch.minimum(logps.policy_chosen.mask.sum(-1), logps.policy_rejected.mask.sum(-1))[:, None]

    def tail_weighted(answers: TokenLogps) -> TokenLogps:
        is_tail = answers.mask.cumsum(-1) > shorter
        return replace(answers, values=torch.where(is_tail, alpha * answers.values, answers.values))

    answers = {
        name: tail_weighted(found)
        for name in ("policy_chosen", "policy_rejected", "ref_chosen", "ref_rejected")
        if (found := getattr(logps, name)) is not None
    }
    return dpo(replace(logps, **answers), beta=beta)
