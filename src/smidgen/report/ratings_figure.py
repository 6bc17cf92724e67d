"""The leaderboard as a picture: a model a row, best first, a mark with its interval for every judge."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from smidgen.evaluation.ratings import MEAN, Leaderboard
from smidgen.report.svg import LIGHT, SERIES, STAND_INS, drawing, inline_svg, write_png

_MOST_NAME = 30


def ratings_png(boards: Mapping[str, Leaderboard], path: Path | str) -> Path:
    """Write the picture of the boards that have ratings; there is at least one."""
    with drawing("ratings"):
        figure = _figure(boards, LIGHT, width=760)
        figure.set_facecolor(LIGHT["paper"])
        return write_png(figure, path)


def ratings_svg(boards: Mapping[str, Leaderboard]) -> str:
    """The same within a page, for wide and for narrow ones."""
    told = "; ".join(
        f"{judge}: " + ", ".join(f"{row.model} {row.rating:.0f}" for row in board.rows if row.rating is not None)
        for judge, board in boards.items()
    )
    drawings = []
    for name, width in (("ratings-wide", 760), ("ratings-narrow", 380)):
        with drawing(name):
            drawings.append(inline_svg(_figure(boards, STAND_INS, width=width), name, f"Ratings. {told}"))
    return "".join(drawings)


def _figure(boards: Mapping[str, Leaderboard], palette: Mapping[str, str], *, width: int) -> Figure:
    rated = {judge: board for judge, board in boards.items() if board.rows[0].rating is not None}
    # A judge may have met other models than the first: all of them, in the order of the first board that has each.
    models = list(dict.fromkeys(row.model for board in rated.values() for row in board.rows))
    n_columns = 3 if width > 600 else 1
    height = len(models) * (30 + 12 * (len(rated) - 1)) + 80 + 22 * -(-len(rated) // n_columns) * (len(rated) > 1)
    figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.12)
    axes = figure.subplots()
    ends = [e for b in rated.values() for r in b.rows for e in (r.low, r.high, r.rating) if e is not None]
    pad = 0.05 * max(max(ends) - min(ends), 40)
    low, high = min(ends) - pad, max(ends) + pad
    axes.set_xlim(low, high)
    for number, (judge, board) in enumerate(rated.items()):
        _marks(axes, board, models, palette[SERIES[number % len(SERIES)]], judge, number, len(rated), (low, high))
    _dress(axes, models, palette)
    if len(rated) > 1:
        figure.legend(
            frameon=False, labelcolor=palette["ink"], fontsize=11, loc="outside lower center", ncols=n_columns
        )
    return figure


def _marks(
    axes: Axes,
    board: Leaderboard,
    models: list[str],
    color: str,
    judge: str,
    number: int,
    n: int,
    limits: tuple[float, float],
) -> None:
    shift = 0.0 if n == 1 else 0.5 * (number / (n - 1) - 0.5)
    for row in board.rows:
        if row.rating is None:
            continue
        y = -models.index(row.model) - shift
        # An interval without an end runs off the picture, and says so by an arrow.
        ends = [limits[i] if end is None else end for i, end in enumerate((row.low, row.high))]
        axes.plot(ends, [y, y], color=color, linewidth=2, solid_capstyle="butt")
        for end, place, marker in ((row.low, ends[0], "<"), (row.high, ends[1], ">")):
            if end is None:
                axes.plot(place, y, marker, color=color, markersize=7, clip_on=False)
        axes.plot(row.rating, y, "o", color=color, markersize=8, label=judge if row is board.rows[0] else None)


def _dress(axes: Axes, models: list[str], palette: Mapping[str, str]) -> None:
    axes.set_facecolor("none")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(palette["muted"])
    axes.axvline(MEAN, color=palette["muted"], linewidth=1, zorder=0)
    axes.grid(axis="x", color=palette["rule"], linewidth=0.8)
    axes.set_axisbelow(True)
    names = [name if len(name) <= _MOST_NAME else f"{name[: _MOST_NAME - 1]}…" for name in models]
    axes.set_yticks([-i for i in range(len(models))], names)
    axes.set_ylim(-len(models) + 0.4, 0.6)
    axes.tick_params(axis="both", colors=palette["muted"], labelsize=11, length=0)
    axes.tick_params(axis="y", colors=palette["ink"], labelsize=12, pad=6)
    axes.set_xlabel("rating, Elo points", color=palette["muted"], fontsize=11)
