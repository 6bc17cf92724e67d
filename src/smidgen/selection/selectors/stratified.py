"""A small likeness of the whole: every prefix holds each stratum in its proportion."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from smidgen.selection.features import Features
from smidgen.selection.kinds import ANSWERING, INVERTED, OTHER, REFUSAL, kinds
from smidgen.selection.selectors.base import Reasons, Selection, inner_ranking, rows_of, selector

# In alphabetical order, which decides between strata that are due at the same time.
_KINDS = sorted([REFUSAL, ANSWERING, INVERTED, OTHER])
_TERCILES = ["long", "middle", "short"]
_PLACE_OF_TERCILE = np.array([2, 1, 0])  # of the shortest, the middle and the longest


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
    names, stratum = strata(features, by)
    rows = rows_of(features.idx, inner.order)
    ranked = stratum[rows]
    order = rows[proportional([np.flatnonzero(ranked == number) for number in np.unique(ranked)])]

    def describe(row: int) -> str:
        reason = inner.reasons[row]
        return f"for the share of its stratum ({names[stratum[row]]}): {reason}" if inner.eligible[row] else reason

    return replace(inner, order=features.idx[order], reasons=Reasons(len(features), describe))


def strata(features: Features, by: str) -> tuple[list[str], np.ndarray]:
    """The names of the strata in alphabetical order, and the number of each pair's, int64 [n]."""
    parts: list[tuple[list[str], np.ndarray]] = []
    if by != "length":
        kind = kinds(features)
        parts.append((_KINDS, np.searchsorted(_KINDS, kind)))
    if by != "kind":
        tokens = features.column("chosen_tokens") + features.column("rejected_tokens")
        edges = np.quantile(tokens, [1 / 3, 2 / 3]) if len(tokens) else []
        parts.append((_TERCILES, _PLACE_OF_TERCILE[np.searchsorted(edges, tokens)]))
    names = [", ".join(combination) for combination in itertools.product(*(values for values, _ in parts))]
    return names, np.ravel_multi_index([codes for _, codes in parts], [len(values) for values, _ in parts])


def proportional(queues: Sequence[np.ndarray]) -> np.ndarray:
    """Merge queues so that the first k of n elements hold less than one more or fewer of each than k / n of it.

    The t-th of a queue of m elements may come once k * m / n > t - 1 and must by the first k with k * m / n >= t;
    of those that may, the one that must first comes next. Whole numbers throughout.

    Source: Steiner and Yeomans 1993, "Level schedules for mixed-model, just-in-time processes".

    >>> proportional([np.array([1, 2, 3, 4]), np.array([10, 20])])
    array([ 1,  2, 10,  3,  4, 20])
    """
    sizes = [len(queue) for queue in queues]
    n = sum(sizes)
    # What may come, as (last k at which it must, queue), and what waits, as (first k at which it may, queue).
    ready, waiting = [], [(1, queue) for queue, size in enumerate(sizes) if size]
    taken, source = [0] * len(sizes), np.empty(n, dtype=np.int64)
    for k in range(1, n + 1):
        while waiting and waiting[0][0] <= k:
            _, queue = heapq.heappop(waiting)
            heapq.heappush(ready, (-(-(taken[queue] + 1) * n // sizes[queue]), queue))
        _, queue = heapq.heappop(ready)
        source[k - 1] = queue
        taken[queue] += 1
        if taken[queue] < sizes[queue]:
            heapq.heappush(waiting, (taken[queue] * n // sizes[queue] + 1, queue))
    merged = np.empty(n, dtype=np.int64)
    for number, queue in enumerate(queues):
        merged[source == number] = queue
    return merged
