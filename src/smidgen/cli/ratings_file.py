"""Groups' ratings from a file or from words of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from smidgen.data.checks import BadRow
from smidgen.data.readers import read_records
from smidgen.errors import InvalidData, UsageError


def split_ratings(text: str) -> tuple[float, ...]:
    """Numbers between commas.

    Raises:
        UsageError: Something that is no number.

    >>> split_ratings("1,0, .5")
    (1.0, 0.0, 0.5)
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"expected numbers between commas, got {text!r}; write 1,0,2.") from None


def split_names(text: str) -> tuple[str, ...]:
    """Names between commas; none of an empty text."""
    return tuple(name.strip() for name in text.split(",")) if text.strip() else ()


def read_groups(path: Path) -> dict[str, Any]:
    """Ratings, and names and weights where the file has them, as `explain.ratings` takes them.

    Every record is a group. Columns `group` and `weight` are its name and size; each other column is an answer.

    Raises:
        UsageError: A file of an unknown kind.
        InvalidData: A record that is no group, or has other columns than the first; says which.
    """
    rows = [(line, _group(path, line, row)) for line, row in read_records(path, columns=())]
    first = rows[0][1]
    for line, row in rows:
        if row.keys() != first.keys():
            raise InvalidData(
                f"{path}, line {line}: expected the columns {', '.join(first)} as in the first group, got "
                f"{', '.join(row)}. Give every group the same ones."
            )
    answers = tuple(name for name in first if name not in ("group", "weight"))
    found: dict[str, Any] = {
        "answers": answers,
        "groups": tuple(tuple(_number(path, line, row[name], name) for name in answers) for line, row in rows),
    }
    if "group" in first:
        found["names"] = tuple(str(row["group"]) for _, row in rows)
    if "weight" in first:
        found["weights"] = tuple(_number(path, line, row["weight"], "weight") for line, row in rows)
    return found


def _group(path: Path, line: int, row: Any) -> dict[str, Any]:
    if isinstance(row, BadRow):
        raise InvalidData(
            f"{path}, line {line}: expected a group's ratings, got {row.reason}: {row.detail}. Correct it."
        )
    if not isinstance(row, dict):
        raise InvalidData(
            f"{path}, line {line}: expected an object with a rating for each answer, got {row!r:.60}. "
            "Give a column to each answer."
        )
    return row


def _number(path: Path, line: int, value: Any, column: str) -> float:
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidData(
            f"{path}, line {line}: expected a number in column {column}, got {value!r:.60}. Correct it."
        ) from None
