"""A small likeness of the whole: every prefix holds each stratum in its proportion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from smidgen.selection.features import Features
from smidgen.selection.kinds import kind_of
from smidgen.selection.selectors.base import Selection, inner_ranking, rows_of, selector

_TERCILES = np.array(["short", "middle", "long"])


@selector
def stratified(
    features: Features,
    seed: int,
    *,
    by: Literal["kind", "length", "kind_and_length"] = "kind_and_length",
    then: str = "random",
) -> Selection:
    """Proportional over strata, interleaved: among the first k pairs each stratum has its share of k, within one.

    Args:
        by: What a stratum is: the kind of pair (what it teaches, by its features), the tercile of the tokens of both
            answers together, or both.
        then: Ranks the pairs of each stratum: a selector, as `name` or `name:key=value;key=value`. Pairs that it
            leaves out count in no stratum.

    Returns:
        Scores are the other selector's.

    Source: proportional allocation, Neyman 1934; as an order, Tijdeman 1980, "The chairman assignment problem".
    """
    inner = inner_ranking(then)(features, seed)
    rows, names = rows_of(features.idx, inner.order), strata(features, by)
    ranked = names[rows]
    order = rows[proportional([np.flatnonzero(ranked == name) for name in np.unique(ranked)])]
    reasons = [
        f"for the share of its stratum ({name}): {reason}" if kept else reason
        for name, reason, kept in zip(names, inner.reasons, inner.eligible, strict=True)
    ]
    return replace(inner, order=features.idx[order], reasons=reasons)


def strata(features: Features, by: str) -> np.ndarray:
    """The name of each pair's stratum, [n]."""
    parts: list[np.ndarray] = []
    if by != "length":
        parts.append(np.array(kind_of(features), dtype=object))
    if by != "kind":
        tokens = features.column("chosen_tokens") + features.column("rejected_tokens")
        edges = np.quantile(tokens, [1 / 3, 2 / 3]) if len(tokens) else []
        parts.append(_TERCILES[np.searchsorted(edges, tokens)])
    return np.array([", ".join(names) for names in zip(*parts, strict=True)], dtype=str)


def proportional(queues: Sequence[np.ndarray]) -> np.ndarray:
    """Merge queues so that the first k of n elements hold less than one more or fewer of each than k / n of it.

    The t-th of a queue of m elements may come once k * m / n > t - 1 and must by the first k with k * m / n >= t;
    of those that may, the one that must first comes next. Whole numbers throughout.

    Source: Steiner and Yeomans 1993, "Level schedules for mixed-model, just-in-time processes".

    >>> proportional([np.array([1, 2, 3, 4]), np.array([10, 20])])
    array([ 1,  2, 10,  3,  4, 20])
    """
    sizes, taken = np.array([len(queue) for queue in queues], dtype=np.int64), np.zeros(len(queues), dtype=np.int64)
    n, merged = int(sizes.sum()), []
    for k in range(1, n + 1):
        deadlines = np.where(taken * n < k * sizes, -(-(taken + 1) * n // sizes), n + 1)
        queue = int(np.argmin(deadlines))
        merged.append(queues[queue][taken[queue]])
        taken[queue] += 1
    return np.array(merged, dtype=np.int64)
