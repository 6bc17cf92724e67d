"""What an explanation is: tables, plots, a conclusion, and the numbers behind them. Pages and terminals show it.

An explanation is a pure function of the numbers that it is given. Registered, it can stand on a sheet; its keyword
arguments are its settings there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from smidgen.settings import Registry

Cell = str | float | None
Role = Literal["", "accent", "ink", "muted"]
Style = Literal["line", "dashed", "dots", "ring", "tick", "span"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under named columns; the first cell of a row names it.

    Attributes:
        digits: Decimals of its numbers; None among them is what has no value.
        note: What a reader has to know to read it; may be empty.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    digits: int = 6
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Points of one kind in a panel.

    Attributes:
        label: In the legend, where a plot has more than one; empty: not there.
        role: Of its colour; empty: the next of the series colours, the same for one label through all panels.
        style: A line, a dashed one, dots, rings, short upright ticks, or the span from the first to the last point.
    """

    label: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    style: Style = "line"
    role: Role = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One pair of axes.

    Attributes:
        at: Upright lines: where, and what stands there.
        levels: Level lines, the same way.
        rows: Names of the rows 0, 1, …, top down, where the upright axis counts things; empty where it measures.
    """

    title: str
    unit: str = ""
    x_label: str = ""
    series: tuple[Series, ...] = ()
    at: tuple[tuple[float, str], ...] = ()
    levels: tuple[tuple[float, str], ...] = ()
    rows: tuple[str, ...] = ()
    log_x: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """Panels side by side; `columns` of them on a wide page, all with one upright scale where `same_scale`."""

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    columns: int = 2
    same_scale: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What the theory says of somebody's numbers.

    Attributes:
        name: Of the function that made it.
        given: What it was given, by name, as text.
        conclusion: Sentences that follow from the numbers, one a paragraph.
        data: All numbers, unrounded, as JSON knows them.
    """

    name: str
    title: str
    given: Mapping[str, str]
    tables: tuple[Table, ...]
    plots: tuple[Plot, ...]
    conclusion: tuple[str, ...]
    data: Mapping[str, Any]


explanation: Registry[Callable[..., Explanation]] = Registry("explanation")


def as_data(found: Sequence[Explanation]) -> dict[str, Any]:
    """Explanations for programs: each one's numbers, unrounded, and its conclusion; several stand under `sections`."""
    rows = [{"explanation": one.name, "numbers": dict(one.data), "conclusion": [*one.conclusion]} for one in found]
    return rows[0] if len(rows) == 1 else {"sections": rows}
