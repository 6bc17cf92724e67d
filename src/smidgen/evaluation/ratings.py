"""Ratings of many models from pairwise verdicts: Bradley–Terry with ties, intervals over prompts, and where none exist.

A rating is in Elo points: 400 points are odds of ten to one, and the models' mean is 1000. Strengths are the
exponential form, P(i beats j) = s_i / (s_i + s_j); a tie is half a win of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import evalica
import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import ndtr, stdtrit

from smidgen.evaluation.statistics import Interval
from smidgen.evaluation.verdicts import LOSS, TIE, WIN, Verdict
from smidgen.evaluation.winrate import by_prompt, win_rate

MEAN, POINTS_PER_LOG = 1000.0, 400 / np.log(10)
_WINNER = {WIN: evalica.Winner.X, TIE: evalica.Winner.Draw, LOSS: evalica.Winner.Y}
_TOLERANCE, _MOST_STEPS = 1e-9, 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """One model's.

    Attributes:
        rating: Elo points; None where no finite fit exists.
        low: Lower end of its interval; None where it has none.
        high: Upper end; the same.
        win_rate: Of its own matches, against whomever it met.
        n_verdicts: On them.
    """

    model: str
    rating: float | None
    low: float | None
    high: float | None
    win_rate: Interval
    n_verdicts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaderboard:
    """All models, best first.

    Attributes:
        problem: Why there are no ratings, or no intervals of them; empty where there are.
        share_unbounded: Of the resamples, that had no finite fit.
    """

    rows: tuple[Rating, ...]
    n_verdicts: int
    n_prompts: int
    problem: str
    share_unbounded: float


@dataclass(frozen=True, slots=True)
class _Table:
    """Verdicts as columns; `prompts` are positions from 0."""

    models: tuple[str, ...]
    first: Int[np.ndarray, " verdicts"]
    second: Int[np.ndarray, " verdicts"]
    outcomes: Float[np.ndarray, " verdicts"]
    prompts: Int[np.ndarray, " verdicts"]


@dataclass(frozen=True, slots=True)
class _Kinds:
    """Verdicts counted by who met whom with what outcome, so that a resample costs no walk over all of them."""

    models: tuple[str, ...]
    first: Int[np.ndarray, " kinds"]
    second: Int[np.ndarray, " kinds"]
    outcomes: Float[np.ndarray, " kinds"]
    counts: Float[np.ndarray, "prompts kinds"]


def leaderboard(
    verdicts: Sequence[Verdict], *, confidence: float = 0.95, resamples: int = 1000, seed: int = 0
) -> Leaderboard | None:
    """Rate the models that the verdicts are on.

    The interval is a percentile bootstrap of whole prompts, its levels widened for few prompts. A resample without a
    finite fit counts as unbounded on both sides, so that it can only widen an interval.

    Args:
        verdicts: Of one judge; those without an outcome do not count.
        confidence: Two-sided.
        resamples: Of the prompts.
        seed: Of the resampling.

    Returns:
        None without any outcome.

    Source: Bradley & Terry 1952, Biometrika 39:324; Ford 1957, The American Mathematical Monthly 64:28 (when a finite
        fit exists); Hesterberg 2015, The American Statistician 69:371, section 4.3 (the widened levels).
    """
    table = _columns([v for v in verdicts if v.outcome is not None])
    if not len(table.outcomes):
        return None
    kinds = _counted(table)
    fitted, problem = _fit(kinds, kinds.counts.sum(0)), _problem(kinds)
    lows, highs, share = (None, None, 0.0) if problem else _bounds(kinds, confidence, resamples, seed)
    if not problem and lows is None:
        problem = "a single prompt was judged: there are no intervals"
    elif lows is not None and highs is not None and not np.isfinite([lows, highs]).all():
        problem = f"without some of the prompts no finite fit exists ({share:.1%} of resamples): intervals have no end"
    rows = []
    for i, model in enumerate(table.models):
        of_model = _own_win_rate(table, i, confidence)
        bounds = [None if ends is None or not np.isfinite(ends[i]) else float(ends[i]) for ends in (lows, highs)]
        rating = None if fitted is None else float(fitted[i])
        n = int(((table.first == i) | (table.second == i)).sum())
        rows.append(Rating(model=model, rating=rating, low=bounds[0], high=bounds[1], win_rate=of_model, n_verdicts=n))
    rows.sort(key=lambda row: (-(row.rating or 0.0), -row.win_rate.mean, row.model))
    n_prompts = len(np.unique(table.prompts))
    return Leaderboard(
        rows=tuple(rows),
        n_verdicts=len(table.outcomes),
        n_prompts=n_prompts,
        problem=problem,
        share_unbounded=share,
    )


def _columns(verdicts: Sequence[Verdict]) -> _Table:
    # Sorted, so that neither the order of models nor that of verdicts moves a resample.
    models = tuple(sorted({name for v in verdicts for name in (v.model_a, v.model_b)}))
    place = {name: i for i, name in enumerate(models)}
    numbers = {number: i for i, number in enumerate(sorted({v.number for v in verdicts}))}
    return _Table(
        models,
        np.array([place[v.model_a] for v in verdicts], int),
        np.array([place[v.model_b] for v in verdicts], int),
        np.array([v.outcome for v in verdicts], np.float64),
        np.array([numbers[v.number] for v in verdicts], int),
    )


def _counted(table: _Table) -> _Kinds:
    each = np.stack([table.first, table.second, table.outcomes], axis=1)
    kinds, kind = np.unique(each, axis=0, return_inverse=True)
    counts = np.zeros((int(table.prompts.max()) + 1, len(kinds)))
    np.add.at(counts, (table.prompts, kind), 1.0)
    return _Kinds(table.models, kinds[:, 0].astype(int), kinds[:, 1].astype(int), kinds[:, 2], counts)


def _groups(table: _Kinds, weights: Float[np.ndarray, " kinds"], *, strong: bool) -> Int[np.ndarray, " models"]:
    """Which group each model is in; `strong`: within one, a chain of wins or ties leads from each to each."""
    n, counts = len(table.models), weights > 0
    beat, beaten = counts & (table.outcomes > LOSS), counts & (table.outcomes < WIN)
    sources = np.concatenate([table.first[beat], table.second[beaten]])
    targets = np.concatenate([table.second[beat], table.first[beaten]])
    graph = coo_array((np.ones(len(sources)), (sources, targets)), shape=(n, n))
    return connected_components(graph, directed=True, connection="strong" if strong else "weak")[1]


def _problem(table: _Kinds) -> str:
    """Why no finite fit exists; empty where one does."""
    ones = np.ones(len(table.outcomes))
    if (weak := _groups(table, ones, strong=False)).max() > 0:
        return f"nothing compares {_named(table, weak)}: they have no common scale"
    if (strong := _groups(table, ones, strong=True)).max() > 0:
        return (
            f"no finite fit exists: of {_named(table, strong)}, one never won or tied against another, so their "
            "distance has no end"
        )
    return ""


def _named(table: _Kinds, groups: Int[np.ndarray, " models"]) -> str:
    parts = [[m for m, g in zip(table.models, groups, strict=True) if g == group] for group in dict.fromkeys(groups)]
    return " with ".join("{" + ", ".join(part) + "}" for part in parts)


def _fit(table: _Kinds, weights: Float[np.ndarray, " kinds"]) -> Float[np.ndarray, " models"] | None:
    """Ratings in Elo points, or None where no finite fit exists; the library would give numbers all the same."""
    if _groups(table, weights, strong=True).max() > 0:
        return None
    seen = weights > 0
    found = evalica.bradley_terry(
        table.first[seen].tolist(),
        table.second[seen].tolist(),
        [_WINNER[outcome] for outcome in table.outcomes[seen].tolist()],
        index=pd.Index(range(len(table.models))),
        weights=weights[seen].tolist(),
        tolerance=_TOLERANCE,
        limit=_MOST_STEPS,
    )
    strengths = np.log(found.scores.sort_index().to_numpy(np.float64))
    return MEAN + POINTS_PER_LOG * (strengths - strengths.mean())


def _bounds(
    table: _Kinds, confidence: float, resamples: int, seed: int
) -> tuple[Float[np.ndarray, " models"] | None, Float[np.ndarray, " models"] | None, float]:
    """Ends of the ratings' intervals, infinite where a side has none, and the share of resamples without a fit."""
    n = len(table.counts)
    if n < 2:
        return None, None, 0.0
    rng = np.random.default_rng(seed)
    fits = []
    for _ in range(resamples):
        times = np.bincount(rng.integers(0, n, n), minlength=n).astype(float)
        fits.append(_fit(table, times @ table.counts))
    missing = sum(fit is None for fit in fits)
    # The least and the most that a resample says; one without a fit says nothing of either side.
    least, most = (
        np.array([np.full(len(table.models), end) if f is None else f for f in fits]) for end in (-np.inf, np.inf)
    )
    level = float(ndtr(stdtrit(n - 1, (1 - confidence) / 2) * np.sqrt(n / (n - 1))))
    lows = np.quantile(least, level, axis=0, method="lower")
    highs = np.quantile(most, 1 - level, axis=0, method="higher")
    return lows, highs, missing / resamples


def _own_win_rate(table: _Table, model: int, confidence: float) -> Interval:
    first, second = table.first == model, table.second == model
    outcomes = [*table.outcomes[first], *(1 - table.outcomes[second])]
    numbers = [*table.prompts[first], *table.prompts[second]]
    found = win_rate(list(by_prompt(zip(numbers, outcomes, strict=True)).values()), confidence=confidence)
    assert found is not None, "a model is in the table because a verdict is on it"
    return found
