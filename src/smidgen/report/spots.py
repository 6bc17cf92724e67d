"""The frontier's drawing for a page, and where each of its points stands, so that they can be chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from smidgen.report.figures import SQUEEZE, frontier_drawings
from smidgen.report.frontier import Frontier
from smidgen.report.frontier_marks import comparators

Group = Literal["search", "tested", "arm"]


@dataclass(frozen=True, slots=True)
class Spot:
    """A point: `search` and `tested` by its position in the frontier's own list, `arm` by its name.

    Attributes:
        x: From the left of the drawing's view box.
        y: From its top.
    """

    group: Group
    name: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Drawn:
    """A drawing of the frontier, `wide` or `narrow`, and the points in it."""

    name: str
    svg: str
    width: float
    height: float
    spots: tuple[Spot, ...]


def drawn_frontier(found: Frontier) -> list[Drawn]:
    """The frontier as the report draws it, for wide pages and for narrow ones, with the places of its points."""
    drawn = []
    for name, figure, svg in frontier_drawings(found):
        width, height = (72 * float(side) for side in figure.get_size_inches())
        spots = _spots(figure, found, squeeze=SQUEEZE if name == "narrow" else 1.0)
        drawn.append(Drawn(name, svg, width, height, tuple(spots)))
    return drawn


def _spots(figure: Figure, found: Frontier, *, squeeze: float) -> list[Spot]:
    search, confirm = figure.axes
    scale, height = 72 / figure.dpi, 72 * float(figure.get_size_inches()[1])

    def spot(axes: Axes, group: Group, name: str, size: int, score: float, aside: float = 0.0) -> Spot:
        x, y = axes.transData.transform((size, score))
        return Spot(group, name, round(float(scale * x + aside), 2), round(float(height - scale * y), 2))

    spots = [spot(search, "search", str(i), p.budget, p.score.mean) for i, p in enumerate(found.search)]
    spots += [spot(confirm, "tested", str(i), t.budget, t.score.mean) for i, t in enumerate(found.tested)]
    for arm, (_, _, aside) in comparators(found).items():
        size, score = found.arms[arm]
        spots.append(spot(confirm, "arm", arm, size or 0, score.mean, aside * squeeze))
    return spots
