"""Which rows of unit vectors are alike: a sparse graph of nearest neighbours, near linear in rows."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

UNIT = 1 << 20  # a similarity of 1; whole numbers, so that sums do not depend on the order of additions
_BLOCK = 1024  # rows compared at one time
_EXACT_ROWS = 32_768  # up to here every row is compared with every other
_CELL_ROWS = 4096
_MOST = (1 << 31) - 1  # columns and similarities stay below


def neighbour_graph(vectors: np.ndarray, keys: np.ndarray, *, neighbours: int) -> csr_array:
    """Similarities of rows that are among each other's nearest, either way.

    Up to 32,768 rows the nearest are exact. Beyond, rows are compared only within cells: each row joins the two
    nearest of n / 4096 rows drawn by `keys`, and what shares no cell is not found. A cell of more than 16,384 rows is
    split at random, so that time stays near linear however many rows are alike.

    Args:
        vectors: Unit vectors, [n, d].
        keys: Random numbers that draw the centres of cells, [n].
        neighbours: How many a row finds, itself not counted; those that find it come on top.

    Returns:
        Symmetric [n, n], whole numbers in units of 1 / UNIT: the inner product where positive; on the diagonal UNIT.
    """
    n = len(vectors)
    kept = min(neighbours + 1, n)
    # Place `kept` is each row itself; what is not known to be alike has similarity 0.
    columns = np.repeat(np.arange(n, dtype=np.int32)[:, None], kept + 1, axis=1)
    values = np.zeros((n, kept + 1), dtype=np.int32)
    values[:, kept] = UNIT
    for cell in [np.arange(n)] if n <= _EXACT_ROWS else _cells(vectors, keys):
        inside = vectors[cell]
        for start in range(0, len(cell), _BLOCK):
            rows = cell[start : start + _BLOCK]
            found, likeness = _nearest(inside[start : start + _BLOCK], inside, kept)
            found = cell[found].astype(np.int32)
            likeness[found == rows[:, None]] = 0
            columns[rows, :kept], values[rows, :kept] = _merged(
                (columns[rows, :kept], values[rows, :kept]), (found, likeness)
            )
    graph = csr_array((values.ravel(), columns.ravel(), np.arange(n + 1) * (kept + 1)), shape=(n, n))
    del columns, values
    graph.eliminate_zeros()
    graph.sort_indices()
    # Two rows may find each other, or one the other; rounding may tell their two similarities apart.
    return csr_array(graph.maximum(graph.T.tocsr()))


def _nearest(rows: np.ndarray, others: np.ndarray, kept: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of the others are nearest to each row, in no order, and their similarities, 0 where not positive."""
    import torch  # here, so that a selector's name and settings do not load it; its top k is seven times numpy's

    largest, nearest = torch.from_numpy(rows @ others.T).topk(min(kept, len(others)), sorted=False)
    return nearest.numpy(), np.rint(np.maximum(largest.numpy(), 0) * UNIT).astype(np.int32)


def _merged(
    known: tuple[np.ndarray, np.ndarray], found: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest of two lists of columns and similarities a row, as many as the first has, none twice."""
    kept = known[0].shape[1]
    if found[0].shape[1] == kept and not known[1].any():
        return found
    columns, values = (np.hstack(parts).astype(np.int64) for parts in zip(known, found, strict=True))
    # Whole numbers sort much faster than pairs of them; of a column that is there twice the larger value comes first.
    by_column = np.sort((columns << 32) | (_MOST - values), axis=1)
    columns, values = by_column >> 32, _MOST - (by_column & _MOST)
    values[:, 1:][columns[:, 1:] == columns[:, :-1]] = 0
    best = np.partition((values << 32) | columns, -kept, axis=1)[:, -kept:]
    return (best & _MOST).astype(np.int32), (best >> 32).astype(np.int32)


def _cells(vectors: np.ndarray, keys: np.ndarray) -> list[np.ndarray]:
    """The rows of each cell, rising."""
    centres = vectors[np.sort(np.argsort(keys)[: -(-len(vectors) // _CELL_ROWS)])]
    nearest = np.empty((len(vectors), 2), dtype=np.int64)
    for start in range(0, len(vectors), _BLOCK):
        likeness = vectors[start : start + _BLOCK] @ centres.T
        nearest[start : start + _BLOCK] = np.argpartition(likeness, -2, axis=1)[:, -2:]
    by_cell = np.argsort(nearest.ravel(), kind="stable")
    ends = np.cumsum(np.bincount(nearest.ravel(), minlength=len(centres)))
    return [piece for cell in np.split(by_cell // 2, ends[:-1]) for piece in _pieces(cell, keys)]


def _pieces(cell: np.ndarray, keys: np.ndarray) -> list[np.ndarray]:
    n_pieces = -(-len(cell) // (4 * _CELL_ROWS))
    shuffled = cell[np.argsort(keys[cell], kind="stable")]
    return [np.sort(shuffled[piece::n_pieces]) for piece in range(n_pieces)]
