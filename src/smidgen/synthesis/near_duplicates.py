"""Rows that nearly repeat an earlier one: candidates by what two near texts must share, then the exact similarity."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from smidgen.data.checks import normal_words

SHINGLE_WORDS = 3

Shingles = frozenset[tuple[str, ...]]
# A text's shingles as numbers, the rarest first.
Ranked = list[int]


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

    >>> sorted(shingles("Wait an hour, then bake."))
    [('an', 'hour', 'then'), ('hour', 'then', 'bake'), ('wait', 'an', 'hour')]
    """
    words = normal_words(text)
    if len(words) <= SHINGLE_WORDS:
        return frozenset([words] if words else [])
    return frozenset(words[i : i + SHINGLE_WORDS] for i in range(len(words) - SHINGLE_WORDS + 1))


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
    rows = [row for row in sorted(range(len(sets)), key=lambda i: idxs[i]) if all(sets[row])]
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


class _Index:
    """Kept rows by their rare shingles.

    Let the rarest shingle that two texts share stand at positions i and j of n and m. They share at most the k = min(n
    - i, m - j) from there on, so their similarity is at most k / (n + m - k): where that is below the threshold, no
    row of this shingle, size and position need be looked at, and a position where even m = k is too few never holds.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._rows: defaultdict[int, defaultdict[tuple[int, int], list[int]]] = defaultdict(lambda: defaultdict(list))

    def candidates(self, ranked: Ranked) -> set[int]:
        """All rows that may be near by this text, and few others."""
        n = len(ranked)
        return {
            row
            for i, shingle in enumerate(self._prefix(ranked))
            for (m, j), rows in self._rows.get(shingle, {}).items()
            if self._may_be_near(n, m, min(n - i, m - j))
            for row in rows
        }

    def insert(self, row: int, ranked: Ranked) -> None:
        for i, shingle in enumerate(self._prefix(ranked)):
            self._rows[shingle][len(ranked), i].append(row)

    def _prefix(self, ranked: Ranked) -> Ranked:
        n = len(ranked)
        return [shingle for i, shingle in enumerate(ranked) if self._may_be_near(n, n - i, n - i)]

    def _may_be_near(self, n: int, m: int, shared: int) -> bool:
        return shared / (n + m - shared) >= self._threshold


def _similarity(a: Sequence[Shingles], b: Sequence[Shingles]) -> float:
    return min(len(x & y) / len(x | y) for x, y in zip(a, b, strict=True))


def _ranked(sets: Sequence[Shingles]) -> Iterator[Ranked]:
    counts = Counter(run for runs in sets for run in runs)
    rank = {run: i for i, run in enumerate(sorted(counts, key=lambda run: (counts[run], run)))}
    return (sorted(rank[run] for run in runs) for runs in sets)
