"""Refusal contrast from both sides, the clearest pairs first and no two alike early on."""

from __future__ import annotations

import numpy as np

from smidgen.selection.features import Features
from smidgen.selection.selectors.base import Selection, at_rows, selector
from smidgen.selection.selectors.block_greedy import EXACT_ROWS, block_greedy
from smidgen.selection.selectors.two_sided import two_sided
from smidgen.settings import Share

_PICKS = 32_768
_STEP = 256  # taken rows that others are compared with together


@selector
def contrast(features: Features, seed: int, *, refuse_share: Share = 0.5) -> Selection:
    """Pairs that teach refusing harm and pairs that teach answering the harmless, in a fixed proportion.

    Within each pool the next pair is the one with the highest confidence * (1 - similarity to the nearest pair
    already taken); ties in random order. Of a pool of more than 32,768 pairs that many are ordered so, one by one; the
    rest follow by the same product, with the nearest of those.

    Args:
        refuse_share: Share of pairs that teach refusing, in every prefix, 0 to 1.

    Returns:
        Scores are the confidence: agreement of the pattern lists times certainty about the prompt.

    Source: maximal marginal relevance, Carbonell and Goldstein 1998, as a product instead of a sum.
    """
    vectors = features.column("text_vector")

    def rank_pool(rows: np.ndarray, confidence: np.ndarray, keys: np.ndarray) -> np.ndarray:
        order = spread_out if len(rows) <= EXACT_ROWS else spread_out_in_blocks
        return order(at_rows(vectors, rows), confidence, keys)

    return two_sided(features, seed, rank_pool, refuse_share=refuse_share, how="clear and unlike those before it")


def spread_out(vectors: np.ndarray, confidence: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Greedy order by confidence * (1 - highest similarity to a pair already taken), positions [m]."""
    nearest = np.zeros(len(keys))
    left = np.ones(len(keys), dtype=bool)
    order = []
    for _ in keys:
        gains = np.where(left, confidence * (1 - nearest), -np.inf)
        ties = np.flatnonzero(gains == gains.max())
        best = ties[np.argmin(keys[ties])]
        order.append(best)
        left[best] = False
        nearest = np.maximum(nearest, np.clip(vectors @ vectors[best], 0, 1))
    return np.array(order, dtype=np.int64)


def spread_out_in_blocks(
    vectors: np.ndarray, confidence: np.ndarray, keys: np.ndarray, *, picks: int = _PICKS
) -> np.ndarray:
    """`spread_out` for many rows: the same order up to rounding and to `picks`, the rest as `block_greedy` says."""
    return block_greedy(_Unlike(vectors, confidence, picks), confidence, keys, picks=picks)


class _Unlike:
    """Confidence * (1 - similarity to the nearest row taken); each row remembers how many it was compared with."""

    def __init__(self, vectors: np.ndarray, confidence: np.ndarray, picks: int) -> None:
        self.vectors, self.confidence = vectors, confidence
        self.taken = np.empty((min(picks, len(vectors)), vectors.shape[1]), dtype=vectors.dtype)
        self.n_taken = 0
        self.nearest, self.compared = np.zeros(len(vectors)), np.zeros(len(vectors), dtype=np.int64)

    def look_at(self, rows: np.ndarray) -> np.ndarray:
        self.rows, self.inside = rows, self.vectors[rows]
        compared = self.compared[rows]
        for start in range(int(compared.min(initial=self.n_taken)), self.n_taken, _STEP):
            stop = min(start + _STEP, self.n_taken)
            late = np.flatnonzero(compared < stop)
            self._compare(late, (self.inside[late] @ self.taken[start:stop].T).max(axis=1))
        return self._gains()

    def take(self, position: int) -> np.ndarray:
        self.taken[self.n_taken] = self.inside[position]
        self.n_taken += 1
        self._compare(slice(None), self.inside @ self.inside[position])
        return self._gains()

    def _compare(self, places: np.ndarray | slice, likeness: np.ndarray) -> None:
        rows = self.rows[places]
        self.nearest[rows] = np.maximum(self.nearest[rows], np.clip(likeness, 0, 1))

    def _gains(self) -> np.ndarray:
        self.compared[self.rows] = self.n_taken
        return self.confidence[self.rows] * (1 - self.nearest[self.rows])
