"""The length-controlled win rate: how often one model would be preferred if both answers were equally long."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.special import expit, stdtrit

from smidgen.evaluation.statistics import Interval

EQUAL_LENGTHS = "all answers are equally long: it is the raw win rate"
NO_SPREAD = "every match has the same difference in length: what length does cannot be told from what the model does"
SEPARATED = "wins and losses are wholly separated by length, or all are of one kind: no finite fit exists"
ONE_PROMPT = "without one of the prompts no finite fit exists: the fit hinges on it"
FEW_PROMPTS = "an interval over prompts takes at least three of them"
UNFOUND = "a finite fit exists, but the search for it, of this fit or of one without a prompt, did not end"
BEYOND = "one model's answers are never the longer ones: equal length lies at or beyond the edge of what was seen"
_MOST_STEPS, _NEAR = 200, 1e-10


@dataclass(frozen=True, slots=True)
class LengthControlled:
    """A win rate at equal length.

    Attributes:
        win_rate: None where it cannot be fitted; its interval has no ends where those cannot be found.
        length_effect: Log-odds of winning per unit of tanh of the standardised difference in length; above 0, longer
            answers win. None without a fit.
        note: Why there is no fit or no interval, or what to think of before reading it; empty where all is well.
    """

    win_rate: float | None
    low: float | None
    high: float | None
    length_effect: float | None
    note: str = ""

    @property
    def interval(self) -> Interval | None:
        """The win rate with its interval, where both are known."""
        if self.win_rate is None or self.low is None or self.high is None:
            return None
        return Interval(self.win_rate, self.low, self.high)


def length_controlled(
    outcomes: ArrayLike,
    lengths_a: ArrayLike,
    lengths_b: ArrayLike,
    prompts: Sequence[Hashable],
    *,
    confidence: float = 0.95,
) -> LengthControlled:
    """Fit logit P(A wins) = θ + φ tanh(d / sd(d)), with d the difference in length, and predict σ(θ), at d = 0.

    This is the part of AlpacaEval's model that two models can tell: its term for the difficulty of an instruction
    needs many models, and is left out. A tie is half a win and half a loss. Nothing is penalised. The interval is a
    jackknife over prompts of σ(θ) with a t quantile, and the unit of squared deviation that raw win rates get.

    Args:
        outcomes: Of model A: 1, 0.5 or 0, [matches].
        lengths_a: Of its answers, in characters, [matches].
        lengths_b: Of the other's, [matches].
        prompts: Which prompt each match is on, [matches].
        confidence: Two-sided.

    Raises:
        ValueError: No matches, or arguments of different lengths.

    Source: Dubois, Galambosi, Liang & Hashimoto 2024, arXiv:2404.04475, Eq. 2; Albert & Anderson 1984, Biometrika 71:1
        (when a finite fit exists).
    """
    y, difference = np.asarray(outcomes, np.float64), np.subtract(lengths_a, lengths_b, dtype=np.float64)
    if not len(y) or len({len(y), len(difference), len(prompts)}) > 1:
        raise ValueError(f"expected as many lengths and prompts as outcomes, at least one, got {len(y)} outcomes")
    if not difference.any():
        return LengthControlled(float(y.mean()), None, None, None, EQUAL_LENGTHS)
    spread = difference.std()
    if spread <= 1e-9 * abs(difference).max():
        return LengthControlled(None, None, None, None, NO_SPREAD)
    x = np.tanh(difference / spread)
    if not _has_finite_fit(x, y):
        return LengthControlled(None, None, None, None, SEPARATED)
    if (theta := _fit(x, y)) is None:
        return LengthControlled(None, None, None, None, UNFOUND)
    value, effect = float(expit(theta[0])), float(theta[1])
    numbers = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
    group = np.array([numbers[prompt] for prompt in prompts])
    n = len(numbers)
    if n < 3:
        return LengthControlled(value, None, None, effect, FEW_PROMPTS)
    rest = [(x[group != g], y[group != g]) for g in range(n)]
    if not all(_has_finite_fit(*matches) for matches in rest):
        return LengthControlled(value, None, None, effect, ONE_PROMPT)
    without = [_fit(*matches) for matches in rest]
    if any(one is None for one in without):
        return LengthControlled(value, None, None, effect, UNFOUND)
    rates = expit([one[0] for one in without if one is not None])
    error = np.sqrt((n - 1) / n * ((rates - rates.mean()) ** 2).sum() + 1 / (n - 1) / n)
    half = float(stdtrit(n - 1, (1 + confidence) / 2) * error)
    note = "" if x.min() < 0 < x.max() else BEYOND
    return LengthControlled(value, max(value - half, 0.0), min(value + half, 1.0), effect, note)


def _fit(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> Float[np.ndarray, " 2"] | None:
    """Intercept and slope of the logistic regression by Newton's method; `_has_finite_fit` must hold.

    One runaway length presses all others together, and the slope may be in the hundreds: x is scaled, and each step's
    equations are solved around the mean by the weights of that step, which loses no digits. A step is halved until the
    likelihood does not fall.

    Returns:
        None where the search does not end.
    """
    middle, scale = float(x.mean()), float(x.std())
    z, theta = (x - middle) / scale, np.zeros(2)
    likelihood = _log_likelihood(theta, z, y)
    for _ in range(_MOST_STEPS):
        p = expit(theta[0] + theta[1] * z)
        weights, residuals = p * (1 - p), y - p
        if not weights.any():
            return None
        centre = weights @ z / weights.sum()
        slope = (z - centre) @ residuals / (weights @ (z - centre) ** 2)
        step = np.array([residuals.sum() / weights.sum() - slope * centre, slope])
        if not np.isfinite(step).all():
            return None
        if abs(step).max() < _NEAR * (1 + abs(theta).max()):
            return np.array([theta[0] - theta[1] * middle / scale, theta[1] / scale])
        while (found := _log_likelihood(theta + step, z, y)) < likelihood - 1e-12 * abs(likelihood):
            step = step / 2
        theta, likelihood = theta + step, found
    return None


def _log_likelihood(theta: Float[np.ndarray, " 2"], z: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> float:
    logits = theta[0] + theta[1] * z
    return float(-(y * np.logaddexp(0, -logits) + (1 - y) * np.logaddexp(0, logits)).sum())


def _has_finite_fit(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> bool:
    """Whether no line through 0 parts wins from losses; points on the line itself do not keep them together.

    A tie is a win and a loss at one place.
    """
    won, lost = x[y > 0], x[y < 1]
    if not len(won) or not len(lost) or x.min() == x.max():
        return False
    return bool(won.min() < lost.max() and lost.min() < won.max())
