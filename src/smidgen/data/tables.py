"""The subset as tables: one with every text exactly as in the data, one that is safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from smidgen.pairs import PreferencePair
from smidgen.runs import atomic_write

COLUMNS = ("idx", "prompt", "chosen", "rejected")


def write_subset(
    folder: Path | str,
    pairs: Sequence[PreferencePair],
    extra_columns: Mapping[str, Sequence[Any]],
    *,
    name: str = "subset",
) -> tuple[Path, Path]:
    """Write subset.csv and subset_spreadsheet.csv, or another table of pairs.

    Args:
        folder: Made where it is missing.
        pairs: Best first.
        extra_columns: Further columns by name, each with one value a pair; None and NaN are empty cells.
        name: Of the two files.

    Returns:
        The two paths.

    Raises:
        ValueError: A column that is not as long as `pairs`, or is named as one of the four own ones.
    """
    for column, values in extra_columns.items():
        if len(values) != len(pairs) or column in COLUMNS:
            raise ValueError(f"column {column!r}: expected a new name and {len(pairs)} values, got {len(values)}")
    rows = [
        [pair.idx, pair.prompt_text, pair.chosen_text, pair.rejected_text]
        + [_value(values[i]) for values in extra_columns.values()]
        for i, pair in enumerate(pairs)
    ]
    header = [*COLUMNS, *extra_columns]
    exact, spreadsheet = Path(folder) / f"{name}.csv", Path(folder) / f"{name}_spreadsheet.csv"
    _write(exact, header, rows, start="")
    # Without the mark, spreadsheet programs take UTF-8 for the machine's own encoding.
    safe = [[neutralise(cell) for cell in row] for row in rows]
    _write(spreadsheet, [neutralise(column) for column in header], safe, start="\ufeff")
    return exact, spreadsheet


_FORMULA_START = re.compile(r"[=+\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def neutralise(cell: Any) -> Any:
    """A cell that no spreadsheet program runs as a formula: text that would start one gets an apostrophe in front.

    Source: OWASP, CSV Injection.

    >>> neutralise("=1+1"), neutralise("-1.5"), neutralise(-1.5)
    ("'=1+1", '-1.5', -1.5)
    """
    if isinstance(cell, str) and _FORMULA_START.match(cell) and not _NUMBER.fullmatch(cell):
        return f"'{cell}"
    return cell


def _value(value: Any) -> Any:
    if hasattr(value, "item"):  # NumPy's scalars
        value = value.item()
    return None if isinstance(value, float) and value != value else value


def _write(path: Path, header: list[str], rows: Iterable[list[Any]], *, start: str) -> None:
    with atomic_write(path) as file:
        file.write(start)
        csv.writer(file, lineterminator="\n").writerow(header)
        # Every text is quoted: left to itself, the writer leaves a lone carriage return bare, which ends a row.
        csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC).writerows(rows)
