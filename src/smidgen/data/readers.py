"""Data files as records, one at a time: a line number with its columns, or with what is wrong there.

A reader never stops at a bad record. It raises only where nothing after it can be trusted or nothing is there at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from smidgen.data.checks import MAX_FIELD_CHARACTERS, BadRow
from smidgen.data.csv_tables import read_csv
from smidgen.data.packed import DAMAGE, open_bytes
from smidgen.data.parquet import read_parquet
from smidgen.data.records import (
    DECODER,
    ESCAPED_BYTE,
    PAIR_COLUMNS,
    Columns,
    Record,
    record_or_problem,
    strict_json,
)
from smidgen.errors import InvalidData, UsageError


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
        except DAMAGE as error:
            yield number + 1, BadRow("truncated_file", str(error))


def _read_jsonl(path: Path, columns: Columns) -> Iterator[Record]:
    for line, raw in read_lines(path):
        if isinstance(raw, BadRow):
            yield line, raw
        elif raw.strip():  # blank lines hold no record and take no position, as in other readers of JSONL
            yield line, record_or_problem(lambda raw=raw: strict_json(raw.decode("utf-8")))


def _read_json(path: Path, columns: Columns) -> Iterator[Record]:
    """A JSON list, element by element; a file that starts otherwise is read as JSONL."""
    with open_bytes(path) as file:
        try:
            start = file.read(64)
        except DAMAGE:
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


def _elements(text: str) -> Iterator[Record]:
    position = text.index("[") + 1
    line, counted = 1, 0
    while (start := _end(_SPACE, text, position)) < len(text) and text[start] != "]":
        line, counted = line + text.count("\n", counted, start), start
        try:
            value, position = DECODER.raw_decode(text, start)
            if found := ESCAPED_BYTE.search(text, start, position):
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


SUFFIXES: dict[str, Callable[[Path, Columns], Iterator[Record]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": read_csv,
    ".parquet": read_parquet,
}
