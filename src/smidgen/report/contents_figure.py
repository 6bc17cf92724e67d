"""The report's second figure: histograms of the subset against the full data, for a page and for print."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from smidgen.report.contents import Distribution
from smidgen.report.figures import plain_axes
from smidgen.report.svg import LIGHT, STAND_INS, drawing, inline_svg, print_svg


@dataclass(frozen=True, slots=True)
class _Layout:
    """How many histograms stand in a row, the figure's width and a row's height in points, and the titles' size."""

    columns: int
    width: float
    row_height: float
    title_size: float


_WIDE = _Layout(4, 1040, 210, 12)
_NARROW = _Layout(2, 350, 165, 11)
_PRINT = _Layout(4, 720, 150, 11)


def distributions_svg(found: Sequence[Distribution]) -> str:
    """Histograms of subset (filled) against full data (outline), wide and narrow; nothing where there is nothing."""
    if not found:
        return ""
    svgs = []
    for name, layout in (("wide", _WIDE), ("narrow", _NARROW)):
        with drawing(f"contents-{name}"):
            figure = _distributions_figure(found, STAND_INS, layout)
            svgs.append(inline_svg(figure, f"contents-{name}", distributions_label(found)))
    return "\n".join(svgs)


def distributions_print(found: Sequence[Distribution]) -> str:
    """The same as an SVG document for paper; `found` must hold something."""
    with drawing("contents-print", outlines=True):
        return print_svg(_distributions_figure(found, LIGHT, _PRINT))


def distributions_label(found: Iterable[Distribution]) -> str:
    """What a reader who cannot see the figure is told."""
    medians = "; ".join(f"{d.title}: {d.subset_median:.3g} against {d.full_median:.3g}" for d in found)
    return f"Histograms of the subset against the full data. Medians, subset against full: {medians}."


def _distributions_figure(found: Sequence[Distribution], palette: Mapping[str, str], layout: _Layout) -> Figure:
    rows = math.ceil(len(found) / layout.columns)
    figure = Figure(figsize=(layout.width / 72, layout.row_height * rows / 72), layout="constrained")
    figure.set_layout_engine("constrained", wspace=0.1, hspace=0.1)
    grid = figure.subplots(rows, layout.columns, squeeze=False)
    for axes in grid.flat[len(found) :]:
        axes.set_visible(False)
    for axes, item in zip(grid.flat, found, strict=False):
        plain_axes(axes, palette)
        axes.stairs(item.subset_shares, item.edges, fill=True, color=palette["accent"], alpha=0.75, linewidth=0)
        axes.stairs(item.full_shares, item.edges, color=palette["ink"], linewidth=1.3)
        axes.set_xlim(item.edges[0], item.edges[-1])
        axes.set_ylim(0, max(*item.subset_shares, *item.full_shares) * 1.08)
        axes.yaxis.set_major_locator(NullLocator())
        ticks = [item.edges[0], (item.edges[0] + item.edges[-1]) / 2, item.edges[-1]]
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_major_formatter(FixedFormatter(_tick_labels(item, ticks)))
        axes.set_title(item.title, loc="left", color=palette["ink"], fontsize=layout.title_size)
    return figure


def _tick_labels(item: Distribution, ticks: Iterable[float]) -> list[str]:
    labels = [f"{tick:g}" for tick in ticks]
    if item.name == "prompt_harmfulness":
        return labels
    return [*labels[:-1], f"{labels[-1]}+"]
