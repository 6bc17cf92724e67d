"""Which answer each rule picks for groups that disagree, who loses by it, and how that turns with the groups' sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import linprog
from scipy.special import softmax

from smidgen.explain.preferences import CONVENTIONS, Ratings, best, fit, mixture, why_no_fit

POOLED = {name: f"pooled Bradley–Terry, {name}" for name in CONVENTIONS}
_GRID = np.linspace(0.01, 0.99, 99)


@dataclass(frozen=True, slots=True)
class Rule:
    """What a rule makes of the ratings.

    Attributes:
        values: Of each answer by this rule, higher is better; None where it has none.
        picks: Positions of the best, all of those that tie.
        problem: Why there are no values; empty otherwise.
    """

    name: str
    values: tuple[float, ...] | None
    picks: tuple[int, ...]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Between these shares of one group the pooled model's winners are these."""

    low: float
    high: float
    winners: tuple[int, ...]


def rules(ratings: Ratings, weights: Float[np.ndarray, " groups"], names: tuple[str, ...]) -> list[Rule]:
    """MaxMin, the mean, and one pooled model by each convention."""
    found = [_by_value("MaxMin", ratings.min(0)), _by_value("mean", weights @ ratings)]
    for convention, title in POOLED.items():
        wins, _ = mixture(CONVENTIONS[convention](ratings), weights)
        problem = why_no_fit(wins, names)
        if problem and convention == "exponential":
            problem += ", as far as double precision tells"  # a logit's probability is never exactly 0
        found.append(Rule(title, None, (), problem) if problem else _by_value(title, fit(wins)))
    return found


def worst_off(ratings: Ratings, pick: int) -> tuple[int, ...]:
    """The groups that a pick costs most of their own rating, against their favourite; none where it costs nobody."""
    lost = ratings.max(1) - ratings[:, pick]
    return best(lost) if lost.max() > 0 else ()


def best_mixture(ratings: Ratings) -> tuple[Float[np.ndarray, " answers"], float]:
    """Shares of the answers that give the worst-off group the most, and how much: a policy may mix what a pick cannot.

    A linear programme, exact to rounding.
    """
    n_groups, n_answers = ratings.shape
    largest = ratings.max() or 1.0  # so that no size of rating is too large for the solver
    least = np.c_[-ratings / largest, np.ones(n_groups)]
    found = linprog(
        np.r_[np.zeros(n_answers), -1.0],
        A_ub=least,
        b_ub=np.zeros(n_groups),
        A_eq=np.r_[np.ones(n_answers), 0.0][None],
        b_eq=[1.0],
        bounds=[*[(0.0, 1.0)] * n_answers, (0.0, None)],
    )
    return found.x[:-1], float(found.x[-1]) * float(largest)


def weights_with(weights: Float[np.ndarray, " groups"], group: int, share: float) -> Float[np.ndarray, " groups"]:
    """The weights with one group's share set, the others' in their proportions; both sum to 1."""
    others = np.where(np.arange(len(weights)) == group, 0.0, weights)
    return others * (1 - share) / others.sum() + share * (np.arange(len(weights)) == group)


def shares_of_strength(
    ratings: Ratings, weights: Float[np.ndarray, " groups"], group: int, convention: str
) -> tuple[Float[np.ndarray, " shares"], Float[np.ndarray, "shares answers"]]:
    """Each answer's share of the pooled model's strength, over one group's share of the people.

    Finite throughout where it is finite at the groups' own weights: between 0 and 1 every group has a say.
    """
    preferences = CONVENTIONS[convention](ratings)
    shares = _GRID[::2]
    logs = [fit(mixture(preferences, weights_with(weights, group, float(share)))[0]) for share in shares]
    return shares, softmax(np.stack(logs), axis=1)


def stretches(
    ratings: Ratings, weights: Float[np.ndarray, " groups"], group: int, convention: str
) -> tuple[Stretch, ...]:
    """Where along one group's share of the people, from 0 to 1, the pooled model's winner changes.

    Found on a grid of hundredths and then by halving; what happens within a hundredth twice is not seen.
    """
    preferences = CONVENTIONS[convention](ratings)

    def winners_at(share: float) -> tuple[int, ...]:
        return _winners(*mixture(preferences, weights_with(weights, group, share)))

    winners = [winners_at(float(share)) for share in _GRID]
    found, low = [], 0.0
    for i in range(1, len(_GRID)):
        if winners[i] != winners[i - 1]:
            turn = _turn(winners_at, winners[i - 1], float(_GRID[i - 1]), float(_GRID[i]))
            found.append(Stretch(low, turn, winners[i - 1]))
            low = turn
    # A winner only at a point of the grid is a tie at a crossing, not a stretch.
    return tuple(one for one in (*found, Stretch(low, 1.0, winners[-1])) if one.high - one.low > 1e-6)


def _winners(wins: Float[np.ndarray, "answers answers"], n: Float[np.ndarray, "answers answers"]) -> tuple[int, ...]:
    """Who has the greatest strength; where all answers are compared equally often, who has the most wins."""
    counts = n[~np.eye(len(n), dtype=bool)]
    return best(wins.sum(1)) if np.ptp(counts) < 1e-12 else best(fit(wins))


def _turn(winners_at: Callable[[float], tuple[int, ...]], winners: tuple[int, ...], low: float, high: float) -> float:
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if winners_at(middle) == winners else (low, middle)
    return (low + high) / 2


def _by_value(name: str, values: Float[np.ndarray, " answers"]) -> Rule:
    return Rule(name, tuple(values.tolist()), best(values))
