"""What external scores look like: chosen against rejected answers, and their difference pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from smidgen.report.svg import LIGHT, drawing, write_png
from smidgen.synthesis.scoring import Bin

_MOST_LABELS = 6


def scores_png(scores: Sequence[Bin], differences: Sequence[Bin], path: Path | str) -> Path:
    """Write the picture.

    Args:
        scores: At least one bin, with counts of chosen and of rejected answers.
        differences: Of the pairs' chosen less rejected scores.
    """
    with drawing("scores"):
        figure = Figure(figsize=(1040 / 72, 320 / 72), layout="constrained")
        figure.set_layout_engine("constrained", w_pad=0.16, h_pad=0.14, wspace=0.06)
        figure.set_facecolor(LIGHT["paper"])
        both, difference = figure.subplots(1, 2)
        places = range(len(scores))
        for side, (name, color) in enumerate((("chosen", "accent"), ("rejected", "series-2"))):
            heights = [b.counts[side] for b in scores]
            both.bar([x + 0.4 * side - 0.2 for x in places], heights, 0.36, color=LIGHT[color], label=name, linewidth=0)
        both.legend(frameon=False, labelcolor=LIGHT["ink"], fontsize=11, loc="best")
        _dress(both, scores, "Scores", "answers")
        colors = [LIGHT["fail" if b.low + b.high < 0 else "accent"] for b in differences]
        heights = [b.counts[0] for b in differences]
        difference.bar(range(len(differences)), heights, 0.76, color=colors, linewidth=0)
        _dress(difference, differences, "Chosen less rejected", "pairs")
        return write_png(figure, path)


def _dress(axes: Axes, bins: Sequence[Bin], title: str, unit: str) -> None:
    axes.set_facecolor("none")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(LIGHT["muted"])
    axes.tick_params(colors=LIGHT["muted"], labelsize=11, length=3, width=0.8)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color=LIGHT["rule"], linewidth=0.8)
    axes.set_axisbelow(True)
    labelled = range(0, len(bins), -(-len(bins) // _MOST_LABELS) if any(b.low != b.high for b in bins) else 1)
    axes.set_xticks(list(labelled), [bins[i].label for i in labelled])
    axes.set_title(title, loc="left", color=LIGHT["ink"], fontsize=13, fontweight="bold", pad=10)
    axes.set_title(unit, loc="right", color=LIGHT["muted"], fontsize=11, pad=10)
