"""Rows that nearly repeat an earlier one: candidates by MinHash, then the exact similarity, and the twin shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from datasketch import MinHash, MinHashLSH

from smidgen.data.checks import normal_words

SHINGLE_WORDS = 3
# How many hashes a text's signature has, and how often a pair exactly at the threshold may be missed at most.
_HASHES, _MISSED = 125, 1e-4

Shingles = frozenset[tuple[str, ...]]


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
    idx, and each is kept unless it is near to a kept one: no two kept rows are near, up to the candidates that MinHash
    misses; every row left out has a twin that was kept.

    Args:
        views: For each row the texts that are compared, as many for each; candidates come from the first, which
            should tell rows apart best.
        idxs: Distinct; the smaller is kept, so the order of rows never matters.
        threshold: Least similarity, in (0, 1].

    Returns:
        For each row its nearest kept twin, of equals the one of smaller idx; None where it is kept.

    Raises:
        ValueError: A threshold outside (0, 1].

    Source: Broder 1997 (MinHash); Indyk & Motwani 1998 (bands).
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"expected a threshold above 0 and at most 1, got {threshold}; 0.8 is usual.")
    sets = [[shingles(text) for text in texts] for texts in views]
    index: Any = MinHashLSH(num_perm=_HASHES, params=_bands(threshold))
    twins: list[Twin | None] = [None] * len(sets)
    rows = [row for row in sorted(range(len(sets)), key=lambda i: idxs[i]) if all(sets[row])]
    for row, signature in zip(rows, _signatures([sets[row][0] for row in rows]), strict=True):
        near = [
            (similarity, -idxs[other], other)
            for other in index.query(signature)
            if (similarity := _similarity(sets[row], sets[other])) >= threshold
        ]
        if near:
            similarity, _, position = max(near)
            twins[row] = Twin(position, similarity)
        else:
            index.insert(row, signature)
    return twins


def _bands(threshold: float) -> tuple[int, int]:
    """Bands of a signature and hashes in each: the longest bands, so the fewest candidates, that miss few enough.

    Of two texts of similarity s, b bands of r hashes share none with probability (1 - s^r)^b. At .8 that is 25 bands of
    5, which look at one in 125 of the pairs of similarity .2.
    """
    choices = ((_HASHES // rows, rows) for rows in range(_HASHES // 2, 0, -1))
    return next((b, r) for b, r in choices if r == 1 or (1 - threshold**r) ** b <= _MISSED)


def _similarity(a: Sequence[Shingles], b: Sequence[Shingles]) -> float:
    return min(len(x & y) / len(x | y) for x, y in zip(a, b, strict=True))


def _signatures(sets: Sequence[Shingles]) -> Iterator[MinHash]:
    texts = ([" ".join(run).encode("utf-8", "surrogatepass") for run in sorted(runs)] for runs in sets)
    return MinHash.generator(texts, num_perm=_HASHES, seed=1)
