"""Losses on single answers marked good or bad: one value an answer, never reduced; no pairs are needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor

from smidgen.data.answers import EncodedAnswer
from smidgen.models.logprobs import MarkedLogps
from smidgen.training.losses.base import check_positive, cross_entropy
from smidgen.training.losses.prospect import kto_desirable, kto_undesirable

UnpairedLoss = Callable[[MarkedLogps], Float[Tensor, " answers"]]
# What the paper advises for the weight of all desirable answers over that of all undesirable ones.
_LEAST_BALANCE, _MOST_BALANCE = 1.0, 4 / 3


class MissingMismatched(ValueError):
    """A loss that compares with mismatched answers was given none."""


def kto_unpaired(
    logps: MarkedLogps,
    *,
    beta: PositiveFloat = 0.1,
    desirable_weight: PositiveFloat = 1.0,
    undesirable_weight: PositiveFloat = 1.0,
) -> Float[Tensor, " answers"]:
    """Kahneman–Tversky optimisation: good answers above a reference point, bad ones below it.

    Args:
        logps: Log-probabilities under policy and reference, nats, summed over tokens here.
        beta: Scale of the implicit reward. Positive.
        desirable_weight: λ_D, what a good answer counts. Positive; see `balance_advice`.
        undesirable_weight: λ_U, the same of a bad one.

    Returns:
        λ_D [1 − σ(β (r − z0))] of a good answer and λ_U [1 − σ(β (z0 − r))] of a bad one, shape [answers]; r is the
        answer's log-ratio, z0 the mean log-ratio of the step's mismatched answers, at least 0 and without gradient.

    Raises:
        UsageError: A setting out of range.
        ValueError: No mismatched answers.

    Source: Ethayarajh et al. 2024, arXiv:2402.01306, Eq. 7 and 8.
    """
    check_positive(beta=beta, desirable_weight=desirable_weight, undesirable_weight=undesirable_weight)
    if logps.mismatched_log_ratio is None:
        raise MissingMismatched(
            "expected the log-ratio of mismatched answers, KTO's reference point; got None. Give it, 0 for none."
        )
    z0 = logps.mismatched_log_ratio.detach().clamp(min=0)
    ratio = marked_log_ratios(logps)
    good = desirable_weight * kto_desirable(ratio, z0, beta=beta)
    return torch.where(logps.desirable, good, undesirable_weight * kto_undesirable(ratio, z0, beta=beta))


def apo_zero_unpaired(logps: MarkedLogps, *, beta: PositiveFloat = 0.1) -> Float[Tensor, " answers"]:
    """Anchored preference optimisation, zero: as KTO, with the reference point at 0.

    Source: D'Oosterlinck et al. 2024, arXiv:2408.06266, Eq. 7, an answer at a time.
    """
    check_positive(beta=beta)
    ratio = marked_log_ratios(logps)
    return torch.sigmoid(beta * torch.where(logps.desirable, -ratio, ratio))


def bco_unpaired(logps: MarkedLogps, *, beta: PositiveFloat = 0.1) -> Float[Tensor, " answers"]:
    """Binary classifier optimisation: −log σ(βr) of a good answer, −log σ(−βr) of a bad one.

    Source: Jung et al. 2024, arXiv:2404.04656, without its shift of the rewards, a running mean over batches.
    """
    check_positive(beta=beta)
    ratio = marked_log_ratios(logps)
    return cross_entropy(beta * torch.where(logps.desirable, ratio, -ratio))


def marked_log_ratios(logps: MarkedLogps) -> Float[Tensor, " answers"]:
    """log π(y) − log ref(y) of each answer, summed over its tokens, nats."""
    return logps.policy.sum() - logps.ref.sum()


def balance_advice(
    answers: Sequence[EncodedAnswer], *, desirable_weight: PositiveFloat = 1.0, undesirable_weight: PositiveFloat = 1.0
) -> str | None:
    """What to change where good and bad answers weigh too unequally together; None where they do not.

    Source: Ethayarajh et al. 2024, Section 4.2: λ_D n_D / (λ_U n_U) from 1 to 4/3, with one of the weights 1.
    """
    n_good = sum(answer.desirable for answer in answers)
    n_bad = len(answers) - n_good
    if not n_good or not n_bad:
        side = "undesirable" if n_good else "desirable"
        return f"expected desirable and undesirable answers, got no {side} ones of {len(answers)}; look at the labels."
    balance = desirable_weight * n_good / (undesirable_weight * n_bad)
    if _LEAST_BALANCE - 1e-9 <= balance <= _MOST_BALANCE + 1e-9:
        return None
    least, most = (bound * n_bad / n_good for bound in (_LEAST_BALANCE, _MOST_BALANCE))
    return (
        f"expected desirable_weight * {n_good} desirable / (undesirable_weight * {n_bad} undesirable answers) from 1 "
        f"to 4/3, as KTO's paper advises, got {balance:.3g}; with undesirable_weight 1, take a desirable_weight from "
        f"{least:.3g} to {most:.3g}."
    )
