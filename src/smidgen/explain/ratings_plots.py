"""The pictures of groups' ratings: who rates what how, and the pooled model's strengths as groups grow."""

from __future__ import annotations

import numpy as np

from smidgen.explain.base import Panel, Plot, Series
from smidgen.explain.groups import Groups
from smidgen.explain.rules import shares_of_strength

MOST_SHOWN_GROUPS = 6


def plots(found: Groups) -> tuple[Plot, ...]:
    return (_ratings_plot(found), *_share_plots(found))


def _ratings_plot(found: Groups) -> Plot:
    n_answers = len(found.answers)
    rows = tuple(float(i) for i in range(n_answers))
    spans = [
        Series(label="", role="muted", xs=(float(column.min()), float(column.max())), ys=(rows[i],) * 2, style="span")
        for i, column in enumerate(found.ratings.T)
    ]
    # Groups that rate an answer alike would hide each other: each stands a little above or below the line.
    n = len(found.names)
    lifts = [0.0 if n == 1 else 0.56 * (number / (n - 1) - 0.5) for number in range(n)]
    dots = [
        Series(label=name, xs=tuple(row.tolist()), ys=tuple(y + lift for y in rows), style="dots")
        for name, row, lift in zip(found.names, found.ratings, lifts, strict=True)
    ]
    means = Series(label="mean", role="ink", xs=tuple((found.weights @ found.ratings).tolist()), ys=rows, style="tick")
    least = Series(label="least", role="accent", xs=tuple(found.ratings.min(0).tolist()), ys=rows, style="ring")
    return Plot(
        name="ratings",
        title="Every group’s rating of every answer",
        caption="MaxMin looks at the ring, the least rating of each answer, and takes the answer whose ring is "
        "furthest to the right; the mean looks at the tick.",
        panels=(
            Panel(
                title="", x_label="rating", series=(*spans, *dots, means, least), rows=found.answers
            ),
        ),
        columns=1,
    )  # fmt: skip


def _share_plots(found: Groups) -> tuple[Plot, ...]:
    convention = next((name for _, name in found.turns), None)
    if convention is None:
        return ()
    largest = np.argsort(-found.weights, kind="stable")[:MOST_SHOWN_GROUPS]
    panels = []
    for group in sorted(int(g) for g in largest):
        xs, strengths = shares_of_strength(found.ratings, found.weights, group, convention)
        lines = [
            Series(label=answer, xs=tuple(xs.tolist()), ys=tuple(strengths[:, i].tolist()))
            for i, answer in enumerate(found.answers)
        ]
        now = (float(found.weights[group]), "now")
        panels.append(
            Panel(title=found.names[group], x_label="its share of the people", series=tuple(lines), at=(now,))
        )
    return (
        Plot(
            name="shares",
            title="The pooled model’s strengths, by one group’s share of the people",
            caption=f"Ratings read as {'strengths' if convention == 'strength' else 'logits'}. The highest line is "
            "what one pooled Bradley–Terry model would pick; where lines cross at the top, the winner changes.",
            panels=tuple(panels),
            columns=min(4, len(panels)),
            same_scale=True,
        ),
    )
