"""Losses that take an external score of each answer, from a reward model or a judge, besides which one was chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from smidgen.errors import InvalidData
from smidgen.models.logprobs import PairLogps
from smidgen.training.losses.base import (
    check_not_negative,
    check_positive,
    choice,
    cross_entropy,
    log_ratio_difference,
    loss,
    named,
    score_gap,
)

Form = Literal["soft_label", "margin", "weight", "filter", "distilled"]

# Of the implicit reward margin z and of t = η (s_w − s_l), the margin that the scores ask for.
FORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "soft_label": lambda z, t: cross_entropy(z, torch.sigmoid(t)),
    "margin": lambda z, t: cross_entropy(z - t),
    "weight": lambda z, t: torch.sigmoid(t) * cross_entropy(z),
    "filter": lambda z, t: (t > 0) * cross_entropy(z),
    "distilled": lambda z, t: (z - t) ** 2,
}


@loss
def refined_dpo(
    logps: PairLogps, *, beta: PositiveFloat = 0.1, eta: PositiveFloat = 1.0, form: Form = "soft_label"
) -> Float[Tensor, " pairs"]:
    """Refined DPO: external scores say how far each pair's label is to be believed.

    The paper's training code was never released; the default is the loss as its text gives it, the other forms are
    common ways to use the same scores. The name rDPO elsewhere means provably robust DPO, which is `robust` here.

    Args:
        logps: Log-probabilities of both answers under policy and reference, nats, summed over tokens here; and the
            scores of both answers, in any unit, higher is better. A rejected answer may have the higher one.
        beta: Strength of the pull to the reference. Positive.
        eta: Reward in nats of one unit of score. Positive.
        form: What the scores do. With z = βh and t = η (s_w − s_l): soft_label takes σ(t) as the probability that the
            label is right; margin asks for z above t; weight counts a pair σ(t) times; filter gives pairs with t ≤ 0
            the loss 0 (they still count in averages); distilled regresses z on t.

    Returns:
        soft_label: −σ(t) log σ(z) − σ(−t) log σ(−z); margin: −log σ(z − t); weight: −σ(t) log σ(z);
        filter: −[t > 0] log σ(z); distilled: (z − t)². Shape [pairs].

    Raises:
        UsageError: A setting out of range.
        InvalidData: No scores.
        ValueError: No reference.

    Source: Gallego 2024, "Refined direct preference optimization with synthetic data for behavioral alignment of LLMs",
        arXiv:2402.08005; distilled: Fisch et al. 2024, arXiv:2405.19316.
    """
    check_positive(beta=beta, eta=eta)
    refined = choice("form", form, FORMS)
    return refined(beta * log_ratio_difference(logps), eta * score_gap(logps))


@loss
def odpo(
    logps: PairLogps,
    *,
    beta: PositiveFloat = 0.1,
    alpha: NonNegativeFloat = 1.0,
    unordered: Literal["refuse", "swap"] = "refuse",
) -> Float[Tensor, " pairs"]:
    """DPO with an offset: the better the chosen answer's score, the larger the margin asked for.

    Args:
        logps: Log-probabilities of both answers under policy and reference, nats, summed over tokens here; and the
            scores of both answers, higher is better.
        beta: Strength of the pull to the reference. Positive.
        alpha: Offset in nats where the scores differ by e. The offset follows the logarithm of their difference, so
            below a difference of 1 it is negative. At least 0, which is DPO.
        unordered: What happens to a pair whose rejected answer has the higher score, for which the offset is not
            defined: refuse the data, or swap the two answers. Equal scores are refused either way.

    Returns:
        −log σ(βh − α log(s_w − s_l)), shape [pairs]; of a swapped pair, with w and l exchanged throughout.

    Raises:
        UsageError: A setting out of range.
        InvalidData: No scores, or pairs without the order that is needed; the message says which.
        ValueError: No reference.

    Source: Amini et al. 2024, arXiv:2402.10571, with the logarithm as scaling function.
    """
    check_positive(beta=beta)
    check_not_negative(alpha=alpha)
    gap = score_gap(logps)
    choices = {"refuse": (gap, "above", ", or set unordered=swap"), "swap": (gap.abs(), "other than", "")}
    usable, order, remedy = choice("unordered", unordered, choices)
    undefined = ~(usable > 0)
    if undefined.any():
        raise InvalidData(
            f"expected each chosen_score {order} its rejected_score, since the offset is the logarithm of the "
            f"difference; got {named(logps, undefined)} where it is not. Leave these rows out of the data{remedy}."
        )
    z = beta * log_ratio_difference(logps)
    return cross_entropy(gap.sign() * z - alpha * torch.log(usable))
