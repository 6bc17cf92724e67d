"""Any pairs at all: the baseline that every other selector has to beat."""

from __future__ import annotations

from smidgen.selection.features import Features
from smidgen.selection.selectors.base import Reasons, Selection, random_keys, rank_all, selector


@selector
def random(features: Features, seed: int) -> Selection:
    """All pairs in random order.

    Returns:
        Scores are the random keys, hash(seed, idx) in [0, 1).
    """
    reasons = Reasons(len(features), lambda _: "drawn at random from all pairs")
    return rank_all(features, seed, random_keys(features.idx, seed), reasons)
