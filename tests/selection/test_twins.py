"""Twins: blocks find what comparing everything with everything finds, whatever the order of rows."""

from __future__ import annotations

import numpy as np
import pytest

from smidgen.selection import twins
from smidgen.selection.neighbours import UNIT
from smidgen.selection.twins import nearest_twins


def made(n: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors with copies among them and a few rows of zeros, idx without order, and which rows may be found."""
    rng = np.random.default_rng(seed)
    vectors = np.abs(rng.normal(size=(n, 6))).astype(np.float32)
    vectors[n // 2 : n // 2 + n // 4] = vectors[: n // 4]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[rng.choice(n, 3, replace=False)] = 0
    return vectors, rng.permutation(4 * n)[:n], rng.random(n) < 0.6


def naive(vectors: np.ndarray, idx: np.ndarray, rows: np.ndarray, among: np.ndarray) -> list[tuple[int, float]]:
    found = []
    for row in rows:
        products = {
            other: round(float(vectors[row] @ vectors[other]) * UNIT) / UNIT
            for other in np.flatnonzero(among)
            if other != row
        }
        best = min(products, key=lambda other: (-products[other], idx[other]))
        found.append((int(idx[best]), products[best]) if products[best] > 0 else (None, 0.0))
    return found


@pytest.mark.parametrize(("asked", "block"), [(1, 1), (7, 5), (1024, 4096)])
def test_blocks_equal_the_naive_loop(asked: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twins, "_ASKED", asked)
    monkeypatch.setattr(twins, "_BLOCK", block)
    vectors, idx, among = made(60)
    rows = np.arange(60)
    found, likeness = nearest_twins(vectors, idx, rows, among)
    expected = naive(vectors, idx, rows, among)
    assert [int(idx[row]) if row >= 0 else None for row in found] == [twin for twin, _ in expected]
    np.testing.assert_allclose(likeness, [value for _, value in expected], atol=2 / UNIT)
    assert any(twin is None for twin, _ in expected) and any(value > 0.999 for _, value in expected)


def test_row_order_does_not_matter() -> None:
    vectors, idx, among = made(50, seed=1)
    rows = np.flatnonzero(~among)
    found, likeness = nearest_twins(vectors, idx, rows, among)
    shuffle = np.random.default_rng(2).permutation(50)
    place = np.argsort(shuffle)
    again, same = nearest_twins(vectors[shuffle], idx[shuffle], place[rows], among[shuffle])
    np.testing.assert_array_equal(np.where(again >= 0, idx[shuffle][again], -1), np.where(found >= 0, idx[found], -1))
    np.testing.assert_allclose(same, likeness, atol=2 / UNIT)


def test_nobody_to_be_alike() -> None:
    vectors, idx, _ = made(8)
    found, likeness = nearest_twins(vectors, idx, np.arange(8), np.zeros(8, dtype=bool))
    assert found.tolist() == [-1] * 8
    assert likeness.tolist() == [0.0] * 8
