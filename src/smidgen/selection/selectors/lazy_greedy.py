"""Greedy maximisation of a submodular function, with as few evaluations as it takes."""

from __future__ import annotations

import heapq
from collections.abc import Callable

import numpy as np


def lazy_greedy(
    gains: np.ndarray,
    gain: Callable[[int], float],
    take: Callable[[int], None],
    keys: np.ndarray,
    *,
    picks: int | None = None,
) -> np.ndarray:
    """The first `picks` elements, each the one that adds the most to those before it; equal gains by `keys`.

    Args:
        gains: What each element adds to nothing, [n].
        gain: What an element adds to those taken; must not grow as more are taken.
        take: Called with each element as it is taken.
        keys: Order of elements with equal gains, smallest first, [n].
        picks: How many to take; by default, or if there are fewer, all.

    Returns:
        Positions, the same as of the greedy algorithm that evaluates every gain at every step.

    Source: Minoux 1978, "Accelerated greedy algorithms for maximizing submodular set functions".
    """
    # A gain only falls as more is taken, so a stale one is an upper bound: re-evaluate the top until it stays on top.
    queue = [(-value, key, i, 0) for i, (value, key) in enumerate(zip(gains.tolist(), keys.tolist(), strict=True))]
    heapq.heapify(queue)
    order: list[int] = []
    n = len(keys) if picks is None else min(picks, len(keys))
    while len(order) < n:
        _, key, i, evaluated_at = heapq.heappop(queue)
        if evaluated_at == len(order):
            order.append(i)
            take(i)
        else:
            heapq.heappush(queue, (-gain(i), key, i, len(order)))
    return np.array(order, dtype=np.int64)
