"""How the frontier's parts are told apart: a colour for each selector, a mark for each arm, and the legend of both."""

from __future__ import annotations

import math

from matplotlib.lines import Line2D

from smidgen.report.frontier import ARM_NAMES, Frontier
from smidgen.report.pdf_text import printable
from smidgen.report.svg import LIGHT, SERIES

# Drawn beside the tested sizes: marker, colour role, and how far to the side, in points.
_COMPARATORS = {
    "random": ("v", "series-6", 12.0),
    "random_in_pool": ("^", "series-2", 21.0),
    "sft_on_chosen": ("s", "series-8", 30.0),
    "best": ("D", "accent", 0.0),
    "full_clean": ("P", "series-7", -11.0),
    "full": ("o", "ink", 0.0),
}


def selector_roles(found: Frontier) -> dict[str, str]:
    """Each selector's colour role; a refined subset keeps its selector's. Beyond eight selectors colours repeat."""
    selectors = list(dict.fromkeys(selector_of(series) for series in found.series))
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


def selector_of(series: str) -> str:
    """The selector whose subsets a series holds, refined or not."""
    return series.removesuffix(", refined")


def legend_handles(found: Frontier) -> list[Line2D]:
    """One entry for every colour and mark in the figure."""
    handles = [
        Line2D([], [], color=LIGHT[role], marker="o", markersize=5, linewidth=1.2, label=_short(selector))
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


def fitting_columns(found: Frontier, width: float) -> int:
    """Most legend columns that a width in points has room for; a column is as wide as its longest label."""
    lengths = [len(str(handle.get_label())) for handle in legend_handles(found)]
    for columns in (4, 3, 2):
        rows = math.ceil(len(lengths) / columns)
        longest = [max(lengths[i : i + rows]) for i in range(0, len(lengths), rows)]
        if 7 * sum(longest) + 52 * len(longest) < width:
            return columns
    return 1


def _short(name: str, most: int = 48) -> str:
    name = printable(name)
    return name if len(name) <= most else f"{name[: most - 1]}…"
