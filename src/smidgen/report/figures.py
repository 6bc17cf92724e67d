"""The report's figures: score against number of pairs, and what is in the subset."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from smidgen.evaluation.statistics import Interval
from smidgen.report.artefacts import read_run
from smidgen.report.contents import Distribution
from smidgen.report.frontier import ARM_NAMES, Frontier, frontier, frontier_text
from smidgen.report.svg import LIGHT, SERIES, STAND_INS, drawing, inline_svg, write_png
from smidgen.report.verdict import number

__all__ = [
    "SQUEEZE", "comparators", "distributions_svg", "frontier_figure", "frontier_label", "frontier_png",
    "frontier_text", "selector_roles",
]  # fmt: skip

# Drawn beside the tested sizes: marker, colour role, and how far to the side, in points.
_COMPARATORS = {
    "random": ("v", "series-6", 12.0),
    "random_in_pool": ("^", "series-2", 21.0),
    "sft_on_chosen": ("s", "series-8", 30.0),
    "best": ("D", "accent", 0.0),
    "full_clean": ("P", "series-7", -11.0),
    "full": ("o", "ink", 0.0),
}

# How much closer the comparators stand to the tested sizes where there is less room.
SQUEEZE = 0.75


def frontier_png(run_folder: Path | str, path: Path | str) -> Path:
    """Write the frontier with its legend as a PNG, for a README.

    Raises:
        UsageError: No finished run there.
        InvalidData: An artefact that cannot be read.
    """
    found = frontier(read_run(run_folder))
    with drawing("frontier-png"):
        figure = frontier_figure(found, LIGHT, narrow=False)
        handles = _legend_handles(found)
        rows = math.ceil(len(handles) / 5)
        figure.set_figheight(figure.get_figheight() + 0.25 + 0.26 * rows)
        figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, labelcolor=LIGHT["ink"])
        figure.set_facecolor(LIGHT["paper"])
        figure.set_layout_engine("constrained", w_pad=0.16, h_pad=0.14, wspace=0.06)
        return write_png(figure, path)


def distributions_svg(found: Sequence[Distribution]) -> str:
    """Histograms of subset (filled) against full data (outline), wide and narrow; nothing where there is nothing."""
    if not found:
        return ""
    svgs = []
    for name, columns in (("wide", 4), ("narrow", 2)):
        with drawing(f"contents-{name}"):
            figure = _distributions_figure(found, STAND_INS, columns)
            svgs.append(inline_svg(figure, f"contents-{name}", _distributions_label(found)))
    return "\n".join(svgs)


def selector_roles(found: Frontier) -> dict[str, str]:
    """Each selector's colour role; a refined subset keeps its selector's. Beyond eight selectors colours repeat."""
    selectors = list(dict.fromkeys(_selector(series) for series in found.series))
    return {selector: SERIES[i % len(SERIES)] for i, selector in enumerate(selectors)}


def comparators(found: Frontier) -> dict[str, tuple[str, str, float]]:
    """The arms that the figure draws beside the tested sizes: marker, colour role, points to the side."""
    # The best subset may be one of the tested sizes, which is drawn already.
    tested = {tested.budget for tested in found.tested}
    # A baseline that also raced keeps the colour it has among the selectors.
    roles = selector_roles(found)
    return {
        arm: (marker, roles.get(arm, role), aside)
        for arm, (marker, role, aside) in _COMPARATORS.items()
        if arm in found.arms and found.arms[arm][0] and not (arm == "best" and found.arms[arm][0] in tested)
    }


def _selector(series: str) -> str:
    return series.removesuffix(", refined")


def frontier_figure(found: Frontier, palette: Mapping[str, str], *, narrow: bool) -> Figure:
    """The frontier without its legend: axes for the search, then axes for what was confirmed."""
    width, height = (350, 640) if narrow else (1040, 430)
    figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
    figure.set_layout_engine("constrained", wspace=0.06, hspace=0.06)
    rows, columns = (2, 1) if narrow else (1, 2)
    search, confirm = figure.subplots(rows, columns, sharex=True, sharey=True)
    low, high = _limits(found)
    sizes = {point.budget for point in (*found.search, *found.tested)} | {found.full_size}
    sizes |= {size for size, _ in found.arms.values() if size}
    for axes in (search, confirm):
        _plain_axes(axes, palette)
        axes.set_xscale("log")
        axes.set_xlim(min(sizes) / 1.45, found.full_size * (1.6 if narrow else 1.35))
        axes.set_ylim(low, high)
        axes.grid(axis="y", color=palette["rule"], linewidth=0.8)
        ticks = _thinned(sorted(sizes), found.full_size, (6 if narrow else 9))
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_major_formatter(FixedFormatter([f"{size:,}" for size in ticks]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.tick_params(labelbottom=True)
    for axes in (search, confirm) if narrow else (search,):
        axes.set_ylabel("refusal score", color=palette["muted"], fontsize=12)
    _title(search, "Search", "dev prompts: nominates", palette)
    _title(confirm, "Confirm", "fresh prompts and seeds: the claim", palette)
    for axes in (confirm,) if narrow else (search, confirm):
        axes.set_xlabel("pairs trained on", color=palette["muted"], fontsize=12)
    _levels(search, found.dev_base, found.dev_full, found, palette, narrow=narrow)
    arms = {arm: score.mean for arm, (_, score) in found.arms.items()}
    _levels(confirm, arms.get("base"), arms.get("full"), found, palette, narrow=narrow)
    _draw_search(search, found, palette)
    _draw_confirmed(confirm, found, palette, squeeze=SQUEEZE if narrow else 1.0)
    return figure


def _draw_search(axes: Axes, found: Frontier, palette: Mapping[str, str]) -> None:
    roles = selector_roles(found)
    for series in found.series:
        color = palette[roles[_selector(series)]]
        points = [point for point in found.search if point.series == series]
        sizes = [point.budget for point in points]
        refined = series != _selector(series)
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
    axes: Axes, base: float | None, full: float | None, found: Frontier, palette: Mapping[str, str], *, narrow: bool
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
        label(full, f"{'full' if narrow else 'full data'} {number(full)}", 4)
        label(full - found.delta, f"δ = {found.delta:.3g} below", -4)
    if base is not None:
        axes.axhline(base, color=palette["muted"], linewidth=0.9, dashes=(1, 2))
        points = 4.0
        if full is not None and base > full - found.delta - 3 * height:
            # Close to the other lines, the name goes to the far side of theirs.
            crowded = abs(base - full) if base > full else abs(full - found.delta - base)
            points = (4.0 if base > full else -4.0) * (1 if crowded > height else 4.5)
        label(base, f"{'base' if narrow else 'base model'} {number(base)}", points)


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


def _plain_axes(axes: Axes, palette: Mapping[str, str]) -> None:
    axes.set_facecolor("none")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(palette["muted"])
    axes.tick_params(colors=palette["muted"], labelsize=12, length=3, width=0.8)
    axes.tick_params(axis="y", length=0)
    axes.set_axisbelow(True)


def _title(axes: Axes, name: str, rest: str, palette: Mapping[str, str]) -> None:
    axes.set_title(name, loc="left", color=palette["ink"], fontsize=13, fontweight="bold", pad=10)
    axes.set_title(rest, loc="right", color=palette["muted"], fontsize=12, pad=10)


def _legend_handles(found: Frontier) -> list[Line2D]:
    handles = [
        Line2D([], [], color=LIGHT[role], marker="o", markersize=5, linewidth=1.2, label=selector)
        for selector, role in selector_roles(found).items()
    ]
    if any(tested.passed for tested in found.tested):
        handles.append(Line2D([], [], color=LIGHT["accent"], marker="o", markersize=8, label="tested: enough"))
    if any(not tested.passed for tested in found.tested):
        label = "tested: not shown"
        handles.append(Line2D([], [], color=LIGHT["fail"], marker="o", mfc="none", markersize=8, label=label))
    for arm, (marker, role, _) in comparators(found).items():
        handles.append(Line2D([], [], color=LIGHT[role], marker=marker, linewidth=1.1, label=ARM_NAMES[arm]))
    return handles


def _distributions_figure(found: Sequence[Distribution], palette: Mapping[str, str], columns: int) -> Figure:
    rows = math.ceil(len(found) / columns)
    width, height = (1040, 210 * rows) if columns > 2 else (350, 165 * rows)
    figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
    figure.set_layout_engine("constrained", wspace=0.1, hspace=0.1)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(found) :]:
        axes.set_visible(False)
    for axes, item in zip(grid.flat, found, strict=False):
        _plain_axes(axes, palette)
        axes.stairs(item.subset_shares, item.edges, fill=True, color=palette["accent"], alpha=0.75, linewidth=0)
        axes.stairs(item.full_shares, item.edges, color=palette["ink"], linewidth=1.3)
        axes.set_xlim(item.edges[0], item.edges[-1])
        axes.set_ylim(0, max(*item.subset_shares, *item.full_shares) * 1.08)
        axes.yaxis.set_major_locator(NullLocator())
        ticks = [item.edges[0], (item.edges[0] + item.edges[-1]) / 2, item.edges[-1]]
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_major_formatter(FixedFormatter(_tick_labels(item, ticks)))
        axes.set_title(item.title, loc="left", color=palette["ink"], fontsize=12 if columns > 2 else 11)
    return figure


def _tick_labels(item: Distribution, ticks: Iterable[float]) -> list[str]:
    if item.name == "prompt_harmfulness":
        return [f"{tick:g}" for tick in ticks]
    labels = [f"{tick:g}" for tick in ticks]
    return [*labels[:-1], f"{labels[-1]}+"]


def frontier_label(found: Frontier) -> str:
    """What the frontier's drawing shows, for a reader who cannot see it."""
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


def _distributions_label(found: Iterable[Distribution]) -> str:
    medians = "; ".join(f"{d.title}: {d.subset_median:.3g} against {d.full_median:.3g}" for d in found)
    return f"Histograms of the subset against the full data. Medians, subset against full: {medians}."
