"""Refusal contrast from both sides, the pairs that stand for most of their pool first."""

from __future__ import annotations

import numpy as np

from smidgen.selection.features import Features
from smidgen.selection.selectors.base import Selection, at_rows, selector
from smidgen.selection.selectors.facility_location import cover_sparsely
from smidgen.selection.selectors.lazy_greedy import lazy_greedy
from smidgen.selection.selectors.two_sided import two_sided
from smidgen.settings import Share

EXACT_ROWS = 4096
NEIGHBOURS = 128


@selector
def contrast_cover(features: Features, seed: int, *, refuse_share: Share = 0.5) -> Selection:
    """The pools and quota of `contrast`, each pool in greedy facility-location order.

    The next pair is the one that raises sum_j max_{i taken} confidence_i * similarity(i, j) the most, j running over
    the pool: early pairs stand for many others, and a second copy of a prompt waits until the rest is covered. In a
    pool of more than 4,096 pairs a pair stands for its 128 nearest and those that have it among theirs, as in
    `facility_location`.

    Args:
        refuse_share: Share of pairs that teach refusing, in every prefix, 0 to 1.

    Returns:
        Scores are the confidence: agreement of the pattern lists times certainty about the prompt.

    Source: greedy on a submodular function, Nemhauser, Wolsey and Fisher 1978.
    """
    vectors = features.column("text_vector")

    def rank_pool(rows: np.ndarray, confidence: np.ndarray, keys: np.ndarray) -> np.ndarray:
        if len(rows) <= EXACT_ROWS:
            return cover(vectors[rows], confidence, keys)
        return cover_sparsely(at_rows(vectors, rows), keys, neighbours=NEIGHBOURS, weights=confidence)

    return two_sided(features, seed, rank_pool, refuse_share=refuse_share, how="stands for pairs not yet covered")


def cover(vectors: np.ndarray, confidence: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Lazy greedy facility location, positions [m]; equal gains in the order of `keys`."""
    covered = np.zeros(len(keys))
    reach = np.empty((len(keys), len(keys)))
    for i, row in enumerate(vectors):
        reach[i] = confidence[i] * np.clip(vectors @ row, 0, 1)

    def gain(i: int) -> float:
        return float(np.maximum(reach[i] - covered, 0).sum())

    def take(i: int) -> None:
        np.maximum(covered, reach[i], out=covered)

    return lazy_greedy(np.array([gain(i) for i in range(len(keys))]), gain, take, keys)
