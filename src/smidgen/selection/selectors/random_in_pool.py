"""Random pairs of the contrast pools: shows what composition alone is worth."""

from __future__ import annotations

import numpy as np

from smidgen.selection.features import Features
from smidgen.selection.selectors.base import Selection, selector
from smidgen.selection.selectors.two_sided import two_sided
from smidgen.settings import Share


@selector
def random_in_pool(features: Features, seed: int, *, refuse_share: Share = 0.5) -> Selection:
    """The pools and quota of `contrast`, each pool in random order.

    Args:
        refuse_share: Share of pairs that teach refusing, in every prefix, 0 to 1.

    Returns:
        Scores are the confidence, which the order does not use.
    """
    return two_sided(features, seed, _shuffled, refuse_share=refuse_share, how="drawn at random from the pool")


def _shuffled(rows: np.ndarray, confidence: np.ndarray, keys: np.ndarray) -> np.ndarray:
    del rows, confidence
    return np.argsort(keys, kind="stable")
