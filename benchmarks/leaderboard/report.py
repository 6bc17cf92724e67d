"""The leaderboard as a table and as a figure, from its JSON alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.leaderboard.rows import ARMS, BASE, FULL, FULL_CLEAN, SWAP, Row, order_of, ordered
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from smidgen.errors import UsageError
from smidgen.report.svg import LIGHT, drawing, write_png
from smidgen.runs import atomic_write, read_json, write_text

NAMES = {
    BASE: "base model",
    FULL: "all pairs",
    FULL_CLEAN: "all but those that look inverted",
    SWAP: "best ranking, pairs swapped",
}
_COLUMNS = (
    "selector", "size", "budget", "steps", "score", "harmful refused", "harmless refused", "held-out accuracy",
    "teaching", "inverted", "processor seconds",
)  # fmt: skip
# Apart in lightness and in shape, so that print and colour blindness leave them apart.
_SIZES = (("#0b5e63", "o", True), ("#b0741a", "D", False), ("#7458a6", "s", True), ("#1f1d1a", "^", False))
_REFERENCES = {BASE: ("base", (1, 2)), FULL: ("all pairs", None), FULL_CLEAN: ("all but inverted", (4, 2))}
_LETTER = 0.0155  # width of a letter above a panel, as a share of the panel's


def write_report(out: Path) -> str:
    """leaderboard.md, .png and .svg beside leaderboard.json; returns the table with its notes.

    Raises:
        UsageError: No leaderboard there, or one without results yet.
    """
    path = out / "leaderboard.json"
    found = read_json(path) if path.exists() else {"rows": []}
    rows = [Row(**row) for row in found["rows"]]
    if not any(row.budget for row in rows):
        raise UsageError(f"expected results of rankings in {path}, got none; run without --only first.")
    text = f"{table(rows)}\n\n{notes(found, rows)}\n"
    write_text(out / "leaderboard.md", text)
    with drawing("leaderboard"):
        figure = leaderboard_figure(rows, found)
        write_png(figure, out / "leaderboard.png")
        with atomic_write(out / "leaderboard.svg", "wb") as file:
            figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return text


def table(rows: Sequence[Row]) -> str:
    """Markdown, the best at the smallest size first, in columns that line up as plain text too."""
    cells = [list(_COLUMNS), *(_cells(row) for row in ordered(rows))]
    widths = [max(len(line[i]) for line in cells) for i in range(len(_COLUMNS))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def _cells(row: Row) -> list[str]:
    score = "{mean:.3f} [{low:.3f}, {high:.3f}]".format_map(row.score)
    picked = row.picked
    return [
        NAMES.get(row.selector, f"`{row.selector}`"),
        f"{row.size:,}",
        f"equal {row.budget}" if row.budget else "",
        f"{row.steps:,}",
        score,
        f"{row.harmful:.3f}",
        f"{row.harmless:.3f}",
        "" if row.accuracy is None else f"{row.accuracy:.3f}",
        "" if picked is None else f"{picked['precision']:.1%}",
        "" if picked is None else f"{picked['inverted']:.1f}".removesuffix(".0"),
        "" if row.seconds is None else f"{row.seconds:.1f}",
    ]


def notes(found: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """What the table's numbers are, and what is missing from it."""
    harmful, harmless = found["prompts"]
    confidence = found["settings"]["confidence"]
    over = "prompts and seeds" if max(row.seeds for row in rows) > 1 else "prompts, with one seed"
    lines = [
        f"{found['pairs']:,} pairs; {harmful} harmful and {harmless} harmless dev prompts, {found['heldout']} held-out "
        f"pairs; {confidence:.0%} intervals over {over}. Sorted by the mean score at the smallest size. "
        "Processor seconds are those of selecting: ranking, and measuring the groups of columns it reads, as if "
        "nobody had before; the run on all pairs that margins are measured with is not in them.",
    ]
    if any(row.picked for row in rows):
        lines.append(
            f"Teaching and inverted: share and number among a ranking's first {found['looked_at']} pairs, mean over "
            "seeds; after swaps, among the pairs themselves."
        )
    said = {(NAMES.get(row.selector, row.selector), row.size, row.budget): row.note for row in rows if row.note}
    lines += dict.fromkeys(
        f"{name}, {size} pairs, equal {budget}: {note}." if name == NAMES[SWAP] else f"{name}: {note}."
        for (name, size, budget), note in said.items()
    )
    lines += [f"Left out: {name}: {why}." for name, why in found["left_out"].items()]
    return "\n".join(f"- {line}" for line in lines)


def leaderboard_figure(rows: Sequence[Row], found: Mapping[str, Any]) -> Figure:
    """A row a selector, best on top; a panel a budget; a mark with its interval a size; the arms as lines."""
    # What swaps make of the best is no rival of the others, so it stands above them.
    names = sorted((name for name in order_of(rows) if name not in ARMS), key=lambda name: name != SWAP)
    budgets = sorted({row.budget for row in rows if row.budget}, reverse=True)
    sizes = sorted({row.size for row in rows if row.budget})
    figure = Figure(figsize=(11.5, 1.7 + 0.37 * len(names)), facecolor="white", layout="constrained")
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.1, wspace=0.03)
    arms, titles = {row.selector: row for row in rows if row.selector in ARMS}, []
    panels = figure.subplots(1, len(budgets), sharex=True, sharey=True, squeeze=False)[0]
    for axes, budget in zip(panels, budgets, strict=True):
        _plain_axes(axes, names)
        _references(axes, arms)
        for i, size in enumerate(sizes):
            own = {row.selector: row for row in rows if (row.budget, row.size) == (budget, size)}
            _marks(axes, [own.get(name) for name in names], i, len(sizes))
        steps = sorted({row.steps for row in rows if row.budget == budget})
        share = f"the same {steps[0]}" if len(steps) == 1 else " or ".join(map(str, steps))
        axes.set_xlabel("score: harmful refused − harmless refused", fontsize=10.5, color=LIGHT["muted"])
        titles.append((f"equal {budget}", f"{share} optimiser steps"))
    for axes, (title, rest) in zip(panels, titles, strict=True):
        # Only now do all panels share their limits.
        pad = 9 + 13 * _name_references(axes, arms)
        axes.set_title(title, loc="left", fontsize=13, fontweight="bold", color=LIGHT["ink"], pad=pad)
        axes.set_title(rest, loc="right", fontsize=10.5, color=LIGHT["muted"], pad=pad)
    panels[0].set_yticks(range(len(names)), [NAMES.get(name, name) for name in names], fontsize=10.5)
    for label, name in zip(panels[0].get_yticklabels(), names, strict=True):
        label.set(color=LIGHT["ink"], fontweight="bold" if name == SWAP else "normal")
    handles = [
        Line2D([], [], color=color, marker=marker, markerfacecolor=color if filled else "white", markersize=6.5,
               markeredgewidth=1.4, linewidth=1.6, label=f"{size:,} of {found['pairs']:,} pairs")
        for size, (color, marker, filled) in zip(sizes, _SIZES, strict=False)
    ]  # fmt: skip
    seeds = max(row.seeds for row in rows)
    confidence = f"{found['settings']['confidence']:.0%}"
    title = f"one seed, dev prompts, {confidence} intervals over prompts"
    if seeds > 1:
        title = f"{seeds} seeds, dev prompts, {confidence} intervals over prompts and seeds"
    legend = figure.legend(handles=handles, loc="outside lower center", ncols=len(sizes), frameon=False, title=title)
    legend.get_title().set(color=LIGHT["muted"], fontsize=10.5)
    return figure


def _marks(axes: Axes, rows: Sequence[Row | None], i: int, n_sizes: int) -> None:
    color, marker, filled = _SIZES[i % len(_SIZES)]
    place = 0.3 * (i - (n_sizes - 1) / 2)
    for y, row in enumerate(rows):
        if row is None:
            continue
        axes.plot([row.score["low"], row.score["high"]], [y + place] * 2, color=color, linewidth=1.5, zorder=3,
                  solid_capstyle="butt")  # fmt: skip
        axes.plot([row.score["mean"]], [y + place], linestyle="none", marker=marker, color=color, markersize=5.8,
                  markerfacecolor=color if filled else "white", markeredgewidth=1.4, zorder=4)  # fmt: skip


def _references(axes: Axes, arms: Mapping[str, Row]) -> None:
    """Lines for the arms without a choice; full data's with its interval as a band."""
    for arm, (_, dashes) in _REFERENCES.items():
        if arm not in arms:
            continue
        score = arms[arm].score
        if arm == FULL:
            axes.axvspan(score["low"], score["high"], color=LIGHT["ink"], alpha=0.07, linewidth=0, zorder=1)
        line = axes.axvline(score["mean"], color=LIGHT["ink"], linewidth=1, zorder=2)
        if dashes:
            line.set_dashes(dashes)


def _name_references(axes: Axes, arms: Mapping[str, Row]) -> int:
    """The lines' names above them, in as many storeys as it takes that none covers another; returns how many."""
    left, right = axes.get_xlim()
    ends: list[float] = []  # of the last name in each storey
    for arm in sorted(set(arms) & set(_REFERENCES), key=lambda arm: arms[arm].score["mean"]):
        score = arms[arm].score["mean"]
        text = f"{_REFERENCES[arm][0]} {score:.2f}".replace("-", "−")
        half = 0.5 * _LETTER * len(text) * (right - left)
        storey = next((i for i, end in enumerate(ends) if score - half > end), len(ends))
        ends[storey : storey + 1] = [score + half]
        axes.annotate(text, (score, 1), xycoords=("data", "axes fraction"), xytext=(0, 4 + 13 * storey),
                      textcoords="offset points", ha="center", va="bottom", fontsize=9.5,
                      color=LIGHT["muted"])  # fmt: skip
    return len(ends)


def _plain_axes(axes: Axes, names: Sequence[str]) -> None:
    axes.set_facecolor("none")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(LIGHT["muted"])
    axes.tick_params(axis="x", colors=LIGHT["muted"], labelsize=10.5, length=3, width=0.8)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=LIGHT["rule"], linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_ylim(len(names) - 0.4, -0.6)
    for y in range(0, len(names), 2):
        axes.axhspan(y - 0.5, y + 0.5, color=LIGHT["rule"], alpha=0.28, linewidth=0, zorder=0)
