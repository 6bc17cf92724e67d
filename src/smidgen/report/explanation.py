"""Explanations as one page that opens offline: the conclusions, the pictures, the tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from smidgen.explain.base import Cell, Explanation, Table, as_data
from smidgen.explain.wording import cell
from smidgen.report.explanation_figures import plot_png, plot_svg
from smidgen.report.page import render_page
from smidgen.runs import content_hash, write_json, write_text


def write_explanation(folder: Path | str, found: Sequence[Explanation], *, title: str = "") -> list[Path]:
    """Write explanation.html, explanation.json and one PNG a plot into a folder; equal numbers give equal bytes.

    Args:
        folder: Made where it is missing.
        found: At least one explanation, in the order of the page.
        title: Of the page; of several explanations only.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "explanation.html", folder / "explanation.json"]
    write_text(paths[0], render(found, title=title))
    write_json(paths[1], as_data(found))
    for number, one in enumerate(found, start=1):
        for plot in one.plots:
            name = plot.name if len(found) == 1 else f"{number}_{plot.name}"
            paths.append(plot_png(plot, folder / f"{name}.png"))
    return paths


def render(found: Sequence[Explanation], *, title: str = "") -> str:
    """The page as text."""
    sections = [
        {
            "id": f"section-{number}",
            "explanation": one,
            "figures": [(plot, Markup(plot_svg(plot, f"plot-{number}"))) for plot in one.plots],
            "tables": [(table, _number_columns(table)) for table in one.tables],
        }
        for number, one in enumerate(found, start=1)
    ]
    title = found[0].title if len(found) == 1 else title or "Preferences, losses and policies on given numbers"
    run_id = content_hash([as_data(found), title])
    filters = {"cell": _cell, "unbroken": _unbroken}
    return render_page("explanation.html.j2", filters, sections=sections, title=title, run_id=run_id)


def _number_columns(table: Table) -> list[bool]:
    """Which columns hold no text, so that their numbers stand on the right."""
    return [all(not isinstance(row[i], str) for row in table.rows) for i in range(len(table.columns))]


def _cell(value: Cell, digits: int) -> str:
    return value if isinstance(value, str) else cell(value, digits)


def _unbroken(text: str) -> str:
    """A sentence whose equations and percentages stay on one line."""
    return text.replace(" = ", "\u00a0=\u00a0").replace(" %", "\u00a0%")
