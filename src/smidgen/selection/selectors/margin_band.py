"""Pairs from one band of the implicit reward margin."""

from __future__ import annotations

from typing import Literal

import numpy as np

from smidgen.selection.features import Features
from smidgen.selection.margins import implicit_margin
from smidgen.selection.selectors.base import Reasons, Selection, rank_all, selector


@selector
def margin_band(
    features: Features,
    seed: int,
    *,
    band: Literal["low", "middle", "high"] = "high",
    signed: bool = True,
    per_token: bool = False,
) -> Selection:
    """By the margin h = (log aligned - log ref)(chosen) - (log aligned - log ref)(rejected), in nats, without beta.

    Args:
        band: "low" takes the smallest margins first, "high" the largest, "middle" those nearest the median.
        signed: With False the size |h| counts: a pair the aligned model clearly disagrees with is then as easy as
            one it clearly agrees with. With True mislabelled pairs have the lowest margins.
        per_token: Each answer's log-ratio averaged over its tokens; otherwise summed.

    Returns:
        Scores are h, -h, or minus the distance to the median of h.

    Raises:
        UsageError: There are no log-probabilities of an aligned model, or none of the reference.

    Source: difficulty-based selection sorts the signed h upwards; the published results disagree on the best band.
    """
    h = implicit_margin(features, per_token=per_token)
    margins = h if signed else np.abs(h)
    distance = {"low": margins, "high": -margins, "middle": np.abs(margins - np.median(margins))}[band]
    unit = "nats a token" if per_token else "nats"
    kind = "margin" if signed else "size of margin"
    reasons = Reasons(len(features), lambda row: f"{kind} {margins[row]:.3g} {unit}, {band} band first")
    return rank_all(features, seed, -distance, reasons)
