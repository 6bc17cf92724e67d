"""From ratings to preference probabilities by two conventions, and one Bradley–Terry model for a mixture of groups."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import numpy as np
from evalica import Winner, bradley_terry
from jaxtyping import Float
from scipy.sparse.csgraph import connected_components
from scipy.special import expit

from smidgen.errors import SmidgenError

Ratings = Float[np.ndarray, "groups answers"]
# [groups, i, j]: P(i ≻ j) in each group; nan where it is not defined, and on the diagonal.
Preferences = Float[np.ndarray, "groups answers answers"]

_CLOSE = 1e-9


def by_strength(ratings: Ratings) -> Preferences:
    """P(i ≻ j) = r_i / (r_i + r_j): a rating is a strength, and 2 means twice as much as 1.

    A rating of 0 gives probabilities of exactly 0 and 1; 0 against 0 is undefined.

    Source: Bradley & Terry 1952, Biometrika 39:324.
    """
    one, other = ratings[:, :, None], ratings[:, None, :]
    with np.errstate(invalid="ignore"):
        # Divided first, so that large ratings do not overflow; 0 / 0 is nan as it should be.
        largest = np.maximum(one, other)
        found = (one / largest) / (one / largest + other / largest)
    return _without_diagonal(found)


def by_logit(ratings: Ratings) -> Preferences:
    """P(i ≻ j) = σ(r_i − r_j): a rating is a logit, as a reward model's is."""
    return _without_diagonal(expit(ratings[:, :, None] - ratings[:, None, :]))


CONVENTIONS: dict[str, Callable[[Ratings], Preferences]] = {"strength": by_strength, "exponential": by_logit}


def mixture(
    preferences: Preferences, weights: Float[np.ndarray, " groups"]
) -> tuple[Float[np.ndarray, "answers answers"], Float[np.ndarray, "answers answers"]]:
    """Expected wins of i against j, and comparisons of the two, of people drawn by weight; a group without a preference
    between two answers compares them not at all.
    """
    defined = ~np.isnan(preferences)
    wins = np.tensordot(weights, np.where(defined, preferences, 0.0), axes=1)
    return wins, np.tensordot(weights, defined.astype(np.float64), axes=1)


def why_no_fit(wins: Float[np.ndarray, "answers answers"], names: tuple[str, ...]) -> str:
    """Why no finite Bradley–Terry model fits these wins best; empty where one does.

    One does just if, however the answers are parted in two, each part sometimes beats the other.

    Source: Ford 1957, American Mathematical Monthly 64:28.
    """
    n_parts, part = connected_components(wins > 0, directed=True, connection="strong")
    if n_parts == 1:
        return ""
    for number in range(n_parts):
        inside = part == number
        if not (wins[np.ix_(~inside, inside)] > 0).any():
            top = " and ".join(name for name, is_in in zip(names, inside, strict=True) if is_in)
            rest = " or ".join(name for name, is_in in zip(names, inside, strict=True) if not is_in)
            if (wins[np.ix_(inside, ~inside)] > 0).any():
                return f"{top} never lose{'s' if inside.sum() == 1 else ''} to {rest}"
            return f"{top} and {rest} are never compared"
    raise AssertionError("of the strong components of a graph, one has no edge into it")


def fit(wins: Float[np.ndarray, "answers answers"]) -> Float[np.ndarray, " answers"]:
    """The Bradley–Terry model with the greatest likelihood: log-strengths with mean 0. `why_no_fit` must be empty.

    Raises:
        SmidgenError: Strengths so far apart that the search does not get there.
    """
    pairs = [(i, j) for i, j in permutations(range(len(wins)), 2) if wins[i, j] > 0]
    found = bradley_terry(
        [i for i, _ in pairs],
        [j for _, j in pairs],
        [Winner.X] * len(pairs),
        weights=[float(wins[i, j]) for i, j in pairs],
        tolerance=1e-15,
        limit=200_000,
    )
    strengths = np.array([found.scores[i] for i in range(len(wins))], np.float64)
    logs = np.log(strengths)
    expected = (wins + wins.T) * expit(logs[:, None] - logs[None, :])
    # Where the likelihood is greatest, each answer wins as often as the model expects.
    if not np.allclose(wins.sum(1), expected.sum(1) - np.diag(expected), rtol=1e-6, atol=1e-9):
        raise SmidgenError(
            "expected strengths that a Bradley–Terry fit can reach, got probabilities so close to 0 or 1 that the "
            "search did not end; give ratings that are nearer to each other, or exactly 0."
        )
    logs = logs - logs.mean()
    return np.where(np.abs(logs) < 1e-12, 0.0, logs)


def best(values: Float[np.ndarray, " answers"]) -> tuple[int, ...]:
    """Positions of the greatest value, more than one where they are equal."""
    top = float(values.max())
    return tuple(int(i) for i in np.flatnonzero(values >= top - _CLOSE * max(1.0, abs(top))))


def _without_diagonal(found: Preferences) -> Preferences:
    found[:, np.arange(found.shape[1]), np.arange(found.shape[1])] = np.nan
    return found
