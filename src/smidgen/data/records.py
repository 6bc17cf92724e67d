"""What readers of every kind of file share: a record, the columns it must have, and JSON read strictly."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from sys import intern
from typing import Any

from smidgen.data.checks import BadRow, excerpt
from smidgen.errors import InvalidData

Record = tuple[int, Any]
"""A one-based line and what stands there: a dict of columns, another JSON value, or a `BadRow`."""
TEXT_COLUMNS = ("prompt", "chosen", "rejected")
Columns = Sequence[str | tuple[str, ...]]
"""Columns that a table must have; a tuple names one that goes by several names, the usual one first."""
PAIR_COLUMNS = (("chosen", "chosen_response", "generations"), ("rejected", "rejected_response", "ratings"))
ESCAPED_BYTE = re.compile("[\udc80-\udcff]")


def require_columns(path: Path, names: Sequence[str], columns: Columns) -> None:
    """InvalidData where a table lacks a column under any of its names."""
    known = [(name,) if isinstance(name, str) else name for name in columns]
    if missing := [name for name, *others in known if not {name, *others} & set(names)]:
        raise InvalidData(
            f"{path}: expected the columns {', '.join(first for first, *_ in known)}, got "
            f"{', '.join(names) or 'none'}; {', '.join(missing)} missing. Rename the columns."
        )


def record_or_problem(read: Callable[[], Any]) -> Any:
    """What a function reads, or the row that says why it could not."""
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


DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant)


def strict_json(text: str) -> Any:
    """JSON as its standard has it: no duplicate keys (BadRow), no NaN or Infinity (ValueError)."""
    return DECODER.decode(text)


def as_json(value: Any) -> Any:
    """A table's value as JSON would have it: NaN is null, dates and decimals are text."""
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value
