"""The pairs most like a given one: what the eye wants beside a pair that was kept, or was not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from smidgen.selection.features import Features
from smidgen.selection.texts import words
from smidgen.selection.twins import nearest_twins
from smidgen.web.catalogue import Catalogue, Listed


@dataclass(frozen=True, slots=True)
class Twin:
    """The most alike of some pairs: `among` says which, `likeness` how alike, 0 to 1."""

    among: str
    pair: Listed
    likeness: float


class Likeness:
    """Finds twins: by the features' text vectors, as the subset's table does; without features by shared words.

    Args:
        catalogue: All pairs.
        features: Of those that were ranked; None where none was.
        kept: The idx of the subset.
    """

    def __init__(self, catalogue: Catalogue, features: Features | None, kept: frozenset[int]) -> None:
        self._catalogue = catalogue
        self._kept = kept
        self._features = features if features is not None and "text_vector" in features.columns else None
        if self._features is not None:
            self._row_of = {int(idx): row for row, idx in enumerate(self._features.idx)}
            self._is_kept = np.isin(self._features.idx, list(kept))

    @property
    def measure(self) -> str:
        """What `likeness` is, for people."""
        if self._features is not None:
            return "Likeness is that of the words, weighted by how rare they are: 1 is the same text."
        return "Likeness is the share of both pairs’ words that they have in common."

    def twins(self, pair: Listed) -> list[Twin]:
        """The nearest of the kept and of the left out, the other side first; where none was chosen, of all."""
        if self._features is not None and pair.idx in self._row_of:
            everything = np.ones(len(self._features), dtype=bool)
            masks = {"kept": self._is_kept, "left out": ~self._is_kept} if self._kept else {"all": everything}
            # First the one on the other side: it is what a reader asks for.
            order = sorted(masks, key=lambda among: (among == "kept") == (pair.idx in self._kept))
            return [twin for among in order if (twin := self._nearest(pair.idx, among, masks[among]))]
        return self._by_words(pair) if self._features is None and not self._kept else []

    def _nearest(self, idx: int, among: str, mask: np.ndarray) -> Twin | None:
        assert self._features is not None
        vectors = self._features.columns["text_vector"]
        rows, likeness = nearest_twins(vectors, self._features.idx, np.array([self._row_of[idx]]), mask)
        if rows[0] < 0:
            return None
        found = self._catalogue.pair(int(self._features.idx[rows[0]]))
        return None if found is None else Twin(among, found, float(likeness[0]))

    def _by_words(self, pair: Listed) -> list[Twin]:
        own = _vocabulary(pair)
        best: Twin | None = None
        for idx in self._catalogue.sharing_words(sorted(own)):
            other = self._catalogue.pair(idx)
            if other is None or idx == pair.idx:
                continue
            theirs = _vocabulary(other)
            likeness = len(own & theirs) / len(own | theirs)
            if best is None or likeness > best.likeness:
                best = Twin("all", other, likeness)
        return [] if best is None else [best]


def _vocabulary(pair: Listed) -> frozenset[str]:
    return frozenset(words(" ".join(text or "" for text in (pair.prompt, pair.chosen, pair.rejected))))
