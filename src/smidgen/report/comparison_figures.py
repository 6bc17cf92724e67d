"""What a comparison looks like: a judge's wins, ties and losses as one bar, with the win rate's interval on it."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from smidgen.evaluation.sidebyside import Result
from smidgen.report.svg import STAND_INS, drawing, inline_svg

_ROW = 46


def outcomes_svg(results: Sequence[Result]) -> str:
    """Both drawings, for wide and for narrow pages; empty where nothing was judged.

    Args:
        results: Of one pair of models.
    """
    judged = [r for r in results if r.tally.n]
    if not judged:
        return ""
    return _svg(judged, "outcomes-wide", width=880, size=12) + _svg(judged, "outcomes-narrow", width=400, size=12)


def _svg(results: Sequence[Result], name: str, *, width: int, size: int) -> str:
    narrow = width < 600
    row = _ROW + 20 * narrow
    with drawing(name):
        figure = Figure(figsize=(width / 72, (row * len(results) + 46) / 72), layout="constrained")
        figure.set_layout_engine("constrained", w_pad=0.04, h_pad=0.04)
        axes = figure.subplots()
        for place, result in enumerate(results):
            _bar(axes, result, -place)
            if narrow:
                axes.text(0, 0.43 - place, result.judge, color=STAND_INS["ink"], fontsize=size, va="bottom")
        _dress(axes, results, size, narrow=narrow)
        told = "; ".join(
            f"{r.judge}: {r.model_a} wins {r.tally.wins}, ties {r.tally.ties}, loses {r.tally.losses}" for r in results
        )
        return inline_svg(figure, name, f"Wins, ties and losses by judge. {told}")


def _bar(axes: Axes, result: Result, y: float) -> None:
    """Wins from the left, losses from the right, ties between: the win rate, ties half, is the middle of the ties."""
    n = result.tally.n
    won, tied = result.tally.wins / n, result.tally.ties / n
    height = 0.52
    axes.barh(y, won, height, color=STAND_INS["series-1"], alpha=0.8, linewidth=0)
    axes.barh(y, tied, height, left=won, color=STAND_INS["rule"], linewidth=0)
    axes.barh(y, 1 - won - tied, height, left=won + tied, color=STAND_INS["series-2"], alpha=0.8, linewidth=0)
    if result.rate:
        ink, paper = STAND_INS["ink"], STAND_INS["paper"]
        axes.plot([result.rate.low, result.rate.high], [y, y], color=ink, linewidth=2, solid_capstyle="butt")
        axes.plot(result.rate.mean, y, "o", color=ink, markersize=8, markeredgecolor=paper, markeredgewidth=1.4)


def _dress(axes: Axes, results: Sequence[Result], size: int, *, narrow: bool) -> None:
    axes.set_facecolor("none")
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.axvline(0.5, color=STAND_INS["ink"], linewidth=1, dashes=(3, 3))
    axes.set_xlim(-0.005, 1.005)
    axes.set_ylim(-len(results) + 0.4, 0.9 if narrow else 0.6)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.set_yticks([] if narrow else [-i for i in range(len(results))], [] if narrow else [_label(r) for r in results])
    axes.tick_params(colors=STAND_INS["muted"], labelsize=size, length=0)
    axes.tick_params(axis="y", colors=STAND_INS["ink"], pad=8)


def _label(result: Result) -> str:
    return result.judge if len(result.judge) <= 34 else f"{result.judge[:33]}…"
