"""A store of feature columns: measured in groups when first asked for, block by block, into memory-mapped files.

A group's folder is named by a hash of everything that decides its values, so what is found there can be used. Rows are
filled from the first on; the marker that says how many are filled is written after they are on disk. Killed at any
moment and called again, a group goes on behind the last block that was marked, as if nothing had happened.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from smidgen import __version__
from smidgen.data.links import refuse_links_and_pipes
from smidgen.data.tokens import EncodedPair
from smidgen.errors import SmidgenError
from smidgen.pairs import PairTable
from smidgen.runs import content_hash, read_json, room_told, write_json
from smidgen.selection.features import LazyColumns

BLOCK = 1024  # pairs measured between two markers
_MARKER = "filled.json"
_MARK_SHARE = 4  # times as long as marking took, blocks are measured before the next marker

# A block's columns, from the rows of its pairs; every block's columns have the same types and the same width.
MeasureBlock = Callable[[slice], Mapping[str, np.ndarray]]
# Said after every block: the group, how many pairs are done, and how many there are.
OnBlock = Callable[[str, int, int], None]
# Measures blocks of a group in other processes, given its name; they come back in order.
MeasureElsewhere = Callable[[str, Sequence[slice]], Iterator[Mapping[str, np.ndarray]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnGroup:
    """Columns that are measured together.

    Attributes:
        name: Of the group, for people and for its folder.
        columns: What it fills. Names that begin with "_" are for other groups only, never for selectors.
        decides: Gives what the values depend on besides the pairs, JSON-able: fingerprints, prompts, settings.
        prepare: Done once before the first block; is given all columns of all groups, those named "_" too (asking for
            one measures it), and gives back what measures a block.
        on_demand: Whether a run that never asked for its columns does without them in its features file.
        apart: Whether other processes may measure its blocks: it is costly, and `prepare` asks for no column.
    """

    name: str
    columns: tuple[str, ...]
    decides: Callable[[], Any]
    prepare: Callable[[Mapping[str, np.ndarray]], MeasureBlock]
    on_demand: bool = False
    apart: bool = False


class FeatureStore:
    """Columns of one table of pairs in a working folder.

    Args:
        folder: Made where it is missing; holds one folder a group. None for one that goes when the columns do.
        groups: Whose columns may be asked for, no column twice.
        n_rows: Number of pairs.
        pairs: A hash of them, from `pairs_hash`.
        block: Pairs measured between two markers; None for `BLOCK`.
        on_block: Called after every block.
        elsewhere: Measures the blocks of groups that may be measured apart; None for this process.

    Raises:
        ValueError: A column in two groups.
    """

    def __init__(
        self,
        folder: Path | None,
        groups: Sequence[ColumnGroup],
        *,
        n_rows: int,
        pairs: str,
        block: int | None = None,
        on_block: OnBlock = lambda group, done, total: None,
        elsewhere: MeasureElsewhere | None = None,
    ) -> None:
        self._folder = folder or Path(tempfile.mkdtemp(prefix="smidgen-features-"))
        if folder is None:
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._group_of = {name: group for group in groups for name in group.columns}
        if len(self._group_of) != sum(len(group.columns) for group in groups):
            raise ValueError(f"a column belongs to one group; got {[group.columns for group in groups]}")
        self._n_rows, self._pairs, self._block, self._on_block = n_rows, pairs, block or BLOCK, on_block
        self._elsewhere = elsewhere
        self._measured: dict[str, np.ndarray] = {}

    @property
    def columns(self) -> LazyColumns:
        """What selectors may read."""
        return self._view(lambda name: not name.startswith("_"))

    def read(self, name: str) -> np.ndarray:
        """A column, memory-mapped and read-only; its group is measured where that has not been done.

        Raises:
            SmidgenError: The disk has no room, the store is damaged, or a link in it leads out of it.
        """
        if name not in self._measured:
            self._measured |= self._measure(self._group_of[name])
        return self._measured[name]

    def _view(self, shown: Callable[[str], bool]) -> LazyColumns:
        names = [name for name in self._group_of if shown(name)]
        return LazyColumns(names, self._n_rows, self.read, lambda: [name for name in names if self._is_written(name)])

    def _is_written(self, name: str) -> bool:
        return name in self._measured or not self._group_of[name].on_demand

    def _measure(self, group: ColumnGroup) -> dict[str, np.ndarray]:
        decides = {"version": __version__, "pairs": self._pairs, "block": self._block, "group": group.decides()}
        folder = self._folder / f"{group.name}-{content_hash(decides)}"
        # Columns are written in place, and so would be what a link leads to.
        refuse_links_and_pipes(self._folder)
        marker = read_json(folder / _MARKER) if (folder / _MARKER).exists() else {"rows": 0, "shapes": {}}
        if marker["rows"] < self._n_rows:
            starts = range(marker["rows"], self._n_rows, self._block)
            todo = [slice(start, min(start + self._block, self._n_rows)) for start in starts]
            progress = _Progress(folder, marker)
            try:
                for rows, values in zip(todo, self._blocks(group, todo), strict=True):
                    progress.fill(self._n_rows, rows, values, group)
                    self._on_block(group.name, rows.stop, self._n_rows)
            finally:
                progress.mark()
            marker = progress.marker
        return {name: _mapped(folder / f"{name}.npy", "r", marker["shapes"][name]) for name in group.columns}

    def _blocks(self, group: ColumnGroup, todo: Sequence[slice]) -> Iterator[Mapping[str, np.ndarray]]:
        if group.apart and self._elsewhere:
            return self._elsewhere(group.name, todo)
        return map(group.prepare(self._view(lambda name: True)), todo)


def pairs_hash(pairs: PairTable, encoded: Sequence[EncodedPair]) -> str:
    """A hash of all that features know of pairs: idx, texts, tokens and external scores, in order (hex)."""
    digest = hashlib.sha256()
    for pair, tokens in zip(pairs, encoded, strict=True):
        ids = (tokens.prompt, tokens.chosen, tokens.rejected)
        scores = (tokens.chosen_score, tokens.rejected_score)
        row = (pair.idx, pair.prompt_text, pair.chosen_text, pair.rejected_text, *ids, *scores)
        digest.update(json.dumps(row).encode("ascii"))
    return digest.hexdigest()[:16]


class _Progress:
    """A group's columns while they are filled, and the marker that counts the rows that are on disk."""

    def __init__(self, folder: Path, marker: dict[str, Any]) -> None:
        self.marker = marker
        self._folder, self._filled = folder, marker["rows"]
        self._marked_at, self._mark_seconds = time.monotonic(), 0.0

    def fill(self, n_rows: int, rows: slice, block: Mapping[str, np.ndarray], group: ColumnGroup) -> None:
        """Write a block, and mark it where that is worth the while; before the first block, make the files."""
        if block.keys() != set(group.columns):
            raise ValueError(f"group {group.name!r}: expected {sorted(group.columns)}, got {sorted(block)}")
        if not self.marker["shapes"]:
            shapes = {name: [values.dtype.str, n_rows, *values.shape[1:]] for name, values in block.items()}
            for name in shapes:
                _allocate(self._folder / f"{name}.npy", shapes[name])
            self.marker = {"rows": 0, "shapes": shapes}
            write_json(self._folder / _MARKER, self.marker)
        for name, values in block.items():
            found = [values.dtype.str, n_rows, *values.shape[1:]]
            if found != self.marker["shapes"][name]:
                raise ValueError(f"column {name!r}: expected blocks of {self.marker['shapes'][name]}, got {found}")
            # Mapped for this block only: pages that were written would count as the process's memory.
            _mapped(self._folder / f"{name}.npy", "r+", self.marker["shapes"][name])[rows] = values
        self._filled = rows.stop
        # A cheap block is measured in less time than a disk takes to have it for certain.
        if time.monotonic() - self._marked_at >= _MARK_SHARE * self._mark_seconds:
            self.mark()

    def mark(self) -> None:
        """Have the rows that were filled on disk, then the marker that counts them."""
        if self._filled == self.marker["rows"]:
            return
        started = time.monotonic()
        for name in self.marker["shapes"]:
            path = self._folder / f"{name}.npy"
            with room_told(path), path.open("r+b") as file:
                os.fsync(file.fileno())
        self.marker = {**self.marker, "rows": self._filled}
        write_json(self._folder / _MARKER, self.marker)
        self._marked_at = time.monotonic()
        self._mark_seconds = self._marked_at - started


def _allocate(path: Path, shape: Sequence[Any]) -> None:
    """A column's file in its final size, so that a full disk is told here and not by a signal later."""
    with room_told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        np.lib.format.open_memmap(path, mode="w+", dtype=shape[0], shape=tuple(shape[1:])).flush()
        if hasattr(os, "posix_fallocate"):
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _mapped(path: Path, mode: Literal["r", "r+"], shape: Sequence[Any]) -> np.memmap:
    column, cause = None, None
    try:
        column = np.lib.format.open_memmap(path, mode=mode)  # nothing but an array: neither pickles nor archives
    except Exception as error:  # a file's head is read as Python's literals, which may fail in any way
        cause = error
    found = None if column is None else [column.dtype.str, *column.shape]
    if not isinstance(column, np.memmap) or found != [*shape]:
        raise SmidgenError(
            f"the feature store is damaged: expected {[*shape]} in {path}, got {cause or found}. "
            f"Delete {path.parent}; it is measured again."
        ) from cause
    return column
