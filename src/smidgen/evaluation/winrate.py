"""How often one model's answers are preferred to another's: tallies, and what they say of prompts not asked.

Prompts were drawn, and their completions hang together, so every interval is over prompts. A tie is half a win.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

from smidgen.evaluation.statistics import Interval
from smidgen.evaluation.verdicts import LOSS, TIE, WIN

_MOST_EXACT = 14


@dataclass(frozen=True, slots=True)
class Tally:
    """Verdicts by outcome."""

    wins: int
    losses: int
    ties: int

    @property
    def n(self) -> int:
        return self.wins + self.losses + self.ties

    @property
    def points(self) -> float:
        """Wins, and half of the ties."""
        return self.wins + self.ties / 2

    @property
    def win_rate(self) -> float | None:
        """None without a verdict."""
        return self.points / self.n if self.n else None


def tally(outcomes: Iterable[float]) -> Tally:
    """Count outcomes of 1, 0.5 and 0.

    >>> tally([1.0, 0.0, 0.5, 1.0])
    Tally(wins=2, losses=1, ties=1)
    """
    counts = {WIN: 0, LOSS: 0, TIE: 0}
    for outcome in outcomes:
        counts[outcome] += 1
    return Tally(counts[WIN], counts[LOSS], counts[TIE])


def win_rate(of_prompts: Sequence[Tally], *, confidence: float = 0.95) -> Interval | None:
    """Share of points, with its t interval over prompts, which may have different numbers of verdicts.

    A prompt's verdicts count as one draw, however many they are. One more unit of squared deviation, as everywhere
    here, keeps equal outcomes on a few prompts from being taken for certainty. One prompt says nothing of others: its
    interval is [0, 1].

    Args:
        of_prompts: One a prompt; those without a verdict do not count.
        confidence: Two-sided.

    Returns:
        None without any verdict.

    Source: Cochran 1977, Sampling Techniques, section 6.3 (a ratio over clusters); Agresti & Coull 1998, The American
        Statistician 52:119 (the added unit).

    >>> found = win_rate([Tally(2, 1, 0), Tally(1, 1, 1), Tally(3, 0, 0)])
    >>> round(found.mean, 3), found.high
    (0.722, 1.0)
    """
    judged = [one for one in of_prompts if one.n]
    if not judged:
        return None
    points = np.array([one.points for one in judged])
    counts = np.array([one.n for one in judged], np.float64)
    n, value = len(judged), float(points.sum() / counts.sum())
    if n == 1:
        return Interval(value, 0.0, 1.0)
    deviations = (points - value * counts) / counts.mean()
    error = np.sqrt(((deviations**2).sum() + 1.0) / (n - 1) / n)
    half = float(stdtrit(n - 1, (1 + confidence) / 2) * error)
    return Interval(value, max(value - half, 0.0), min(value + half, 1.0))


def sign_flip_p(of_prompts: Sequence[Tally], *, draws: int = 9_999, seed: int = 0) -> float | None:
    """Two-sided p of "neither model is better": a prompt's wins and losses change places at random.

    Exact for up to 14 prompts that have a preference; beyond, from random draws.

    Returns:
        None without any verdict; 1 where no prompt prefers a model.

    Source: Fisher 1935, The Design of Experiments, section 21.

    >>> sign_flip_p([Tally(1, 0, 0)] * 5)
    0.0625
    """
    if not any(one.n for one in of_prompts):
        return None
    margins = np.array([one.wins - one.losses for one in of_prompts], np.float64)
    margins = margins[margins != 0]
    if not len(margins):
        return 1.0
    observed = abs(margins.sum())
    if len(margins) <= _MOST_EXACT:
        signs = np.array(list(product((-1.0, 1.0), repeat=len(margins))))
        return float((abs(signs @ margins) >= observed).mean())
    # The draws must not depend on which model comes first: only sizes go in, in an order of their own.
    sizes = np.sort(abs(margins))
    return (1 + _as_extreme(sizes, observed, draws, seed)) / (draws + 1)


def _as_extreme(sizes: Float[np.ndarray, " prompts"], observed: float, draws: int, seed: int) -> int:
    rng = np.random.default_rng(seed)
    block = max(1, 1_000_000 // len(sizes))  # rows at once, to bound memory
    found = 0
    for start in range(0, draws, block):
        signs = rng.integers(0, 2, (min(block, draws - start), len(sizes))) * 2.0 - 1.0
        found += int((abs(signs @ sizes) >= observed).sum())
    return found


def by_prompt(outcomes: Iterable[tuple[int, float]]) -> Mapping[int, Tally]:
    """Tallies of pairs of a prompt's number and an outcome, by number."""
    found: dict[int, list[float]] = {}
    for number, outcome in outcomes:
        found.setdefault(number, []).append(outcome)
    return {number: tally(found[number]) for number in sorted(found)}
