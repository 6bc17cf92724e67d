"""Parquet as records, batch by batch; a text that stands in many rows is held once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smidgen.data.checks import BadRow
from smidgen.data.packed import bomb, most_unpacked
from smidgen.data.records import Columns, Record, as_json, record_or_problem, require_columns
from smidgen.errors import InvalidData

# A table's rows cost memory even where they hold nothing.
_ROW_BYTES = 64
# A text that came before costs time and no memory: a part of what a new one counts.
_REPEATED = 16
_MOST_TEXTS = 4096
_BATCH_ROWS = 1024


def read_parquet(path: Path, columns: Columns) -> Iterator[Record]:
    """The records of a Parquet file, see `readers.read_records`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            require_columns(path, file.schema_arrow.names, columns)
            row, left = 0, most_unpacked(path)
            texts: dict[str, str] = {}
            for batch in file.iter_batches(_BATCH_ROWS):
                for found in _batch_rows(batch):
                    # Counted as it is used: in the file, and in Arrow's memory, equal texts may stand there once.
                    record, weight = _held_once(found, texts)
                    left -= weight
                    if left < 0:
                        raise bomb(path)
                    row += 1
                    yield row, record
    except (pa.ArrowException, OSError, ValueError) as error:
        said = " ".join(str(error).split())
        raise InvalidData(
            f"{path}: expected a Parquet file, got one that cannot be read ({said}); save it anew."
        ) from None


def _batch_rows(batch: Any) -> Iterator[Any]:
    try:
        rows = batch.to_pylist()
    except (ValueError, OverflowError):  # one row spoils a whole batch, so look at each alone
        rows = [record_or_problem(lambda i=i: batch.slice(i, 1).to_pylist()[0]) for i in range(len(batch))]
    for row in rows:
        yield row if isinstance(row, BadRow) else {name: as_json(value) for name, value in row.items()}


def _held_once(value: Any, texts: dict[str, str]) -> tuple[Any, int]:
    """A value whose long texts are those of earlier rows where they are equal, and about how many bytes it adds.

    Args:
        value: Of a row.
        texts: Long texts of earlier rows, changed in place; a system prompt may stand in every row.
    """
    if isinstance(value, str) and len(value) > _ROW_BYTES:
        if value in texts:
            return texts[value], len(value) // _REPEATED
        if len(texts) == _MOST_TEXTS:
            texts.clear()
        texts[value] = value
    if isinstance(value, str | bytes):
        return value, len(value)
    if isinstance(value, dict):
        parts = {name: _held_once(part, texts) for name, part in value.items()}
        return {name: part for name, (part, _) in parts.items()}, _ROW_BYTES + sum(n for _, n in parts.values())
    if isinstance(value, list):
        listed = [_held_once(part, texts) for part in value]
        return [part for part, _ in listed], _ROW_BYTES + sum(n for _, n in listed)
    return value, 1
