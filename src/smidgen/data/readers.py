"""Data files as records, one at a time: a line number with its columns, or with what is wrong there.

A reader never stops at a bad record. It raises only where nothing after it can be trusted or nothing is there at all.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from sys import intern
from typing import IO, Any

from smidgen.data.checks import MAX_FIELD_CHARACTERS, BadRow, excerpt
from smidgen.errors import InvalidData, UsageError

Record = tuple[int, Any]
"""A one-based line and what stands there: a dict of columns, another JSON value, or a `BadRow`."""

TEXT_COLUMNS = ("prompt", "chosen", "rejected")
Columns = Sequence[str | tuple[str, ...]]
"""Columns that a table must have; a tuple names one that goes by several names, the usual one first."""
LEAST_LIMIT_BYTES = 256 * 2**20
"""Any file may unpack to so much."""
_MOST_RATIO = 100
# A table's rows cost memory even where they hold nothing.
_ROW_BYTES = 64
_BATCH_ROWS = 1024
_DAMAGE = (EOFError, gzip.BadGzipFile, zlib.error)
PAIR_COLUMNS = (("chosen", "chosen_response", "generations"), ("rejected", "rejected_response", "ratings"))


def read_records(path: Path, *, columns: Columns = PAIR_COLUMNS) -> Iterator[Record]:
    """The records of one data file, by its suffix; a `.gz` after it is fine.

    Args:
        path: A .jsonl, .json (a list, or one object a line), .csv or .parquet file.
        columns: What a CSV header or Parquet schema must name.

    Raises:
        UsageError: A suffix with no reader.
        InvalidData: An empty or unreadable file, or a table without those columns.
    """
    suffix = data_suffix(path)
    if suffix is None:
        raise UsageError(
            f"{path}: expected a data file ending in {', '.join(SUFFIXES)} (or one of these and .gz), "
            f"got {path.suffix or 'no suffix'!r}. Rename or convert it."
        )
    if path.stat().st_size == 0:
        raise _empty(path)
    n_records = 0
    for record in SUFFIXES[suffix](path, columns):
        n_records += 1
        yield record
    if not n_records:
        raise _empty(path)


def data_suffix(path: Path) -> str | None:
    """The suffix that says how to read a file, without `.gz`; None where there is no reader."""
    suffixes = [s.lower() for s in path.suffixes if s.lower() != ".gz"]
    return suffixes[-1] if suffixes and suffixes[-1] in SUFFIXES else None


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """A file's bytes, unpacked where its first two say gzip, whatever its name says."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if packed:
            with gzip.open(file) as unpacked, io.BufferedReader(_Watched(unpacked, path)) as watched:
                yield watched
        else:
            yield file


class _Watched(io.RawIOBase):
    """The bytes of a packed file, which end in InvalidData where they are more than any text packs to."""

    def __init__(self, unpacked: gzip.GzipFile, path: Path) -> None:
        self._unpacked, self._path = unpacked, path
        self._left = most_unpacked(path)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._unpacked.read(len(buffer))
        buffer[: len(data)] = data
        self._left -= len(data)
        if self._left < 0:
            raise bomb(self._path)
        return len(data)


def most_unpacked(path: Path) -> int:
    """Bytes that a packed file may unpack to: texts pack to a tenth, and hardly any to a hundredth."""
    return max(LEAST_LIMIT_BYTES, _MOST_RATIO * path.stat().st_size)


def bomb(path: Path) -> InvalidData:
    """What to raise for a file that unpacks to more than `most_unpacked`."""
    return InvalidData(
        f"{path}: expected a packed file of texts, got one of {path.stat().st_size:,} bytes that unpacks to more than "
        f"{most_unpacked(path):,}. If that is meant, unpack it first, or take out the rows that stand there again and "
        "again."
    )


def read_utf8(path: Path) -> str:
    """A text file whole.

    Raises:
        InvalidData: Bytes that are not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidData(f"{path}: expected text in UTF-8, got other bytes at {error.start}; convert it.") from None


def _empty(path: Path) -> InvalidData:
    return InvalidData(f"{path}: expected at least one record, got an empty file; remove it or give another.")


def _refuse_wide_encodings(path: Path, start: bytes) -> None:
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InvalidData(f"{path}: expected UTF-8, got UTF-16; save it as UTF-8.")


def read_lines(path: Path) -> Iterator[tuple[int, bytes | BadRow]]:
    """Numbered lines as bytes; one too long to be a record, or a damaged end, is a bad row."""
    number = 0
    with open_bytes(path) as file:
        try:
            while raw := file.readline(MAX_FIELD_CHARACTERS):
                number += 1
                if number == 1:
                    _refuse_wide_encodings(path, raw)
                    raw = raw.removeprefix(b"\xef\xbb\xbf")
                if len(raw) == MAX_FIELD_CHARACTERS and not raw.endswith(b"\n"):
                    while (rest := file.readline(MAX_FIELD_CHARACTERS)) and not rest.endswith(b"\n"):
                        pass
                    yield number, BadRow("huge_field", f"the line has more than {MAX_FIELD_CHARACTERS:,} bytes")
                else:
                    yield number, raw
        except _DAMAGE as error:
            yield number + 1, BadRow("truncated_file", str(error))


def _read_jsonl(path: Path, columns: Columns) -> Iterator[Record]:
    for line, raw in read_lines(path):
        if isinstance(raw, BadRow):
            yield line, raw
        elif raw.strip():  # blank lines hold no record and take no position, as in other readers of JSONL
            yield line, _record_or_problem(lambda raw=raw: strict_json(raw.decode("utf-8")))


def _record_or_problem(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except BadRow as bad:
        return bad
    except UnicodeDecodeError as error:
        return BadRow("wrong_encoding", f"byte 0x{error.object[error.start]:02X} at byte {error.start} is not UTF-8")
    except json.JSONDecodeError as error:
        truncated = "" if error.doc.rstrip().endswith("}") else "; the line may be truncated"
        return BadRow("malformed_json", f"{error.msg} at character {error.pos}{truncated}")
    except (ValueError, RecursionError, OverflowError) as error:
        return BadRow("malformed_json", str(error))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Every row has the same few names, and would keep its own.
    value = {intern(key): item for key, item in pairs}
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        raise BadRow("duplicate_key", f"{excerpt(next(k for k in keys if keys.count(k) > 1))} stands there twice")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant)


def strict_json(text: str) -> Any:
    """JSON as its standard has it: no duplicate keys (BadRow), no NaN or Infinity (ValueError)."""
    return _DECODER.decode(text)


def _read_json(path: Path, columns: Columns) -> Iterator[Record]:
    """A JSON list, element by element; a file that starts otherwise is read as JSONL."""
    with open_bytes(path) as file:
        try:
            start = file.read(64)
        except _DAMAGE:
            start = b""
    _refuse_wide_encodings(path, start)
    if not start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        yield from _read_jsonl(path, columns)
        return
    pieces: list[bytes] = []
    damage: BadRow | None = None
    for _, raw in read_lines(path):
        if isinstance(raw, BadRow):
            damage = raw
        else:
            pieces.append(raw)
    # Bytes that are not UTF-8 become lone surrogates from U+DC80 up, which name the one element they spoil.
    yield from _elements(b"".join(pieces).decode("utf-8", "surrogateescape"))
    if damage:
        yield len(pieces) + 1, damage


_NEXT_ELEMENT = re.compile(r"\}\s*,\s*(?=\{)")
_SPACE = re.compile(r"[\s,]*")
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")


def _elements(text: str) -> Iterator[Record]:
    position = text.index("[") + 1
    line, counted = 1, 0
    while (start := _end(_SPACE, text, position)) < len(text) and text[start] != "]":
        line, counted = line + text.count("\n", counted, start), start
        try:
            value, position = _DECODER.raw_decode(text, start)
            if found := _ESCAPED_BYTE.search(text, start, position):
                value = BadRow("wrong_encoding", f"byte 0x{ord(found[0]) - 0xDC00:02X} is not UTF-8")
        except (BadRow, ValueError, RecursionError) as error:
            value = error if isinstance(error, BadRow) else BadRow("malformed_json", str(error).partition(": line")[0])
            # The next element begins where an object ends and another opens; if there is none, the rest is lost.
            following = _NEXT_ELEMENT.search(text, start)
            position = following.end() if following else len(text)
        yield line, value
    if start >= len(text):
        line += text.count("\n", counted)
        yield line, BadRow("malformed_json", "the list is never closed: truncated?")


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position


def _read_csv(path: Path, columns: Columns) -> Iterator[Record]:
    with open_bytes(path) as binary:
        file = io.TextIOWrapper(binary, encoding="utf-8-sig", errors="surrogateescape", newline="")
        limit = csv.field_size_limit(MAX_FIELD_CHARACTERS)
        try:
            yield from _csv_records(path, csv.reader(file, strict=True), columns)
        finally:
            csv.field_size_limit(limit)
            file.detach()


def _csv_records(path: Path, rows: Any, columns: Columns) -> Iterator[Record]:
    try:
        header = next(rows, None)
    except (csv.Error, EOFError, OSError, zlib.error) as error:
        raise InvalidData(f"{path}: expected a CSV header, got {error}; correct the first line.") from None
    if header is None:
        return
    if any("\0" in name or _ESCAPED_BYTE.search(name) for name in header):
        raise InvalidData(f"{path}: expected a CSV header in UTF-8, got other bytes; save it as UTF-8.")
    _require_columns(path, header, columns)
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise InvalidData(f"{path}: expected distinct columns, got {', '.join(repeated)} twice; rename one.")
    while True:
        line = rows.line_num + 1
        try:
            cells = next(rows)
        except StopIteration:
            return
        except _DAMAGE as error:
            yield line, BadRow("truncated_file", str(error))
            return
        except csv.Error as error:
            if "field larger" in str(error):
                raise InvalidData(
                    f"{path}, line {line}: expected cells up to {MAX_FIELD_CHARACTERS:,} characters, got a longer one. "
                    "A quote is probably never closed there; close it, or give the data as JSONL."
                ) from None
            yield line, BadRow("malformed_csv", str(error))
            continue
        if cells:  # a blank line
            yield line, _csv_row(header, cells)


def _csv_row(header: list[str], cells: list[str]) -> dict[str, Any] | BadRow:
    if len(cells) != len(header):
        return BadRow("malformed_csv", f"{len(cells)} cells where the header names {len(header)} columns")
    for name, cell in zip(header, cells, strict=True):
        if not cell.isascii() and (found := _ESCAPED_BYTE.search(cell)):
            return BadRow("wrong_encoding", f"{name}: byte 0x{ord(found[0]) - 0xDC00:02X} is not UTF-8")
    row: dict[str, Any] = dict(zip(header, cells, strict=True))
    for name in TEXT_COLUMNS:
        if row.get(name, "").startswith("[{"):
            row[name] = _messages_in(row[name])
    return row


def _messages_in(cell: str) -> Any:
    """The conversation that a cell holds as a JSON list of messages, else the cell."""
    try:
        value = strict_json(cell)
    except (BadRow, ValueError, RecursionError):
        return cell
    return value if all(isinstance(m, dict) and m.keys() == {"role", "content"} for m in value) else cell


def _read_parquet(path: Path, columns: Columns) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _require_columns(path, file.schema_arrow.names, columns)
            row, left = 0, most_unpacked(path)
            for batch in file.iter_batches(_BATCH_ROWS):
                for record in _batch_rows(batch):
                    # Counted as it is used: in the file, and in Arrow's memory, equal texts may stand there once.
                    left -= _weight(record)
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
        rows = [_record_or_problem(lambda i=i: batch.slice(i, 1).to_pylist()[0]) for i in range(len(batch))]
    for row in rows:
        yield row if isinstance(row, BadRow) else {name: as_json(value) for name, value in row.items()}


def _weight(value: Any) -> int:
    """About how many bytes of text a value holds, and what it costs to hold anything at all."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return _ROW_BYTES + sum(map(_weight, value.values()))
    return _ROW_BYTES + sum(map(_weight, value)) if isinstance(value, list) else 1


def as_json(value: Any) -> Any:
    """A table's value as JSON would have it: NaN is null, dates and decimals are text."""
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


def _require_columns(path: Path, names: Sequence[str], columns: Columns) -> None:
    known = [(name,) if isinstance(name, str) else name for name in columns]
    if missing := [name for name, *others in known if not {name, *others} & set(names)]:
        raise InvalidData(
            f"{path}: expected the columns {', '.join(first for first, *_ in known)}, got "
            f"{', '.join(names) or 'none'}; {', '.join(missing)} missing. Rename the columns."
        )


SUFFIXES: dict[str, Callable[[Path, Columns], Iterator[Record]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
