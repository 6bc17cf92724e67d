"""A pair's further columns as a table has them: the same in every row, each of one type, none under a taken name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from smidgen.data.shapes import STRUCTURAL
from smidgen.pairs import PreferencePair, Scalar

# Of trainers: TRL takes these columns for part of an example.
_TRAINERS = ("completion", "label", "images", "image", "tools", "chat_template_kwargs")
RESERVED = STRUCTURAL | {"idx", "source", "source_row", *_TRAINERS}
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")
_LARGEST = 2**63
_EXACT = 2**53  # beyond it, not every whole number is a float


@dataclass(frozen=True, slots=True)
class MetaColumns:
    """Further columns, and what was done to make a table of them.

    Attributes:
        values: By name, one value a pair; None where a pair has none.
        renamed: New name by old one, of columns whose name means something else to whoever reads the table.
        as_text: Columns whose values are of several kinds, written as text.
    """

    values: Mapping[str, Sequence[Scalar]]
    renamed: Mapping[str, str]
    as_text: tuple[str, ...]


def meta_columns(pairs: Sequence[PreferencePair]) -> MetaColumns:
    """The pairs' `meta` as columns.

    >>> from smidgen.pairs import plain_pair
    >>> found = meta_columns([plain_pair(0, "a", "b", "c", meta={"n": 1}), plain_pair(1, "d", "e", "f")])
    >>> found.values
    {'n': [1, None]}
    """
    names = dict.fromkeys(name for pair in pairs for name in pair.meta)
    values: dict[str, Sequence[Scalar]] = {}
    renamed: dict[str, str] = {}
    as_text: list[str] = []
    for name in names:
        column = [pair.meta.get(name) for pair in pairs]
        free = name
        while free in RESERVED or (free != name and free in names):
            free += "_"
        if free != name:
            renamed[name] = free
        if not _is_one_kind(column):
            as_text.append(free)
            column = [None if value is None else str(value) for value in column]
        values[free] = column
    return MetaColumns(values, renamed, tuple(as_text))


def _is_one_kind(column: Sequence[Scalar]) -> bool:
    kinds = {type(value) for value in column if value is not None}
    numbers = [value for value in column if isinstance(value, int) and not isinstance(value, bool)]
    if kinds == {int, float}:
        return all(abs(value) <= _EXACT for value in numbers)
    return len(kinds) <= 1 and all(-_LARGEST <= value < _LARGEST for value in numbers)


def typed(values: Sequence[Any]) -> list[Any]:
    """A column of a CSV file, all text, as the numbers or truth values that every one of its cells was written from.

    >>> typed(["1", ""]), typed(["0.5", "1"]), typed(["True", "False"]), typed(["007", "1"])
    ([1, None], [0.5, 1.0], [True, False], ['007', '1'])
    """
    written = {value for value in values if value not in (None, "")}
    for read in ({"True": True, "False": False}.get, _whole, _number):
        found = {value: read(value) for value in written}
        if None not in found.values():
            return [found.get(value) for value in values]
    return list(values)


def _whole(text: str) -> int | None:
    return int(text) if _WHOLE.fullmatch(text) else None


def _number(text: str) -> float | None:
    """None for what Python writes otherwise: "007" is a text to whoever wrote it."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) and text in (repr(value), repr(value).removesuffix(".0")) else None
