"""Pairs by the length of their answers."""

from __future__ import annotations

from typing import Literal

import numpy as np

from smidgen.selection.features import Features
from smidgen.selection.selectors.base import Reasons, Selection, rank_all, selector


@selector
def length(
    features: Features,
    seed: int,
    *,
    measure: Literal["chosen", "rejected", "difference"] = "chosen",
    first: Literal["longest", "shortest"] = "longest",
) -> Selection:
    """By a count of answer tokens; ties in random order.

    Args:
        measure: Tokens of the chosen answer, of the rejected one, or chosen minus rejected.
        first: Which end comes first. For "difference", "shortest" starts where the rejected answer is longest.

    Returns:
        Scores are the count, or its negative for "shortest".

    Source: Zhao et al. 2024, "Long is more for alignment", arXiv:2402.04833 (longest responses first).
    """
    if measure == "difference":
        tokens = features.column("chosen_tokens") - features.column("rejected_tokens")
        wording = "chosen answer is {:+d} tokens longer than the rejected one"
    else:
        tokens = features.column(f"{measure}_tokens")
        wording = f"{measure} answer has {{}} tokens"
    scores = tokens.astype(np.float64) * (1 if first == "longest" else -1)
    reasons = Reasons(len(features), lambda row: f"{wording.format(tokens[row])}, {first} first")
    return rank_all(features, seed, scores, reasons)
