"""Twins: of other pairs the one whose text is most alike, block by block, so that memory does not grow with pairs."""

from __future__ import annotations

import numpy as np

from smidgen.selection.neighbours import UNIT

_ASKED = 1024  # rows that are compared with a block at one time
_BLOCK = 4096  # rows of the block


def nearest_twins(
    vectors: np.ndarray, idx: np.ndarray, rows: np.ndarray, among: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The most alike of some pairs for each of others; every pair is compared with every other.

    Args:
        vectors: Unit vectors, [n, d]; may be memory-mapped, and is read once for every 1,024 of `rows`.
        idx: The pairs' idx, [n]; of twins equally alike, the one of smallest idx is taken.
        rows: Whose twins are wanted, [k].
        among: Which rows may be a twin, bool [n]; a row is never its own.

    Returns:
        Rows of the twins, int64 [k], and the inner products, to 2^-20, float64 [k]. Where none has a product above 0
        (nothing in common, or nobody to be alike), the row is -1 and the product 0.
    """
    twins, likeness = np.full(len(rows), -1, dtype=np.int64), np.zeros(len(rows), dtype=np.int64)
    by_idx = np.flatnonzero(among)
    by_idx = by_idx[np.argsort(idx[by_idx])]
    for first in range(0, len(rows), _ASKED):
        part = slice(first, first + _ASKED)
        asked = np.asarray(vectors[rows[part]], dtype=np.float32)
        # In the order of idx, so that the first of equals is the one of smallest idx.
        for start in range(0, len(by_idx), _BLOCK):
            block = by_idx[start : start + _BLOCK]
            found = np.rint(asked @ np.asarray(vectors[block], dtype=np.float32).T * UNIT).astype(np.int64)
            found[rows[part, None] == block] = -1
            best = found.argmax(axis=1)
            most = found[np.arange(len(asked)), best]
            better = most > likeness[part]
            twins[part][better], likeness[part][better] = block[best[better]], most[better]
    return twins, likeness / UNIT
