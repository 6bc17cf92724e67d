"""An explanation's plots as pictures: in a page, light and dark, wide and narrow; and as PNG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from smidgen.explain.base import Panel, Plot, Series
from smidgen.report.svg import LIGHT, SERIES, STAND_INS, drawing, inline_svg, write_png

Palette = Mapping[str, str]

_WIDE, _NARROW = 1040, 350
_MOST_TICKS = 8
_STEPS = [1, 2, 2.5, 5, 10]


def plot_svg(plot: Plot, prefix: str) -> str:
    """A plot as two SVG elements, one for wide pages and one for narrow; the page shows the one that fits.

    Args:
        plot: What to draw.
        prefix: Of its ids, distinct within a page.
    """
    svgs = []
    for width in ("wide", "narrow"):
        name = f"{prefix}-{plot.name}-{width}"
        with drawing(name):
            figure = _figure(plot, STAND_INS, narrow=width == "narrow")
            svgs.append(inline_svg(figure, name, f"{plot.title}. {plot.caption} All numbers are in the tables."))
    return "\n".join(svgs)


def plot_png(plot: Plot, path: Path | str) -> Path:
    """Write a plot with its title."""
    with drawing(plot.name):
        figure = _figure(plot, LIGHT, narrow=False)
        figure.suptitle(plot.title, x=0.012, ha="left", color=LIGHT["ink"], fontsize=14)
        figure.set_figheight(figure.get_figheight() + 0.5)
        figure.set_facecolor(LIGHT["paper"])
        return write_png(figure, path)


def _figure(plot: Plot, palette: Palette, *, narrow: bool) -> Figure:
    columns = min((2 if plot.columns > 2 else 1) if narrow else plot.columns, len(plot.panels))
    rows = math.ceil(len(plot.panels) / columns)
    handles = _legend(plot, palette)
    legend_columns = _legend_columns(handles, _NARROW if narrow else _WIDE)
    legend_rows = math.ceil(len(handles) / legend_columns) if handles else 0
    height = rows * _panel_height(plot, columns, narrow=narrow) + 21 * legend_rows + (10 if handles else 0)
    figure = Figure(figsize=((_NARROW if narrow else _WIDE) / 72, height / 72), layout="constrained")
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1, wspace=0.05, hspace=0.05)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=plot.same_scale)
    small = columns > 2 or (narrow and columns > 1)
    colors = _colors(plot)
    for axes, panel in zip_longest(grid.flat, plot.panels):
        if panel is None:
            axes.set_visible(False)
        else:
            _draw(axes, panel, colors, palette, small=small)
    if handles:
        figure.legend(
            handles=handles, loc="outside lower left", ncols=legend_columns, frameon=False, fontsize=11.5,
            labelcolor=palette["ink"], borderpad=0, handlelength=1.6,
        )  # fmt: skip
    return figure


def _legend_columns(handles: Sequence[Line2D], width: int) -> int:
    longest = max((len(str(handle.get_label())) for handle in handles), default=0)
    return max(1, min(len(handles), width // (48 + 7 * longest)))


def _panel_height(plot: Plot, columns: int, *, narrow: bool) -> int:
    if plot.panels[0].rows:
        return 70 + 58 * len(plot.panels[0].rows)
    if columns > 2 or (narrow and columns > 1):
        return 165 if narrow else 205
    return 250 if narrow else 330


def _colors(plot: Plot) -> dict[str, str]:
    """Each label's colour role; beyond eight labels they repeat."""
    labels = dict.fromkeys(s.label for panel in plot.panels for s in panel.series if s.label and not s.role)
    return {label: SERIES[i % len(SERIES)] for i, label in enumerate(labels)}


def _role(series: Series, colors: Mapping[str, str]) -> str:
    return series.role or colors.get(series.label, "accent")


def _draw(axes: Axes, panel: Panel, colors: Mapping[str, str], palette: Palette, *, small: bool) -> None:
    _dress(axes, panel, palette, small=small)
    for level, name in panel.levels:
        axes.axhline(level, color=palette["muted"], linewidth=0.9, dashes=(1, 2))
        axes.annotate(
            name, (0.988, level), xycoords=("axes fraction", "data"), xytext=(0, 3), textcoords="offset points",
            ha="right", va="bottom", color=palette["muted"], fontsize=11,
        )  # fmt: skip
    for place, name in panel.at:
        axes.axvline(place, color=palette["muted"], linewidth=0.9, dashes=(1, 2))
        axes.annotate(
            name, (place, 0.985), xycoords=("data", "axes fraction"), xytext=(4, 0), textcoords="offset points",
            ha="left", va="top", color=palette["muted"], fontsize=11,
        )  # fmt: skip
    for series in panel.series:
        _line(axes, series, palette[_role(series, colors)], small=small)


def _line(axes: Axes, series: Series, color: str, *, small: bool) -> None:
    size = 5 if small else 6.5
    styles = {
        "line": {"linewidth": 1.5 if small else 1.7},
        "dashed": {"linewidth": 1.1, "dashes": (4, 3)},
        "span": {"linewidth": 3.5, "alpha": 0.22, "solid_capstyle": "round"},
        "dots": {"linestyle": "none", "marker": "o", "markersize": size, "markeredgewidth": 0},
        "ring": {
            "linestyle": "none",
            "marker": "o",
            "markersize": 15,
            "markerfacecolor": "none",
            "markeredgewidth": 1.6,
        },
        "tick": {"linestyle": "none", "marker": "|", "markersize": 20, "markeredgewidth": 2},
    }
    axes.plot(series.xs, series.ys, color=color, **styles[series.style])


def _dress(axes: Axes, panel: Panel, palette: Palette, *, small: bool) -> None:
    axes.set_facecolor("none")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(palette["muted"])
    axes.tick_params(colors=palette["muted"], labelsize=10.5 if small else 11.5, length=3, width=0.8)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x" if panel.rows else "y", color=palette["rule"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.04, y=0.1)
    axes.tick_params(labelleft=True)
    axes.set_title(
        panel.title, loc="left", color=palette["ink"], fontsize=11.5 if small else 13, fontweight="bold", pad=8
    )
    if panel.unit:
        axes.set_title(panel.unit, loc="right", color=palette["muted"], fontsize=11.5, pad=8)
    if panel.x_label:
        axes.set_xlabel(panel.x_label, color=palette["muted"], fontsize=10.5 if small else 11.5)
    if panel.rows:
        axes.set_ylim(len(panel.rows) - 0.5, -0.5)
        axes.yaxis.set_major_locator(FixedLocator(list(range(len(panel.rows)))))
        axes.yaxis.set_major_formatter(FixedFormatter(list(panel.rows)))
        axes.tick_params(axis="y", colors=palette["ink"])
    else:
        axes.yaxis.set_major_locator(MaxNLocator(3 if small else 5, steps=_STEPS))
    if not panel.log_x:
        axes.xaxis.set_major_locator(MaxNLocator(4 if small else 7, steps=_STEPS))
        return
    axes.set_xscale("log")
    places = sorted({x for series in panel.series if series.style == "dots" for x in series.xs})
    places = places[:: math.ceil(len(places) / _MOST_TICKS)]
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{x:g}" for x in places]))
    axes.xaxis.set_minor_locator(NullLocator())


def _legend(plot: Plot, palette: Palette) -> list[Line2D]:
    """One handle a label, as its first series is drawn."""
    colors = _colors(plot)
    first = {s.label: s for panel in reversed(plot.panels) for s in reversed(panel.series) if s.label}
    handles = []
    for label, series in reversed(first.items()):
        color = palette[_role(series, colors)]
        shown = {"dots": ("o", 6.5), "ring": ("o", 10), "tick": ("|", 12)}.get(series.style)
        if shown is None:
            handles.append(Line2D([], [], color=color, linewidth=2, label=label))
        else:
            fill = "none" if series.style == "ring" else color
            handles.append(
                Line2D(
                    [], [], color=color, linestyle="none", marker=shown[0], markersize=shown[1], mfc=fill, label=label
                )
            )
    return handles
