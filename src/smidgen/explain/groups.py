"""Groups of people who rate the same answers: checked, and with all that follows from their ratings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from smidgen.errors import UsageError
from smidgen.explain.preferences import CONVENTIONS, Ratings, mixture, why_no_fit
from smidgen.explain.rules import POOLED, Rule, Stretch, best_mixture, rules, stretches
from smidgen.explain.wording import joined


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Everything about the groups that tables and sentences are made of.

    Attributes:
        weights: Share of each group, summing to 1.
        preferences: By convention, see `preferences`.
        turns: By group and convention, how the pooled winner changes with the group's share; nothing where no finite
            model fits or there is one group.
    """

    names: tuple[str, ...]
    answers: tuple[str, ...]
    ratings: Ratings
    weights: Float[np.ndarray, " groups"]
    preferences: dict[str, np.ndarray]
    rules: list[Rule]
    mixture: tuple[np.ndarray, float]
    turns: dict[tuple[int, str], tuple[Stretch, ...]]

    def answer_names(self, positions: tuple[int, ...]) -> str:
        return joined([self.answers[i] for i in positions])

    def own_problem(self, group: int) -> str:
        """Why the strength convention gives no finite fit to this group alone; empty where it does."""
        alone = np.arange(len(self.names)) == group
        return why_no_fit(mixture(self.preferences["strength"], alone.astype(float))[0], self.answers)


def checked_groups(
    groups: tuple[tuple[float, ...], ...],
    answers: tuple[str, ...],
    names: tuple[str, ...],
    weights: tuple[float, ...],
) -> Groups:
    found = _ratings(groups)
    n_groups, n_answers = found.shape
    answers = _names("answers", answers, n_answers, "y{}")
    names = _names("groups", names, n_groups, "group {}")
    people = _weights(weights, n_groups)
    listed = rules(found, people, answers)
    turns = {
        (group, convention): stretches(found, people, group, convention)
        for convention, title in POOLED.items()
        for group in range(n_groups)
        if n_groups > 1 and next(rule for rule in listed if rule.name == title).values is not None
    }
    return Groups(
        names=names,
        answers=answers,
        ratings=found,
        weights=people,
        preferences={name: of(found) for name, of in CONVENTIONS.items()},
        rules=listed,
        mixture=best_mixture(found),
        turns=turns,
    )


def _ratings(groups: tuple[tuple[float, ...], ...]) -> Ratings:
    if not groups:
        raise UsageError("expected the ratings of at least one group, got none; give --group 1,1,2 for each.")
    if len({len(row) for row in groups}) > 1 or len(groups[0]) < 2:
        raise UsageError(
            f"expected every group to rate the same two or more answers, got "
            f"{joined([str(len(row)) for row in groups])} ratings; give one for each answer."
        )
    for number, row in enumerate(groups, start=1):
        for value in row:
            if not 0 <= value < np.inf:
                raise UsageError(
                    f"expected ratings of at least 0, got {value:g} in group {number}; shift them, so that the least "
                    "is 0 or more, and remember that a strength of 0 never wins."
                )
    return np.array(groups, np.float64)


def _names(what: str, given: tuple[str, ...], count: int, default: str) -> tuple[str, ...]:
    if not given:
        return tuple(default.format(number) for number in range(1, count + 1))
    if len(given) != count or len(set(given)) != count:
        raise UsageError(f"expected {count} names of {what}, all different, got {joined([*given])}; give one for each.")
    return given


def _weights(given: tuple[float, ...], count: int) -> Float[np.ndarray, " groups"]:
    if not given:
        return np.full(count, 1 / count)
    if len(given) != count or not all(0 < weight < np.inf for weight in given):
        raise UsageError(
            f"expected {count} weights above 0, one a group, got {joined([f'{weight:g}' for weight in given])}; leave "
            "a group out that nobody is in."
        )
    return np.array(given) / sum(given)
