"""What groups that rate answers differently prefer, and what one rule for all of them makes of it."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from smidgen.explain.base import Explanation, Table, explanation
from smidgen.explain.groups import Groups, checked_groups
from smidgen.explain.preferences import CONVENTIONS, best, mixture
from smidgen.explain.ratings_conclusion import conclusion
from smidgen.explain.ratings_plots import plots
from smidgen.explain.rules import worst_off
from smidgen.explain.wording import amount, joined, share

_FORMULAS = {
    "strength": "a rating is a strength: r_i / (r_i + r_j)",
    "exponential": "a rating is a logit: σ(r_i − r_j)",
}


@explanation
def ratings(
    *,
    groups: tuple[tuple[float, ...], ...],
    answers: tuple[str, ...] = (),
    names: tuple[str, ...] = (),
    weights: tuple[float, ...] = (),
) -> Explanation:
    """Bradley–Terry tables of groups' ratings, and MaxMin against the mean and against one pooled model.

    Args:
        groups: One rating of every answer from each group, at least 0, higher is better.
        answers: Names of the answers; y1, y2, … without.
        names: Names of the groups; group 1, group 2, … without.
        weights: How many people stand behind each group, in any unit, above 0; equally many without.

    Raises:
        UsageError: Ratings, names or weights that are none.

    Source: Bradley & Terry 1952, Biometrika 39:324; Chakraborty et al. 2024, MaxMin-RLHF, arXiv:2402.08925.
    """
    found = checked_groups(groups, answers, names, weights)
    given = {
        name: ", ".join(f"{a}: {amount(r)}" for a, r in zip(found.answers, row, strict=True))
        + (f"; {share(float(weight))} of the people" if weights else "")
        for name, row, weight in zip(found.names, found.ratings.tolist(), found.weights, strict=True)
    }
    return Explanation(
        name="ratings",
        title="Groups that rate answers differently",
        given=given,
        tables=_tables(found),
        plots=plots(found),
        conclusion=conclusion(found),
        data=_data(found),
    )


def _tables(found: Groups) -> tuple[Table, ...]:
    pairs = list(combinations(range(len(found.answers)), 2))
    titles = tuple(f"{found.answers[i]} ≻ {found.answers[j]}" for i, j in pairs)

    def probabilities(convention: str) -> Table:
        def row(name: str, table: np.ndarray) -> tuple[str | float | None, ...]:
            return (name, *(None if np.isnan(table[i, j]) else float(table[i, j]) for i, j in pairs))

        tables = found.preferences[convention]
        rows = [row(name, table) for name, table in zip(found.names, tables, strict=True)]
        if len(found.names) > 1:
            wins, n = mixture(tables, found.weights)
            with np.errstate(invalid="ignore"):
                rows.append(row("all of them, mixed", wins / n))
        notes = []
        if any(cell in (0.0, 1.0) for row in rows for cell in row[1:]):
            exact = "are exact" if convention == "strength" else "are what double precision rounds to them"
            notes.append(f"0 and 1 {exact}.")
        notes += ["–: 0 against 0 is undefined."] if any(cell is None for row in rows for cell in row) else []
        title = f"P(i ≻ j), {_FORMULAS[convention]}"
        return Table(title=title, columns=("", *titles), rows=tuple(rows), digits=4, note=" ".join(notes))

    return (*(probabilities(convention) for convention in CONVENTIONS), _favourites(found), *_rule_tables(found))


def _favourites(found: Groups) -> Table:
    rows = []
    for number, (name, row) in enumerate(zip(found.names, found.ratings, strict=True)):
        problem = found.own_problem(number)
        rows.append((name, float(found.weights[number]), found.answer_names(best(row)), problem or "finite"))
    return Table(
        title="What each group prefers",
        columns=("", "share", "favourite", "Bradley–Terry fit to it alone, rating = strength"),
        rows=tuple(rows),
        digits=4,
    )


def _rule_tables(found: Groups) -> tuple[Table, ...]:
    values = tuple(
        (rule.name, *(rule.values or [None] * len(found.answers)), found.answer_names(rule.picks) or "no finite fit")
        for rule in found.rules
    )
    losers = []
    for rule in found.rules:
        for pick in rule.picks:
            groups = worst_off(found.ratings, pick)
            costs = [f"{amount(found.ratings[g, pick])} instead of {amount(found.ratings[g].max())}" for g in groups]
            losers.append((
                f"{rule.name}: {found.answers[pick]}",
                float(found.ratings[:, pick].min()),
                float(found.weights @ found.ratings[:, pick]),
                joined([found.names[g] for g in groups]) or "nobody",
                joined(list(dict.fromkeys(costs))),
            ))  # fmt: skip
    return (
        Table(
            title="What each rule makes of the answers",
            columns=("rule", *found.answers, "picks"),
            rows=values,
            digits=4,
            note="MaxMin: the least rating over the groups. Mean: weighted by the groups’ shares. Pooled: "
            "log-strengths with mean 0 of one Bradley–Terry model of everybody’s preferences mixed.",
        ),
        Table(
            title="Who loses by it",
            columns=("rule and pick", "least rating", "mean rating", "loses most", "gets"),
            rows=tuple(losers),
            digits=4,
        ),
        *_turn_tables(found),
    )


def _turn_tables(found: Groups) -> tuple[Table, ...]:
    rows = tuple(
        (
            f"{found.names[group]}, {convention}",
            "; ".join(f"{found.answer_names(s.winners)} from {share(s.low)} to {share(s.high)}" for s in parts),
        )
        for (group, convention), parts in found.turns.items()
    )
    if not rows:
        return ()
    return (
        Table(
            title="The pooled model’s winner, by one group’s share of the people",
            columns=("group, convention", "winner"),
            rows=rows,
            note="The other groups keep their proportions. MaxMin does not depend on shares.",
        ),
    )


def _data(found: Groups) -> dict[str, Any]:
    pairs = list(combinations(range(len(found.answers)), 2))

    def probabilities(table: np.ndarray) -> dict[str, float | None]:
        return {
            f"{found.answers[i]}>{found.answers[j]}": None if np.isnan(table[i, j]) else float(table[i, j])
            for i, j in pairs
        }

    return {
        "answers": list(found.answers),
        "groups": [
            {
                "name": name,
                "ratings": found.ratings[i].tolist(),
                "share": float(found.weights[i]),
                "favourites": [found.answers[a] for a in best(found.ratings[i])],
                "no_finite_fit": found.own_problem(i) or None,
                **{name: probabilities(tables[i]) for name, tables in found.preferences.items()},
            }
            for i, name in enumerate(found.names)
        ],
        "rules": {
            rule.name: {
                "values": None if rule.values is None else dict(zip(found.answers, rule.values, strict=True)),
                "picks": [found.answers[i] for i in rule.picks],
                "no_finite_fit": rule.problem or None,
            }
            for rule in found.rules
        },
        "maxmin_mixture": {
            "shares": dict(zip(found.answers, found.mixture[0].tolist(), strict=True)),
            "least_rating": found.mixture[1],
        },
        "pooled_winner_by_share": [
            {
                "group": found.names[group],
                "convention": convention,
                "stretches": [
                    {"low": s.low, "high": s.high, "winners": [found.answers[i] for i in s.winners]} for s in parts
                ],
            }
            for (group, convention), parts in found.turns.items()
        ],
    }
