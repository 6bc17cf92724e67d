"""The implicit reward margin of pairs, from the log-probabilities of an aligned model and its reference."""

from __future__ import annotations

import numpy as np

from smidgen.selection.features import Features


def implicit_margin(features: Features, *, per_token: bool = False) -> np.ndarray:
    """h = (log aligned - log ref)(chosen) - (log aligned - log ref)(rejected), nats, without beta, float64 [n].

    Args:
        per_token: Each answer's log-ratio averaged over its tokens; otherwise summed.

    Raises:
        UsageError: There are no log-probabilities of an aligned model, or none of the reference.

    Source: Rafailov et al. 2023, arXiv:2305.18290, Eq. 5 (the implicit reward is beta times a log-ratio).
    """
    ratios = {}
    for side in ("chosen", "rejected"):
        aligned, ref = features.column(f"aligned_{side}_logps"), features.column(f"ref_{side}_logps")
        ratios[side] = (aligned - ref) / (features.column(f"{side}_tokens") if per_token else 1)
    return np.asarray(ratios["chosen"] - ratios["rejected"], dtype=np.float64)
