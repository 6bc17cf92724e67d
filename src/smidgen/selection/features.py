"""Features: what a selector may know about each pair, as plain columns, given or measured when first asked for.

Selectors read columns and nothing else: never a pair's `meta`, never a text. Files stay at the edge, in
`write_features` and `read_features`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from smidgen.errors import InvalidData, UsageError
from smidgen.pairs import PairTable
from smidgen.runs import atomic_write
from smidgen.selection.texts import PatternList, count_words, prompt_and_answers, text_columns, text_names

if TYPE_CHECKING:
    from smidgen.data.tokens import EncodedPair
    from smidgen.models.load import LanguageModel

# The working folder of a run's features, beside what the run leaves; what it holds is named by content, and it may be a
# link to a store that several runs share.
WORK = "features.work"
_BLOCK_BYTES = 64 << 20  # of a column, looked at or written at one time
# Only the working folder holds these: a file that people keep has no use for megabytes a thousand pairs.
_NEVER_WRITTEN = ("gradient",)
_ALIGNED = "Give --aligned, a model to compare with, or --train-aligned, to have one trained."
_REMEDIES = {
    "aligned_": _ALIGNED,
    "task_alignment": _ALIGNED,
    "datamodel": "It comes from a study's own trials: rank by it in `smidgen minimize`, not in `smidgen select`.",
    "external_": "Give pairs that all have a chosen_score and a rejected_score.",
}


class LazyColumns(Mapping[str, np.ndarray]):
    """Columns that are there by name, and by value once somebody asks for one.

    Args:
        names: Of all columns.
        n_rows: Of every column.
        read: Gives a column, measuring it where that has not been done.
        written: Says which columns belong into a file: all, but for the costly ones that nobody has asked for.
    """

    def __init__(
        self,
        names: Collection[str],
        n_rows: int,
        read: Callable[[str], np.ndarray],
        written: Callable[[], Collection[str]],
    ) -> None:
        self._names = tuple(names)
        self.n_rows = n_rows
        self._read = read
        self.written = written

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self:
            raise KeyError(name)
        return self._read(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def take(self, rows: np.ndarray) -> LazyColumns:
        """The same columns at these rows, still unmeasured where they are."""
        n_rows = len(np.arange(self.n_rows)[rows])
        return LazyColumns(self._names, n_rows, lambda name: self._read(name)[rows], self.written)


@dataclass(frozen=True, slots=True)
class Features:
    """One row a pair: row i of every column belongs to the pair `idx[i]`.

    Attributes:
        idx: The pairs' positions in the full dataset, int64 [n], distinct.
        columns: Arrays whose first axis has length n; `LazyColumns` are measured when they are first asked for.

    Raises:
        ValueError: Repeated idx, or a column of another length.
    """

    idx: np.ndarray
    columns: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        if len(np.unique(self.idx)) != len(self.idx):
            raise ValueError("features need distinct idx, one row a pair")
        if isinstance(self.columns, LazyColumns):
            lengths = {"all": self.columns.n_rows}
        else:
            lengths = {name: len(values) for name, values in self.columns.items()}
        for name, length in lengths.items():
            if length != len(self.idx):
                raise ValueError(f"column {name!r}: expected {len(self.idx)} rows, got {length}")

    def __len__(self) -> int:
        return len(self.idx)

    def column(self, name: str) -> np.ndarray:
        """The column of this name.

        Raises:
            UsageError: No such column; the message lists those there are.
            InvalidData: Values that are no finite numbers; the message says in how many rows.
        """
        if name not in self.columns:
            remedy = next((r for start, r in _REMEDIES.items() if name.startswith(start)), "Measure again.")
            raise UsageError(f"no feature {name!r}; these exist: {', '.join(sorted(self.columns))}. {remedy}")
        values = self.columns[name]
        if values.dtype.kind == "f" and (n_bad := _not_finite(values)):
            raise InvalidData(
                f"feature {name!r}: expected finite numbers, got NaN or infinity in {n_bad} of {len(values)} rows. "
                "Leave these pairs out, or measure the features again."
            )
        return values

    def take(self, rows: np.ndarray) -> Features:
        """The features of these rows (positions or a mask), in the order given."""
        if isinstance(self.columns, LazyColumns):
            return Features(self.idx[rows], self.columns.take(rows))
        return Features(self.idx[rows], {name: values[rows] for name, values in self.columns.items()})


def _not_finite(values: np.ndarray) -> int:
    """In how many rows a value is NaN or infinite; in blocks, so that a large column is never copied whole."""
    return sum(
        int(np.count_nonzero(~np.isfinite(values[rows]).reshape(rows.stop - rows.start, -1).all(axis=1)))
        for rows in _blocks(values)
    )


def _blocks(values: np.ndarray) -> list[slice]:
    size = max(1, _BLOCK_BYTES // max(1, values.itemsize * int(np.prod(values.shape[1:]))))
    return [slice(start, min(start + size, len(values))) for start in range(0, len(values), size)]


def compute_features(
    pairs: PairTable,
    encoded: Sequence[EncodedPair],
    *,
    pattern_lists: Sequence[PatternList],
    harmfulness: np.ndarray,
    ref_logps: tuple[np.ndarray, np.ndarray] | None = None,
    aligned_logps: tuple[np.ndarray, np.ndarray] | None = None,
) -> Features:
    """Columns in memory, without a store: those of the texts, and what was measured elsewhere.

    Args:
        pairs: The checked pairs.
        encoded: The same pairs as tokens, in the same order.
        pattern_lists: Refusal patterns; the list named "common" also fills `chosen_refuses` and `rejected_refuses`.
        harmfulness: Of each pair's prompt, 0 to 1, [n].
        ref_logps: Summed log-probabilities of the chosen and the rejected answers under the reference, nats, [n] each.
        aligned_logps: The same under an aligned model.

    Raises:
        ValueError: `encoded` is not these pairs in this order.
        UsageError: No pattern list named "common".
    """
    check_order(pairs, encoded)
    text_names(pattern_lists)
    counts = count_words(map(prompt_and_answers, pairs))
    columns = text_columns(pairs, encoded, pattern_lists=pattern_lists, counts=counts)
    columns["prompt_harmfulness"] = np.asarray(harmfulness, dtype=np.float64)
    for model, logps in (("ref", ref_logps), ("aligned", aligned_logps)):
        if logps is not None:
            columns[f"{model}_chosen_logps"], columns[f"{model}_rejected_logps"] = map(np.asarray, logps)
    return Features(np.array(pairs.idxs, dtype=np.int64), columns)


def check_order(pairs: PairTable, encoded: Sequence[EncodedPair]) -> None:
    """ValueError where `encoded` is not these pairs in this order."""
    if [pair.idx for pair in encoded] != pairs.idxs:
        raise ValueError("encoded pairs must be the table's pairs in the table's order; encode the table as it is")


def logps_columns(lm: LanguageModel, encoded: Sequence[EncodedPair], **engine: Any) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities of chosen and rejected answers under a model: summed over tokens, nats, float64 [n] each.

    Args:
        engine: `layout` and `dtype` of `score_answers`.
    """
    from smidgen.models.logprobs import score_answers  # here, so that reading features does not load torch

    prompts, answers = [pair.prompt for pair in encoded], [(pair.chosen, pair.rejected) for pair in encoded]
    scored = score_answers(lm, prompts, answers, **engine)
    chosen, rejected = (
        np.array([answers[side].sum(dtype=np.float64) for answers in scored], dtype=np.float64) for side in (0, 1)
    )
    return chosen, rejected


def write_features(features: Features, path: Path | str, *, group_rows: int = 16_384) -> None:
    """Write Parquet, whole or not at all, a group of rows at a time; a second axis becomes fixed-size lists.

    Of columns that are measured when asked for, the costly ones are left out where nobody has asked; per-pair
    gradients always are.
    """
    columns = features.columns
    names = columns.written() if isinstance(columns, LazyColumns) else columns
    kept = {name: columns[name] for name in sorted(names) if name not in _NEVER_WRITTEN}
    schema = _table(features.idx[:0], {name: values[:0] for name, values in kept.items()}).schema
    with atomic_write(path, "wb") as file, pq.ParquetWriter(file, schema) as writer:
        for start in range(0, len(features), group_rows):
            rows = slice(start, start + group_rows)
            writer.write_table(_table(features.idx[rows], {name: values[rows] for name, values in kept.items()}))


def _table(idx: np.ndarray, columns: Mapping[str, np.ndarray]) -> pa.Table:
    arrays = {"idx": pa.array(idx)}
    for name, values in columns.items():
        if values.ndim == 1:
            arrays[name] = pa.array(values)
        else:
            flat = pa.array(np.ascontiguousarray(values).reshape(-1))
            arrays[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    return pa.table(arrays)


def read_features(path: Path | str, *, vectors: bool = True) -> Features:
    """Read what `write_features` wrote, value for value.

    Args:
        path: Of the file.
        vectors: Whether columns with a second axis are read, nearly all of the file.

    Raises:
        InvalidData: No such file, or not a features file.
    """
    try:
        with pq.ParquetFile(path) as file:
            kept = [f.name for f in file.schema_arrow if vectors or not pa.types.is_fixed_size_list(f.type)]
            columns = _read_columns(file, kept)
        if "idx" not in columns or columns["idx"].dtype != np.int64:
            raise ValueError(f"got no whole numbers idx among {', '.join(columns) or 'no columns'}")
        return Features(columns.pop("idx"), columns)
    except (OSError, pa.ArrowException, ValueError, OverflowError, KeyError, MemoryError) as error:
        said = " ".join(str(error).split())[:300]
        raise InvalidData(f"expected a features file at {path}: {said}. Compute the features again.") from error


def _read_columns(file: pq.ParquetFile, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Columns in their final place, filled a group of rows at a time, so that none is ever there twice."""
    columns: dict[str, np.ndarray] = {}
    for name in names:
        none = _to_numpy(file.schema_arrow.empty_table().column(name))
        columns[name] = np.empty((file.metadata.num_rows, *none.shape[1:]), dtype=none.dtype)
    start = 0
    for number in range(file.num_row_groups):
        group = file.read_row_group(number, columns=names)
        rows = slice(start, start + len(group))
        for name, column in columns.items():
            found = _to_numpy(group.column(name))
            if found.dtype != column.dtype:
                raise ValueError(f"got {found.dtype} among the {column.dtype} of {name}")
            column[rows] = found
        start = rows.stop
    if start != file.metadata.num_rows:
        raise ValueError(f"got {start} rows where its end counts {file.metadata.num_rows}")
    return columns


def _to_numpy(column: pa.ChunkedArray) -> np.ndarray:
    array = column.combine_chunks()
    if pa.types.is_fixed_size_list(array.type):
        return array.flatten().to_numpy(zero_copy_only=False).reshape(-1, array.type.list_size)
    return array.to_numpy(zero_copy_only=False)
