"""The graph of nearest neighbours: exact on few rows, near enough on many, always symmetric."""

from __future__ import annotations

import numpy as np
import pytest

from smidgen.selection import neighbours as module
from smidgen.selection.neighbours import UNIT, neighbour_graph
from smidgen.selection.representations import unit


def clustered(n: int = 300, clusters: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    centres = unit(rng.normal(size=(clusters, 16)))
    return unit(centres[rng.integers(0, clusters, n)] + 0.2 * rng.normal(size=(n, 16))), rng.random(n)


def naive(x: np.ndarray, neighbours: int) -> np.ndarray:
    likeness = x @ x.T
    np.fill_diagonal(likeness, 2)
    kept = np.zeros(likeness.shape, dtype=bool)
    np.put_along_axis(kept, np.argsort(-likeness, axis=1)[:, : neighbours + 1], True, axis=1)
    np.fill_diagonal(likeness, 1)
    return np.where((kept | kept.T) & (likeness > 0), likeness, 0)


@pytest.mark.parametrize("block", [7, 1024])
def test_equals_all_against_all(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    x, keys = clustered()
    found = neighbour_graph(x, keys, neighbours=10).toarray() / UNIT
    np.testing.assert_allclose(found, naive(x, 10), atol=2 / UNIT)


def test_in_cells_most_neighbours_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_EXACT_ROWS", 100)
    monkeypatch.setattr(module, "_CELL_ROWS", 50)
    x, keys = clustered()
    found, exact = neighbour_graph(x, keys, neighbours=10).toarray(), naive(x, 10)
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_array_equal(np.diag(found), UNIT)
    assert ((found > 0) & (exact > 0)).sum() > 0.8 * (exact > 0).sum()
    rows, columns = found.nonzero()
    np.testing.assert_allclose(found[rows, columns] / UNIT, (x @ x.T)[rows, columns], atol=2 / UNIT)


def test_what_is_unlike_everything_stands_for_itself() -> None:
    x = np.array([[1.0, 0], [-1.0, 0], [0, 0]])
    graph = neighbour_graph(x, np.zeros(3), neighbours=2).toarray()
    np.testing.assert_array_equal(graph, np.eye(3) * UNIT)
