"""The report's first figure, score against number of pairs: for a page, for print, for a README."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from smidgen.evaluation.statistics import Interval
from smidgen.report.artefacts import read_run
from smidgen.report.frontier import Frontier, frontier, frontier_text
from smidgen.report.frontier_marks import comparators, fitting_columns, legend_handles, selector_of, selector_roles
from smidgen.report.svg import LIGHT, STAND_INS, drawing, inline_svg, print_svg, write_png
from smidgen.report.verdict import number

__all__ = [
    "SQUEEZE", "frontier_drawings", "frontier_label", "frontier_png", "frontier_print", "frontier_svg", "frontier_text",
    "plain_axes",
]  # fmt: skip
# How much closer the comparators stand to the tested sizes where there is less room.
SQUEEZE = 0.75


@dataclass(frozen=True, slots=True)
class _Layout:
    """Room for the two panels.

    Attributes:
        size: Width and height of the figure, points.
        is_row: Panels side by side; otherwise one below the other.
        is_tight: Too narrow for long names on lines.
        most_sizes: That the axis names.
    """

    size: tuple[float, float]
    is_row: bool
    is_tight: bool
    most_sizes: int


_WIDE = _Layout((1040, 430), is_row=True, is_tight=False, most_sizes=9)
_NARROW = _Layout((350, 640), is_row=False, is_tight=True, most_sizes=6)
# Shrunk to the text's width on paper, where its letters are then a little smaller than the text's.
_PRINT = _Layout((720, 330), is_row=True, is_tight=True, most_sizes=9)


def frontier_svg(found: Frontier) -> str:
    """The frontier as two SVG elements, one for wide pages and one for narrow; the page shows the one that fits."""
    return "\n".join(svg for _, _, svg in frontier_drawings(found))


def frontier_drawings(found: Frontier) -> Iterator[tuple[str, Figure, str]]:
    """Both drawings for a page: `wide` or `narrow`, the figure as saving has laid it out, and its SVG element."""
    for name, layout in (("wide", _WIDE), ("narrow", _NARROW)):
        with drawing(f"frontier-{name}"):
            figure = _frontier_figure(found, STAND_INS, layout)
            svg = inline_svg(figure, f"frontier-{name}", frontier_label(found))
        yield name, figure, svg


def frontier_png(run_folder: Path | str, path: Path | str) -> Path:
    """Write the frontier with its legend as a PNG, for a README.

    Raises:
        UsageError: No finished run there.
        InvalidData: An artefact that cannot be read.
    """
    found = frontier(read_run(run_folder))
    with drawing("frontier-png"):
        figure = _frontier_figure(found, LIGHT, _WIDE)
        _add_legend(figure, found, columns=5)
        figure.set_facecolor(LIGHT["paper"])
        figure.set_layout_engine("constrained", w_pad=0.16, h_pad=0.14, wspace=0.06)
        return write_png(figure, path)


def frontier_print(found: Frontier) -> str:
    """The frontier with its legend as an SVG document for paper: letters as outlines, colours as they are."""
    with drawing("frontier-print", outlines=True):
        figure = _frontier_figure(found, LIGHT, _PRINT)
        _add_legend(figure, found, columns=fitting_columns(found, _PRINT.size[0]))
        return print_svg(figure)


def _frontier_figure(found: Frontier, palette: Mapping[str, str], layout: _Layout) -> Figure:
    figure = Figure(figsize=(layout.size[0] / 72, layout.size[1] / 72), layout="constrained")
    figure.set_layout_engine("constrained", wspace=0.06, hspace=0.06)
    rows, columns = (1, 2) if layout.is_row else (2, 1)
    tight = layout.is_tight
    search, confirm = figure.subplots(rows, columns, sharex=True, sharey=True)
    low, high = _limits(found)
    sizes = {point.budget for point in (*found.search, *found.tested)} | {found.full_size}
    sizes |= {size for size, _ in found.arms.values() if size}
    for axes in (search, confirm):
        plain_axes(axes, palette)
        axes.set_xscale("log")
        axes.set_xlim(min(sizes) / 1.45, found.full_size * (1.6 if tight else 1.35))
        axes.set_ylim(low, high)
        axes.grid(axis="y", color=palette["rule"], linewidth=0.8)
        ticks = _thinned(sorted(sizes), found.full_size, layout.most_sizes)
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_major_formatter(FixedFormatter([f"{size:,}" for size in ticks]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.tick_params(labelbottom=True)
    for axes in (search,) if layout.is_row else (search, confirm):
        axes.set_ylabel("refusal score", color=palette["muted"], fontsize=12)
    _title(search, "Search", "dev prompts: nominates", palette)
    _title(confirm, "Confirm", "fresh prompts and seeds: the claim", palette)
    for axes in (search, confirm) if layout.is_row else (confirm,):
        axes.set_xlabel("pairs trained on", color=palette["muted"], fontsize=12)
    _levels(search, found.dev_base, found.dev_full, found, palette, tight=tight)
    arms = {arm: score.mean for arm, (_, score) in found.arms.items()}
    _levels(confirm, arms.get("base"), arms.get("full"), found, palette, tight=tight)
    _draw_search(search, found, palette)
    _draw_confirmed(confirm, found, palette, squeeze=SQUEEZE if tight else 1.0)
    return figure


def _draw_search(axes: Axes, found: Frontier, palette: Mapping[str, str]) -> None:
    roles = selector_roles(found)
    for series in found.series:
        color = palette[roles[selector_of(series)]]
        points = [point for point in found.search if point.series == series]
        sizes = [point.budget for point in points]
        refined = series != selector_of(series)
        if not refined:
            lows, highs = [p.score.low for p in points], [p.score.high for p in points]
            axes.fill_between(sizes, lows, highs, color=color, alpha=0.08, linewidth=0)
            axes.plot(sizes, [p.score.mean for p in points], color=color, linewidth=1.2, alpha=0.75)
        axes.plot(
            [size for point in points for size in [point.budget] * len(point.seed_scores)],
            [score for point in points for score in point.seed_scores],
            linestyle="none", marker="o", markersize=2.6, color=color, alpha=0.45, markeredgewidth=0,
        )  # fmt: skip
        axes.plot(
            sizes, [p.score.mean for p in points],
            linestyle="none", marker="o", markersize=5.5, color=color, alpha=0.8,
            markerfacecolor="none" if refined else color, markeredgewidth=1.2 if refined else 0,
        )  # fmt: skip


def _draw_confirmed(axes: Axes, found: Frontier, palette: Mapping[str, str], *, squeeze: float) -> None:
    for arm, (marker, role, aside) in comparators(found).items():
        size, score = found.arms[arm]
        if size:
            _whisker(axes, size, score, marker, palette[role], aside=aside * squeeze, markersize=6, width=1.1)
    if found.tested:
        order = sorted(found.tested, key=lambda tested: tested.budget)
        means = [tested.score.mean for tested in order]
        axes.plot([tested.budget for tested in order], means, color=palette["accent"], linewidth=1, alpha=0.6)
    for tested in found.tested:
        color = palette["accent" if tested.passed else "fail"]
        _whisker(axes, tested.budget, tested.score, "o", color, markersize=9, width=1.8, hollow=not tested.passed)
        # The test looks at the one-sided bound, which lies above the interval's lower end.
        axes.plot([tested.budget], [tested.lower_bound], marker="_", markersize=11, markeredgewidth=1.8, color=color)
    passed = [tested for tested in found.tested if tested.passed]
    if passed:
        smallest = min(passed, key=lambda tested: tested.budget)
        axes.annotate(
            f"{smallest.budget:,} pairs", (smallest.budget, smallest.score.high), xytext=(0, 7),
            textcoords="offset points", ha="center", color=palette["accent"], fontsize=13, fontweight="bold",
        )  # fmt: skip


def _whisker(
    axes: Axes, size: int, score: Interval, marker: str, color: str,
    *, aside: float = 0.0, markersize: float, width: float, hollow: bool = False,
) -> None:  # fmt: skip
    figure = axes.get_figure()
    assert figure is not None
    place = axes.transData + ScaledTranslation(aside / 72, 0, figure.dpi_scale_trans)
    if math.isfinite(score.low):
        axes.plot([size, size], [score.low, score.high], color=color, linewidth=width, transform=place)
    axes.plot(
        [size], [score.mean], linestyle="none", marker=marker, markersize=markersize, transform=place,
        color=color, markerfacecolor="none" if hollow else color, markeredgewidth=1.6 if hollow else 0,
    )  # fmt: skip


def _levels(
    axes: Axes, base: float | None, full: float | None, found: Frontier, palette: Mapping[str, str], *, tight: bool
) -> None:
    """Full data's line, the band that delta allows below it, and the base model's line, each with its name on it."""
    # Subsets are small and full data is at the right end: between them there is room for words.
    largest = max((point.budget for point in (*found.search, *found.tested)), default=found.full_size / 8)
    x = math.sqrt(largest * found.full_size)

    low, high = found.range
    height = 0.055 * (high - low)  # of a label, roughly

    def label(level: float, text: str, points: float) -> None:
        axes.annotate(
            text, (x, level), xytext=(0, points), textcoords="offset points", ha="center",
            va="bottom" if points > 0 else "top", color=palette["muted"], fontsize=11.5,
        )  # fmt: skip

    if full is not None:
        axes.axhspan(full - found.delta, full, color=palette["band"], alpha=0.09, linewidth=0)
        axes.axhline(full, color=palette["ink"], linewidth=1)
        axes.axhline(full - found.delta, color=palette["accent"], linewidth=0.9, dashes=(3, 2.5))
        label(full, f"{'full' if tight else 'full data'} {number(full)}", 4)
        label(full - found.delta, f"δ = {found.delta:.3g} below", -4)
    if base is not None:
        axes.axhline(base, color=palette["muted"], linewidth=0.9, dashes=(1, 2))
        points = 4.0
        if full is not None and base > full - found.delta - 3 * height:
            # Close to the other lines, the name goes to the far side of theirs.
            crowded = abs(base - full) if base > full else abs(full - found.delta - base)
            points = (4.0 if base > full else -4.0) * (1 if crowded > height else 4.5)
        label(base, f"{'base' if tight else 'base model'} {number(base)}", points)


def _limits(found: Frontier) -> tuple[float, float]:
    low, high = found.range
    return low - 0.06 * (high - low), high + 0.1 * (high - low)


def _thinned(sizes: Sequence[int], full: int, most: int) -> list[int]:
    """At most so many sizes for the axis, none so close to another that their labels touch; the full size stays."""
    ratio = (full / sizes[0]) ** (1 / most)
    kept = [full]
    for size in reversed(sizes):
        if kept[-1] / size >= ratio:
            kept.append(size)
    return kept[::-1]


def plain_axes(axes: Axes, palette: Mapping[str, str]) -> None:
    """Axes with nothing but a bottom line."""
    axes.set_facecolor("none")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(palette["muted"])
    axes.tick_params(colors=palette["muted"], labelsize=12, length=3, width=0.8)
    axes.tick_params(axis="y", length=0)
    axes.set_axisbelow(True)


def _title(axes: Axes, name: str, rest: str, palette: Mapping[str, str]) -> None:
    axes.set_title(name, loc="left", color=palette["ink"], fontsize=13, fontweight="bold", pad=10)
    axes.set_title(rest, loc="right", color=palette["muted"], fontsize=12, pad=10)


def _add_legend(figure: Figure, found: Frontier, *, columns: int) -> None:
    handles = legend_handles(found)
    rows = math.ceil(len(handles) / columns)
    figure.set_figheight(figure.get_figheight() + 0.25 + 0.26 * rows)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, labelcolor=LIGHT["ink"])


def frontier_label(found: Frontier) -> str:
    """What a reader who cannot see the figure is told."""
    tested = "; ".join(
        f"{t.budget:,} pairs {t.score.mean:.3f}, {'enough' if t.passed else 'not shown to be enough'}"
        for t in found.tested
    )
    full = found.arms.get("full")
    return (
        "Refusal score against number of pairs. "
        + (f"Full data: {full[1].mean:.3f} with {found.full_size:,} pairs. " if full else "")
        + (f"Tested sizes: {tested}. " if tested else "")
        + "All numbers are in the table below."
    )
