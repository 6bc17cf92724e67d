"""Rows that nearly repeat an earlier one: candidates by what two near texts must share, then their similarity.

A text is a sorted run of 64-bit numbers, one for each run of words, all texts' end to end, and the index of rows is
columns of whole numbers: a million texts take a few gigabytes. Two runs have the same number by chance once in 2^64.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from smidgen.data.checks import normal_words

SHINGLE_WORDS = 3
_PARTS = 16  # in which numbers are counted, so that no sorted copy of them all is needed
_LOOKED_UP = 4096  # texts whose shingles are looked up together

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
    views: Iterable[Sequence[str]], idxs: Sequence[int], *, threshold: float = 0.8
) -> list[Twin | None]:
    """Rows that nearly repeat a row of smaller idx which itself is kept.

    Two rows are near where every one of their views is, by the Jaccard similarity of word shingles. Rows are taken by
    idx, and each is kept unless it is near to a kept one: no two kept rows are near, and every row left out has a twin
    that was kept.

    Args:
        views: For each row the texts that are compared, as many for each, looked at once and not kept; candidates come
            from the first, which should tell rows apart best.
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
    columns = _shingled(views)
    twins: list[Twin | None] = [None] * len(idxs)
    if not columns:
        return twins
    rarity = _rarity(columns[0].numbers)
    index = _Index(threshold, columns[0].sizes, len(rarity[0]))
    for row, places in _rarest_first(columns[0], sorted(range(len(idxs)), key=lambda i: idxs[i]), *rarity):
        own = [texts[row] for texts in columns]
        if not all(map(len, own)):
            continue
        prefix = index.prefix(row, places)
        near = [
            (similarity, -idxs[other], other)
            for other in index.candidates(row, prefix)
            if (similarity := _similarity(own, [texts[other] for texts in columns])) >= threshold
        ]
        if near:
            similarity, _, position = max(near)
            twins[row] = Twin(position, similarity)
        else:
            index.insert(row, prefix)
    return twins


class _Texts:
    """Many texts' shingles, end to end: an array for each would add a tenth to them."""

    def __init__(self) -> None:
        self._numbers, self._ends = array("Q"), array("q", [0])

    def append(self, numbers: Shingles) -> None:
        self._numbers.frombytes(numbers.tobytes())
        self._ends.append(len(self._numbers))

    @property
    def numbers(self) -> np.ndarray:
        """All of them; from now on nothing can be appended."""
        return np.frombuffer(self._numbers, dtype=np.uint64)

    @property
    def sizes(self) -> list[int]:
        """How many shingles each text has."""
        return np.diff(self._ends).tolist()

    def __getitem__(self, row: int) -> Shingles:
        return self.numbers[self._ends[row] : self._ends[row + 1]]


def _shingled(views: Iterable[Sequence[str]]) -> list[_Texts]:
    """The shingles of every row's first text, of every row's second text, and so on; nothing where there is no row."""
    columns: list[_Texts] = []
    for texts in views:
        columns = columns or [_Texts() for _ in texts]
        for column, text in zip(columns, texts, strict=True):
            column.append(shingles(text))
    return columns


Prefix = list[tuple[int, int]]
"""Positions among a text's shingles, the rarest first, with the shingles there as their places in `_rarity`."""


class _Index:
    """Kept rows by their rare shingles.

    Let the rarest shingle that two texts share stand at positions i and j of n and m. They share at most the k = min(n
    - i, m - j) from there on, so their similarity is at most k / (n + m - k): where that is below the threshold, no
    row of this shingle, size and position need be looked at, and a position where even m = k is too few never holds.

    Args:
        threshold: Least similarity.
        sizes: How many shingles each row has.
        n_shared: How many shingles stand in several rows.
    """

    def __init__(self, threshold: float, sizes: Sequence[int], n_shared: int) -> None:
        self._threshold, self._sizes = threshold, sizes
        # Rows of one shingle, size and position are a group. Lists linked by number, in columns: as tables of Python's
        # own a million texts' groups would take more memory than the texts.
        self._first_group = array("i", [-1]) * n_shared
        self._row, self._position, self._next_group, self._first_further = (array("i") for _ in range(4))
        self._further, self._next_further = array("i"), array("i")
        self._prefix_lengths: dict[int, int] = {}

    def prefix(self, row: int, places: np.ndarray) -> Prefix:
        """Where rows that may be near have to meet this one, of the shingles that other rows have too."""
        n = self._sizes[row]
        if n not in self._prefix_lengths:
            self._prefix_lengths[n] = sum(self._may_be_near(n, n - i, n - i) for i in range(n))
        # What stands in this row only comes first, and finds nothing.
        n_alone = n - len(places)
        return list(enumerate(places[: max(0, self._prefix_lengths[n] - n_alone)].tolist(), start=n_alone))

    def candidates(self, row: int, prefix: Prefix) -> set[int]:
        """All kept rows that may be near by this text, and few others."""
        n = self._sizes[row]
        found: set[int] = set()
        for i, place in prefix:
            group = self._first_group[place]
            while group >= 0:
                other = self._row[group]
                m = self._sizes[other]
                if self._may_be_near(n, m, min(n - i, m - self._position[group])):
                    found.add(other)
                    further = self._first_further[group]
                    while further >= 0:
                        found.add(self._further[further])
                        further = self._next_further[further]
                group = self._next_group[group]
        return found

    def insert(self, row: int, prefix: Prefix) -> None:
        for i, place in prefix:
            group = self._group(place, self._sizes[row], i)
            if group >= 0:
                self._further.append(row)
                self._next_further.append(self._first_further[group])
                self._first_further[group] = len(self._further) - 1
            else:
                self._row.append(row)
                self._position.append(i)
                self._first_further.append(-1)
                self._next_group.append(self._first_group[place])
                self._first_group[place] = len(self._row) - 1

    def _group(self, place: int, size: int, position: int) -> int:
        """The group of this shingle, size and position; -1 where there is none."""
        group = self._first_group[place]
        while group >= 0 and (self._position[group] != position or self._sizes[self._row[group]] != size):
            group = self._next_group[group]
        return group

    def _may_be_near(self, n: int, m: int, shared: int) -> bool:
        return shared / (n + m - shared) >= self._threshold


def _similarity(a: Sequence[Shingles], b: Sequence[Shingles]) -> float:
    return min(_jaccard(x, y) for x, y in zip(a, b, strict=True))


def _jaccard(x: Shingles, y: Shingles) -> float:
    n_shared = len(np.intersect1d(x, y, assume_unique=True))
    return n_shared / (len(x) + len(y) - n_shared)


def _rarity(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The shingles that stand in several texts, rising, and how many texts beyond the first have each.

    A number above all others closes them, so that every look-up ends at a place there is.
    """
    shared, counts = [], []
    for part in range(_PARTS):
        low, high = (np.uint64(((part + end) << 64) // _PARTS - end) for end in (0, 1))
        every = np.sort(numbers[(numbers >= low) & (numbers <= high)])
        found, n = np.unique(every[1:][every[1:] == every[:-1]], return_counts=True)
        shared.append(found)
        counts.append(n.astype(np.int32))
    return np.concatenate([*shared, [~np.uint64(0)]]), np.concatenate([*counts, np.zeros(1, dtype=np.int32)])


def _rarest_first(
    texts: _Texts, rows: Sequence[int], shared: np.ndarray, counts: np.ndarray
) -> Iterator[tuple[int, np.ndarray]]:
    """Each of these rows with the places of its shared shingles, the rarest first, of equals the smallest."""
    for start in range(0, len(rows), _LOOKED_UP):
        block = rows[start : start + _LOOKED_UP]
        own = [texts[row] for row in block]
        numbers = np.concatenate(own)
        # In rising order, since each look-up at another end of a long array waits for the memory.
        rising = np.argsort(numbers)
        places = np.empty(len(numbers), dtype=np.int64)
        places[rising] = np.searchsorted(shared, numbers[rising])
        ends = np.cumsum([len(one) for one in own])
        for row, one, found in zip(block, own, np.split(places, ends[:-1]), strict=True):
            known = found[shared[found] == one]
            yield row, known[np.argsort(counts[known], kind="stable")]
