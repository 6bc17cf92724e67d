"""How far several raters agree beyond chance, judges or people, with an interval over what they rated."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import evalica
import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.special import stdtrit

Item = TypeVar("Item", bound=Hashable)
_MOST_GROUPS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Krippendorff's alpha with its two-sided interval.

    Attributes:
        alpha: 1 for complete agreement, 0 for what chance alone brings, below for less than that.
        low: Lower end of the interval; None where a single cluster was rated.
        high: Upper end.
        n_items: Items that at least two raters rated; nothing else counts.
        n_clusters: How many prompts those items belong to, or other clusters.
        n_raters: Who rated at least one of them.
        observed: Share of pairs of ratings of one item that are equal.
    """

    alpha: float
    low: float | None
    high: float | None
    n_items: int
    n_clusters: int
    n_raters: int
    observed: float


def krippendorff(
    ratings: Sequence[Mapping[Item, float | None]],
    *,
    level: Literal["nominal", "ordinal"] = "nominal",
    cluster_of: Callable[[Item], Hashable] | None = None,
    confidence: float = 0.95,
) -> Agreement | None:
    """Agreement of raters who need not have rated the same items.

    The interval is a jackknife over clusters with a t quantile: items of one prompt are not independent. Above 200
    clusters, groups of them are left out together. Some squared deviation is added, as
    for shares elsewhere here: that of one cluster half of which disagrees, so that agreement on a few items is not
    taken for certainty.

    Args:
        ratings: One mapping a rater, from item to rating; None, or an item that is not there, is no rating.
        level: `nominal` knows equal and different alone; `ordinal` counts a tie as nearer to either side than these
            are to each other.
        cluster_of: What an item belongs to, such as its prompt; every item is its own cluster where None.
        confidence: Two-sided.

    Returns:
        None where no two raters rated the same item, or where all ratings are equal: then chance alone would agree
        completely, and alpha is not defined.

    Source: Krippendorff 2018, Content Analysis, chapter 12; Efron & Tibshirani 1993, chapter 11 (jackknife).

    >>> krippendorff([{"q1": 1, "q2": 0, "q3": 1}, {"q1": 1, "q2": 0}]).alpha
    1.0
    >>> krippendorff([{"q1": 1, "q2": 0}]) is None
    True
    """
    table = _table(ratings)
    if table.empty or len(np.unique(_given(table))) < 2:
        return None
    found = evalica.alpha(table, level)
    clusters = [item if cluster_of is None else cluster_of(item) for item in table.columns]
    low, high = _interval(table, level, clusters, found, confidence)
    return Agreement(
        alpha=float(found.alpha),
        low=low,
        high=high,
        n_items=table.shape[1],
        n_clusters=len(set(clusters)),
        n_raters=int(table.notna().any(axis=1).sum()),
        observed=_equal_pairs(table),
    )


def _table(ratings: Sequence[Mapping[Item, float | None]]) -> pd.DataFrame:
    """Raters by items, of the items that two raters rated at least."""
    items = list(dict.fromkeys(item for mine in ratings for item in mine))
    values = [[mine.get(item) for item in items] for mine in ratings]
    # An index of objects: tuples as items must not become levels.
    columns = pd.Index(np.fromiter(items, object, len(items)), tupleize_cols=False)
    table = pd.DataFrame(np.array(values, np.float64).reshape(len(ratings), len(items)), columns=columns)
    return table.loc[:, (table.notna().sum(axis=0) > 1).to_numpy()]


def _given(table: pd.DataFrame) -> Float[np.ndarray, " ratings"]:
    values = table.to_numpy()
    return values[~np.isnan(values)]


def _interval(
    table: pd.DataFrame,
    level: Literal["nominal", "ordinal"],
    clusters: Sequence[Hashable],
    found: evalica.AlphaResult,
    confidence: float,
) -> tuple[float | None, float | None]:
    numbers = {cluster: i for i, cluster in enumerate(dict.fromkeys(clusters))}
    n_groups = min(len(numbers), _MOST_GROUPS)
    if n_groups < 2:
        return None, None
    group = np.array([numbers[cluster] % n_groups for cluster in clusters])
    without = np.array([evalica.alpha(table.loc[:, group != g], level).alpha for g in range(n_groups)])
    pseudo = n_groups * found.alpha - (n_groups - 1) * without
    # One cluster of which half disagrees, against what chance alone would.
    unit = 0.5 / _expected(table, level)
    added = unit**2 * n_groups / len(numbers)
    error = np.sqrt((((pseudo - pseudo.mean()) ** 2).sum() + added) / (n_groups - 1) / n_groups)
    half = float(stdtrit(n_groups - 1, (1 + confidence) / 2) * error)
    return max(float(found.alpha) - half, -1.0), min(float(found.alpha) + half, 1.0)


def _expected(table: pd.DataFrame, level: Literal["nominal", "ordinal"]) -> float:
    """Mean distance of two ratings drawn from all, in units of the largest; above 0 where ratings differ."""
    values, codes = np.unique(_given(table), return_inverse=True)
    counts = np.bincount(codes, minlength=len(values)).astype(float)
    if level == "nominal":
        distance = 1.0 - np.eye(len(values))
    else:
        middles = counts.cumsum() - counts / 2
        distance = (middles[:, None] - middles) ** 2
    pairs = np.outer(counts, counts) - np.diag(counts)
    return float((pairs * distance).sum() / pairs.sum() / distance.max())


def _equal_pairs(table: pd.DataFrame) -> float:
    """Share of equal ones among the pairs of ratings of one item, all items together."""
    equal = pairs = 0
    for column in table.to_numpy().T:
        given = column[~np.isnan(column)]
        _, counts = np.unique(given, return_counts=True)
        equal += int((counts * (counts - 1)).sum())
        pairs += len(given) * (len(given) - 1)
    return equal / pairs
