"""Refusal contrast from both sides, the pairs that stand for most of their pool first."""

from __future__ import annotations

import heapq

import numpy as np

from smidgen.selection.features import Features
from smidgen.selection.selectors.base import Selection, selector
from smidgen.selection.selectors.two_sided import two_sided


@selector
def contrast_cover(features: Features, seed: int, *, refuse_share: float = 0.5) -> Selection:
    """The pools and quota of `contrast`, each pool in greedy facility-location order.

    The next pair is the one that raises sum_j max_{i taken} confidence_i * similarity(i, j) the most, j running over
    the pool: early pairs stand for many others, and a second copy of a prompt waits until the rest is covered.

    Args:
        refuse_share: Share of pairs that teach refusing, in every prefix, 0 to 1.

    Returns:
        Scores are the confidence: agreement of the pattern lists times certainty about the prompt.

    Source: greedy on a submodular function, Nemhauser, Wolsey and Fisher 1978; lazy evaluation, Minoux 1978.
    """
    return two_sided(features, seed, cover, refuse_share=refuse_share, how="stands for pairs not yet covered")


def cover(vectors: np.ndarray, confidence: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Lazy greedy facility location, positions [m]; equal gains in the order of `keys`."""
    covered = np.zeros(len(keys))

    def reach(i: int) -> np.ndarray:
        return confidence[i] * np.clip(vectors @ vectors[i], 0, 1)

    # A gain only falls as more is covered, so a stale one is an upper bound: re-evaluate the top until it stays on top.
    queue = [(-float(reach(i).sum()), float(keys[i]), i, 0) for i in range(len(keys))]
    heapq.heapify(queue)
    order: list[int] = []
    while queue:
        _, key, i, evaluated_at = heapq.heappop(queue)
        if evaluated_at == len(order):
            order.append(i)
            covered = np.maximum(covered, reach(i))
        else:
            gain = float(np.maximum(reach(i) - covered, 0).sum())
            heapq.heappush(queue, (-gain, key, i, len(order)))
    return np.array(order, dtype=np.int64)
