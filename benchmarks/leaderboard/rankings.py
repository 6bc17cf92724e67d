"""The rankings that compete in a leaderboard: which they are, what they order, and what finding them takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from smidgen.errors import UsageError
from smidgen.runs import read_json, write_json
from smidgen.selection.features import WORK, Features, LazyColumns
from smidgen.selection.selectors import Selection, selector

# How a selector enters; one that is not named here enters once, as it is.
ENTRIES = {
    "ches_filter": ("ches_filter:then=contrast",),
    "facility_location": ("facility_location", "facility_location:pools=all"),
    "less": ("less", "less:pools=all"),
    "margin_band": ("margin_band:band=low", "margin_band:band=middle", "margin_band:band=high"),
    "stratified": ("stratified", "stratified:then=contrast_cover"),
}
# What runs in a selector's place where the data lacks its columns.
VARIANTS = {"dual_margin": "dual_margin:external=null"}


@dataclass(frozen=True, slots=True)
class Ranked:
    """A selector's rankings, one a seed, and what finding one takes.

    Attributes:
        spec: What ran; a variant of what was asked for where that lacked a column.
        orders: The first pairs of each ranking, as many as any size or look at them needs.
        seconds: Of the processor, for ranking and for measuring every group of columns that it read.
        note: Why a variant ran.
    """

    spec: str
    orders: list[tuple[int, ...]]
    seconds: float
    note: str = ""


class MeasuringTime:
    """Processor seconds that each group of columns took, kept in a file over interruptions."""

    def __init__(self, out: Path) -> None:
        self._path, self._work = out / "measuring.json", out / WORK
        self.seconds: dict[str, float] = read_json(self._path) if self._path.exists() else {}
        self._since = time.process_time()

    def start(self) -> None:
        self._since = time.process_time()

    def on_block(self, group: str, done: int, total: int) -> None:
        now = time.process_time()
        self.seconds[group] = self.seconds.get(group, 0.0) + now - self._since
        self._since = now
        write_json(self._path, self.seconds)

    def of(self, columns: set[str]) -> float:
        """Of the groups that these columns belong to: the store keeps a folder a group, `name-hash`."""
        folders = (path.parent.name for name in columns for path in self._work.glob(f"*/{name}.npy"))
        return sum(self.seconds.get(group, 0.0) for group in {folder.rpartition("-")[0] for folder in folders})


def competing(names: Sequence[str]) -> list[str]:
    """The specifications that compete: those named, or all that are registered, as `ENTRIES` has them."""
    return list(names) or [spec for name in selector.names() for spec in ENTRIES.get(name, (name,))]


def rank(spec: str, features: Features, seeds: Sequence[int], most: int, measuring: MeasuringTime) -> Ranked:
    """Rank with every seed; with the selector's variant where a column is missing.

    Raises:
        UsageError: A column is missing and there is no variant.
    """
    read: set[str] = set()

    def column(name: str) -> np.ndarray:
        read.add(name)
        measuring.start()
        return features.columns[name]

    seen = Features(features.idx, LazyColumns(list(features.columns), len(features), column, list))

    def order(seed: int) -> Selection:
        return selector.bind(spec)(seen, seed)

    note = ""
    try:
        order(seeds[0])
    except UsageError:
        if spec not in VARIANTS:
            raise
        spec, note = VARIANTS[spec], "a column is missing on these pairs"
        order(seeds[0])
    # Once more with all columns at hand, so that ranking and measuring are timed apart.
    started = time.process_time()
    first = order(seeds[0])
    seconds = time.process_time() - started + measuring.of(read)
    found = [first, *(order(seed) for seed in seeds[1:])]
    return Ranked(spec, [tuple(int(idx) for idx in f.order[:most]) for f in found], seconds, note)
