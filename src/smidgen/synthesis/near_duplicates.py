"""Rows that nearly repeat an earlier one: candidates by what two near texts must share, then their similarity.

A text is a sorted array of 64-bit numbers, one for each run of words, so that a million texts take a few gigabytes. Two
runs have the same number by chance once in 2^64.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from smidgen.data.checks import normal_words

SHINGLE_WORDS = 3

Shingles = np.ndarray
"""The numbers of a text's shingles, distinct and rising, uint64."""


@dataclass(frozen=True, slots=True)
class Twin:
    """The kept row that another one nearly repeats.

    Attributes:
        position: Of the kept row, in the order given.
        similarity: The least of the views' Jaccard similarities, in (0, 1].
    """

    position: int
    similarity: float


def shingles(text: str) -> Shingles:
    """Runs of three words, case and punctuation aside; a shorter text is one run, and one without words has none.

    >>> len(shingles("Wait an hour, then bake.")), len(shingles("Wait.")), len(shingles("?!"))
    (3, 1, 0)
    """
    words = normal_words(text)
    numbers = np.fromiter(map(_number_of, words), dtype=np.uint64, count=len(words))
    runs = np.zeros(max(len(words) - SHINGLE_WORDS + 1, min(len(words), 1)), dtype=np.uint64)
    for place in range(min(SHINGLE_WORDS, len(words))):
        runs = _mixed(runs + numbers[place : place + len(runs)])
    return np.unique(runs)


@lru_cache(maxsize=1 << 18)
def _number_of(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def _mixed(state: np.ndarray) -> np.ndarray:
    """splitmix64's output function (Steele, Lea and Flood 2014): a permutation of the 64-bit numbers."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def find_near_duplicates(
    views: Sequence[Sequence[str]], idxs: Sequence[int], *, threshold: float = 0.8
) -> list[Twin | None]:
    """Rows that nearly repeat a row of smaller idx which itself is kept.

    Two rows are near where every one of their views is, by the Jaccard similarity of word shingles. Rows are taken by
    idx, and each is kept unless it is near to a kept one: no two kept rows are near, and every row left out has a twin
    that was kept.

    Args:
        views: For each row the texts that are compared, as many for each; candidates come from the first, which
            should tell rows apart best.
        idxs: Distinct; the smaller is kept, so the order of rows never matters.
        threshold: Least similarity, in (0, 1].

    Returns:
        For each row its nearest kept twin, of equals the one of smaller idx; None where it is kept.

    Raises:
        ValueError: A threshold outside (0, 1].

    Source: Xiao et al. 2008, PPJoin (prefixes and positions). Rows are looked up by size and position at once, so that
    thousands of rows with one answer in common cost a look each, as long as their rarest words differ.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"expected a threshold above 0 and at most 1, got {threshold}; 0.8 is usual.")
    sets = [[shingles(text) for text in texts] for texts in views]
    rows = [row for row in sorted(range(len(sets)), key=lambda i: idxs[i]) if all(map(len, sets[row]))]
    index = _Index(threshold)
    twins: list[Twin | None] = [None] * len(sets)
    for row, ranked in zip(rows, _ranked([sets[row][0] for row in rows]), strict=True):
        near = [
            (similarity, -idxs[other], other)
            for other in index.candidates(ranked)
            if (similarity := _similarity(sets[row], sets[other])) >= threshold
        ]
        if near:
            similarity, _, position = max(near)
            twins[row] = Twin(position, similarity)
        else:
            index.insert(row, ranked)
    return twins


class _Ranked(NamedTuple):
    """How many shingles a text has, and those that other texts have too, with their places among all by rarity."""

    n: int
    shared: list[tuple[int, int]]


class _Index:
    """Kept rows by their rare shingles.

    Let the rarest shingle that two texts share stand at positions i and j of n and m. They share at most the k = min(n
    - i, m - j) from there on, so their similarity is at most k / (n + m - k): where that is below the threshold, no
    row of this shingle, size and position need be looked at, and a position where even m = k is too few never holds.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        # Most shingles have one row; tables for those alone would take more memory than all texts.
        self._first: dict[int, tuple[int, int, int]] = {}
        self._more: defaultdict[int, defaultdict[tuple[int, int], list[int]]] = defaultdict(lambda: defaultdict(list))

    def candidates(self, ranked: _Ranked) -> set[int]:
        """All rows that may be near by this text, and few others."""
        n = ranked.n
        return {
            row
            for i, shingle in self._prefix(ranked)
            for (m, j), rows in self._holders(shingle)
            if self._may_be_near(n, m, min(n - i, m - j))
            for row in rows
        }

    def insert(self, row: int, ranked: _Ranked) -> None:
        for i, shingle in self._prefix(ranked):
            if self._first.setdefault(shingle, (ranked.n, i, row))[2] != row:
                self._more[shingle][ranked.n, i].append(row)

    def _holders(self, shingle: int) -> Iterator[tuple[tuple[int, int], Sequence[int]]]:
        """Size and position with the rows that have this shingle there; a size and position may come twice."""
        if shingle in self._first:
            m, j, row = self._first[shingle]
            yield (m, j), (row,)
            yield from self._more.get(shingle, {}).items()

    def _prefix(self, ranked: _Ranked) -> list[tuple[int, int]]:
        n = ranked.n
        return [(i, shingle) for i, shingle in ranked.shared if self._may_be_near(n, n - i, n - i)]

    def _may_be_near(self, n: int, m: int, shared: int) -> bool:
        return shared / (n + m - shared) >= self._threshold


def _similarity(a: Sequence[Shingles], b: Sequence[Shingles]) -> float:
    return min(_jaccard(x, y) for x, y in zip(a, b, strict=True))


def _jaccard(x: Shingles, y: Shingles) -> float:
    n_shared = len(np.intersect1d(x, y, assume_unique=True))
    return n_shared / (len(x) + len(y) - n_shared)


def _ranked(sets: Sequence[Shingles]) -> Iterator[_Ranked]:
    """Each text's shingles, the rarest first; most stand in one text only, and find nothing."""
    every = np.sort(np.concatenate([np.empty(0, dtype=np.uint64), *sets]))
    shared, counts = np.unique(every[1:][every[1:] == every[:-1]], return_counts=True)
    del every
    # The largest number of all at the end, so that every look-up ends at a place there is.
    shared, counts = np.append(shared, ~np.uint64(0)), np.append(counts, 0)
    for numbers in sets:
        places = np.searchsorted(shared, numbers)
        found = shared[places] == numbers
        known = numbers[found]
        known = known[np.lexsort((known, counts[places[found]]))]
        yield _Ranked(len(numbers), list(enumerate(known.tolist(), start=len(numbers) - len(known))))
