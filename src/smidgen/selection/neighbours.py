"""Which rows of unit vectors are alike: a sparse graph of nearest neighbours, near linear in rows."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

UNIT = 1 << 20  # a similarity of 1; whole numbers, so that sums do not depend on the order of additions
_BLOCK = 1024  # rows compared at one time
_EXACT_ROWS = 32_768  # up to here every row is compared with every other
_CELL_ROWS = 4096


def neighbour_graph(vectors: np.ndarray, keys: np.ndarray, *, neighbours: int) -> csr_array:
    """Similarities of rows that are among each other's nearest, either way.

    Up to 32,768 rows the nearest are exact. Beyond, rows are compared only within cells: each row joins the two
    nearest of n / 4096 rows drawn by `keys`, and what shares no cell is not found.

    Args:
        vectors: Unit vectors, [n, d].
        keys: Random numbers that draw the centres of cells, [n].
        neighbours: How many a row finds, itself not counted; those that find it come on top.

    Returns:
        Symmetric [n, n], int64, in units of 1 / UNIT: the inner product where positive; on the diagonal UNIT.
    """
    n = len(vectors)
    cells = [np.arange(n)] if n <= _EXACT_ROWS else _cells(vectors, keys)
    parts = [_nearest_in(vectors, cell, neighbours) for cell in cells]
    rows, columns, values = (np.concatenate(part) for part in zip(*parts, strict=True))
    apart = (rows != columns) & (values > 0)
    rows, columns, values = rows[apart], columns[apart], values[apart]
    diagonal = np.arange(n)
    codes = np.concatenate([rows * n + columns, columns * n + rows, diagonal * n + diagonal])
    values = np.concatenate([values, values, np.full(n, UNIT)])
    # Two rows may find each other, in more than one cell; rounding may tell their two similarities apart.
    by_code = np.lexsort((values, codes))
    last = by_code[np.append(np.diff(codes[by_code]) > 0, True)]
    return csr_array((values[last], np.divmod(codes[last], n)), shape=(n, n))


def _nearest_in(vectors: np.ndarray, cell: np.ndarray, neighbours: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and similarities of the nearest within a cell, each row itself among them."""
    import torch  # here, so that a selector's name and settings do not load it; its top k is seven times numpy's

    inside, kept = vectors[cell], min(neighbours + 1, len(cell))
    columns = np.empty((len(cell), kept), dtype=np.int64)
    values = np.empty((len(cell), kept), dtype=np.int64)
    for start in range(0, len(cell), _BLOCK):
        likeness = torch.from_numpy(inside[start : start + _BLOCK] @ inside.T)
        largest, nearest = likeness.topk(kept, sorted=False)
        columns[start : start + _BLOCK] = nearest.numpy()
        values[start : start + _BLOCK] = np.rint(largest.numpy() * UNIT)
    return np.repeat(cell, kept), cell[columns.ravel()], values.ravel()


def _cells(vectors: np.ndarray, keys: np.ndarray) -> list[np.ndarray]:
    centres = vectors[np.sort(np.argsort(keys)[: -(-len(vectors) // _CELL_ROWS)])]
    nearest = np.empty((len(vectors), 2), dtype=np.int64)
    for start in range(0, len(vectors), _BLOCK):
        likeness = vectors[start : start + _BLOCK] @ centres.T
        nearest[start : start + _BLOCK] = np.argpartition(likeness, -2, axis=1)[:, -2:]
    return [np.flatnonzero((nearest == centre).any(axis=1)) for centre in range(len(centres))]
