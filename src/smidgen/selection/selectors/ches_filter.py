"""Pairs whose two answers the model can tell apart, ranked by another selector."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from smidgen.errors import UsageError
from smidgen.selection.features import Features
from smidgen.selection.selectors.base import Reasons, Selection, inner_ranking, random_keys, rows_of, selector
from smidgen.settings import PositiveShare


@selector
def ches_filter(features: Features, seed: int, *, keep: PositiveShare = 0.5, then: str = "random") -> Selection:
    """Leave out the pairs whose answers are most alike inside the model, and rank the rest by another selector.

    Preferring one of two answers with similar hidden states pushes both down, and what is alike to neither up. The
    filter comes first, so that a quota of the other selector holds among the pairs that are left.

    Args:
        keep: Share of pairs with the lowest length-normalised CHES score that stay; ties at the limit in random order.
        then: Ranks them: a selector, as `name` or `name:key=value;key=value`.

    Returns:
        Scores are the other selector's; 0 for the pairs that the filter leaves out.

    Raises:
        UsageError: A share outside 0 to 1, or an unknown selector.

    Source: Razin et al. 2024, arXiv:2410.08847 (keeps the lowest 5 %).
    """
    if not 0 < keep <= 1:
        raise UsageError(f"expected keep above 0 and up to 1, got {keep}; 0.5 leaves out the more alike half.")
    ches = features.column("ches")
    n_kept = max(1, round(keep * len(features)))
    lowest = np.sort(np.lexsort((random_keys(features.idx, seed), ches))[:n_kept])
    inner = inner_ranking(then)(features.take(lowest), seed)
    eligible, scores = np.zeros(len(features), dtype=bool), np.zeros(len(features))
    eligible[rows_of(features.idx, inner.order)] = True
    scores[lowest] = inner.scores
    place = np.full(len(features), -1)
    place[lowest] = np.arange(n_kept)

    def describe(row: int) -> str:
        if place[row] < 0:
            return f"left out: answers too alike, CHES {ches[row]:.3g}"
        return f"{inner.reasons[place[row]]}; CHES {ches[row]:.3g}"

    return replace(inner, eligible=eligible, scores=scores, reasons=Reasons(len(features), describe))
