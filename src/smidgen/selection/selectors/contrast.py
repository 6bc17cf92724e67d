"""Refusal contrast from both sides, the clearest pairs first and no two alike early on."""

from __future__ import annotations

import numpy as np

from smidgen.selection.features import Features
from smidgen.selection.selectors.base import Selection, selector
from smidgen.selection.selectors.two_sided import two_sided


@selector
def contrast(features: Features, seed: int, *, refuse_share: float = 0.5) -> Selection:
    """Pairs that teach refusing harm and pairs that teach answering the harmless, in a fixed proportion.

    Within each pool the next pair is the one with the highest confidence * (1 - similarity to the nearest pair
    already taken); ties in random order.

    Args:
        refuse_share: Share of pairs that teach refusing, in every prefix, 0 to 1.

    Returns:
        Scores are the confidence: agreement of the pattern lists times certainty about the prompt.

    Source: maximal marginal relevance, Carbonell and Goldstein 1998, as a product instead of a sum.
    """
    vectors = features.column("text_vector")

    def rank_pool(rows: np.ndarray, confidence: np.ndarray, keys: np.ndarray) -> np.ndarray:
        return spread_out(vectors[rows], confidence, keys)

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
