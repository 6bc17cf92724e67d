"""How many prompts and seeds a claim needs, before anything is run. Pure functions of assumed levels and spreads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import nctdtr, ndtri, stdtrit

from smidgen.evaluation.statistics import interaction_variance

MOST_PROMPTS = 20_000
MOST_SEEDS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """What is assumed of the two arms to be compared.

    Attributes:
        rates: Expected share of yes of each class of items: (harmful, harmless) of a score, one of an accuracy.
        rho: Correlation of the two arms' outcomes at one item, averaged over seeds: 0 is unpaired. Averaging over seeds
            removes what differs between them by chance, so it grows with their number.
        seed_sd: Standard deviation of one arm's mean over seeds, items being many.
    """

    rates: tuple[float, ...] = (0.45, 0.05)
    rho: float = 0.5
    seed_sd: float = 0.08

    @property
    def variance(self) -> float:
        """Of one item's difference between the arms, summed over the classes."""
        return 2 * (1 - self.rho) * sum(rate * (1 - rate) for rate in self.rates)


def claim_power(
    n: int, n_seeds: int, *, delta: float, spread: Spread, change: float = 0.0, confidence: float = 0.95
) -> float:
    """The chance that new minus old is shown to be above -delta.

    The variance is that of `statistics.score_difference`: items and seeds are crossed, and the t quantile has
    Satterthwaite's degrees of freedom, taken at the expected variances.

    Args:
        n: Items (prompts, pairs) of each class.
        n_seeds: Of each arm.
        delta: Non-inferiority margin.
        spread: What is assumed.
        change: True value of new minus old.
        confidence: One-sided.

    Source: Julious 2004, Statistics in Medicine 23:1921 (non-inferiority); Satterthwaite 1946.
    """
    of_items, of_seeds = spread.variance / n, 2 * spread.seed_sd**2 / n_seeds
    error = math.sqrt(of_items + of_seeds)
    parts = [2 * (1 - spread.rho) * rate * (1 - rate) / n for rate in spread.rates]
    squares = sum(part**2 / (n - 1) for part in parts) + (of_seeds**2 / (2 * (n_seeds - 1)) if n_seeds > 1 else 0)
    df = (of_items + of_seeds) ** 2 / squares
    return float(1 - nctdtr(df, (delta + change) / error, stdtrit(df, confidence)))


def needed_items(
    n_seeds: int,
    *,
    delta: float,
    spread: Spread,
    power: float = 0.8,
    change: float = 0.0,
    confidence: float = 0.95,
) -> int | None:
    """Fewest items a class with which the claim has this power; None where the spread of seeds alone forbids it."""

    def enough(n: int) -> bool:
        return claim_power(n, n_seeds, delta=delta, spread=spread, change=change, confidence=confidence) >= power

    if not enough(MOST_PROMPTS):
        return None
    low, high = 1, MOST_PROMPTS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def textbook_items(*, delta: float, spread: Spread, power: float = 0.8, confidence: float = 0.95) -> int:
    """Items a class with known variance and seeds that do not matter: no design needs fewer.

    >>> textbook_items(delta=0.10, spread=Spread(rho=0)), textbook_items(delta=0.10, spread=Spread(rho=0.5))
    (365, 183)
    """
    return math.ceil((ndtri(confidence) + ndtri(power)) ** 2 * spread.variance / delta**2)


def observed_spread(arms: Sequence[tuple[np.ndarray, ...]]) -> Spread:
    """The spread that finished arms show.

    Args:
        arms: Two arms on the same items; of each, its outcomes by class, [seeds, items]. The second is the old one,
            whose rates are taken.

    Raises:
        ValueError: Not two arms with two seeds or more each.
    """
    if len(arms) != 2 or min(len(outcomes) for arm in arms for outcomes in arm) < 2:
        raise ValueError("expected two arms with at least two seeds each; one seed does not tell how seeds differ")
    both = list(zip(*arms, strict=True))
    paired = sum(float((a.mean(axis=0) - b.mean(axis=0)).var(ddof=1)) for a, b in both)
    single = sum(float(x.mean() * (1 - x.mean())) for classes in both for x in classes)
    signs = (1, -1)
    by_seed = [sum(s * x.mean(axis=1) for s, x in zip(signs, arm, strict=False)) for arm in arms]
    between = np.mean([np.var(scores, ddof=1) for scores in by_seed])
    # A seed's mean over few items varies by them too; that part is in the items' variance already.
    chance = np.mean([sum(len(x) * interaction_variance(x) for x in arm) for arm in arms])
    return Spread(
        rates=tuple(float(x.mean()) for x in arms[1]),
        rho=max(0.0, 1 - paired / single) if single else 0.0,
        seed_sd=math.sqrt(max(0.0, float(between - chance))),
    )
