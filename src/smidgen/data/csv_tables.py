"""CSV as records; a cell may hold a conversation as a JSON list of messages."""

from __future__ import annotations

import csv
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smidgen.data.checks import MAX_FIELD_CHARACTERS, BadRow
from smidgen.data.packed import DAMAGE, open_bytes
from smidgen.data.records import ESCAPED_BYTE, TEXT_COLUMNS, Columns, Record, require_columns, strict_json
from smidgen.errors import InvalidData


def read_csv(path: Path, columns: Columns) -> Iterator[Record]:
    """The records of a CSV file, see `readers.read_records`."""
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
    if any("\0" in name or ESCAPED_BYTE.search(name) for name in header):
        raise InvalidData(f"{path}: expected a CSV header in UTF-8, got other bytes; save it as UTF-8.")
    require_columns(path, header, columns)
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise InvalidData(f"{path}: expected distinct columns, got {', '.join(repeated)} twice; rename one.")
    while True:
        line = rows.line_num + 1
        try:
            cells = next(rows)
        except StopIteration:
            return
        except DAMAGE as error:
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
        if not cell.isascii() and (found := ESCAPED_BYTE.search(cell)):
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
