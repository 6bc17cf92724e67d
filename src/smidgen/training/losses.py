"""Preference losses: one pure function each, from log-probabilities to one value a pair, never reduced."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from smidgen.models.logprobs import PairLogps, TokenLogps
from smidgen.settings import Registry

Loss = Callable[..., Float[Tensor, " pairs"]]

loss: Registry[Loss] = Registry("loss")


def log_ratio_difference(logps: PairLogps) -> Float[Tensor, " pairs"]:
    """h = [log π(chosen) − log ref(chosen)] − [log π(rejected) − log ref(rejected)], summed over tokens, nats."""
    ref_chosen, ref_rejected = _reference(logps)
    return (logps.policy_chosen.sum() - ref_chosen.sum()) - (logps.policy_rejected.sum() - ref_rejected.sum())


@loss
def dpo(logps: PairLogps, *, beta: float = 0.1, label_smoothing: float = 0.0) -> Float[Tensor, " pairs"]:
    """Direct preference optimisation; with `label_smoothing` its conservative form (cDPO).

    Args:
        logps: Log-probabilities of both answers under policy and reference, nats, summed over tokens here.
        beta: Strength of the pull to the reference. Positive.
        label_smoothing: Assumed share of flipped labels, 0 ≤ ε < 0.5.

    Returns:
        −(1 − ε) log σ(βh) − ε log σ(−βh), shape [pairs]; ln 2 where policy and reference are equal.

    Source: Rafailov et al. 2023, arXiv:2305.18290, Eq. 7; conservative form: Mitchell 2023, "A note on DPO".
    """
    z = beta * log_ratio_difference(logps)
    return -(1 - label_smoothing) * logsigmoid(z) - label_smoothing * logsigmoid(-z)


@loss
def ipo(logps: PairLogps, *, beta: float = 0.1) -> Float[Tensor, " pairs"]:
    """Identity preference optimisation on summed log-ratios.

    Args:
        logps: Log-probabilities of both answers under policy and reference, nats, summed over tokens here.
        beta: Strength of the pull to the reference; the target of h is 1 / (2 beta). Positive.

    Returns:
        (h − 1 / (2β))², shape [pairs].

    Source: Azar et al. 2023, arXiv:2310.12036, Eq. 17. Summed, as in the paper; TRL averages over tokens.
    """
    return (log_ratio_difference(logps) - 1 / (2 * beta)) ** 2


@loss
def hinge(logps: PairLogps, *, beta: float = 0.1) -> Float[Tensor, " pairs"]:
    """Hinge loss on the implicit reward margin.

    Args:
        logps: Log-probabilities of both answers under policy and reference, nats, summed over tokens here.
        beta: Scale of the implicit reward. Positive.

    Returns:
        max(0, 1 − βh), shape [pairs].

    Source: Zhao et al. 2023 (SLiC-HF), arXiv:2305.10425, in DPO's parametrisation as in Liu et al. 2023 (RSO).
    """
    return (1 - beta * log_ratio_difference(logps)).clamp(min=0)


def _reference(logps: PairLogps) -> tuple[TokenLogps, TokenLogps]:
    if logps.ref_chosen is None or logps.ref_rejected is None:
        raise ValueError("this loss needs reference log-probabilities; expected ref_chosen and ref_rejected, got None")
    return logps.ref_chosen, logps.ref_rejected
