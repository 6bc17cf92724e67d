"""How sure a result is: intervals over prompts and seeds, and the tests that a claim rests on.

Pure functions of arrays. Outcomes are per prompt and seed, each within [0, 1]: [seeds, prompts]. Two things vary: other
prompts could have been asked, and another seed could have been trained with. A claim holds for both, so both go
into every interval here that is built from seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtrit


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its two-sided confidence interval."""

    mean: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean, or a difference of means, over prompts and seeds.

    Attributes:
        mean: The value.
        low: Lower end of the two-sided interval.
        high: Upper end.
        lower_bound: One-sided bound at the same confidence, which is what non-inferiority is judged by. It is above
            `low`.
        standard_error: Of the value, over prompts and seeds.
        df: Degrees of freedom of the t quantiles.
    """

    mean: float
    low: float
    high: float
    lower_bound: float
    standard_error: float
    df: float

    @property
    def interval(self) -> Interval:
        return Interval(self.mean, self.low, self.high)

    def as_dict(self) -> dict[str, float]:
        """mean, low, high and lower_bound."""
        return {**self.interval.as_dict(), "lower_bound": self.lower_bound}


def wilson(k: float, n: int, *, confidence: float = 0.95) -> Interval:
    """Score interval of a proportion, k of n; a tie may count half.

    Raises:
        ValueError: Not 0 <= k <= n with n positive.

    Source: Wilson 1927, JASA 22:209.

    >>> low_high = wilson(9, 20)
    >>> round(low_high.low, 3), round(low_high.high, 3)
    (0.258, 0.658)
    """
    if not 0 <= k <= n or n == 0:
        raise ValueError(f"expected 0 <= k <= n and at least one trial, got k={k}, n={n}")
    z = ndtri((1 + confidence) / 2)
    p = k / n
    center = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    # At 0 and 1 the interval ends there exactly; rounding must not move it past.
    return Interval(p, 0.0 if k == 0 else float(center - half), 1.0 if k == n else float(center + half))


def newcombe_difference(k_a: int, n_a: int, k_b: int, n_b: int, *, confidence: float = 0.95) -> Interval:
    """Interval of the difference of two independent proportions, a minus b.

    Source: Newcombe 1998, Statistics in Medicine 17:873, method 10.
    """
    a, b = wilson(k_a, n_a, confidence=confidence), wilson(k_b, n_b, confidence=confidence)
    difference = a.mean - b.mean
    return Interval(
        difference,
        float(difference - np.hypot(a.mean - a.low, b.high - b.mean)),
        float(difference + np.hypot(a.high - a.mean, b.mean - b.low)),
    )


def bootstrap_difference(
    a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Percentile bootstrap of mean(a) - mean(b), prompts of both resampled apart.

    It knows nothing of seeds, and where all outcomes are equal it has no width: read Newcombe's interval first.

    Args:
        a: Outcomes of one class of prompts, [n].
        b: Outcomes of the other, [m].
        confidence: Two-sided.
        resamples: Number of resamples.
        seed: Of the resampling.

    Source: Efron & Tibshirani 1993, chapter 13.
    """
    rng = np.random.default_rng(seed)
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    draws = _resampled_means(a, resamples, rng) - _resampled_means(b, resamples, rng)
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(a.mean() - b.mean()), float(low), float(high))


def cohens_kappa(a: Sequence[bool], b: Sequence[bool]) -> float | None:
    """Agreement of two yes/no judgements of the same items beyond chance; None where chance alone is complete.

    Source: Cohen 1960, Educational and Psychological Measurement 20:37.
    """
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    observed = float((x == y).mean())
    expected = float(x.mean() * y.mean() + (1 - x.mean()) * (1 - y.mean()))
    return None if expected >= 1 else (observed - expected) / (1 - expected)


def mean_over_seeds(values: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """Mean outcome of one arm, [seeds, prompts]."""
    return _estimate([(1, (values,))], confidence)


def mean_over_prompts(
    values: ArrayLike, *, confidence: float = 0.95, least: float = -np.inf, most: float = np.inf
) -> Interval:
    """Mean of one value a prompt with its t interval: for claims about other prompts, asked in the same frames.

    Shares, and differences of two, get one more unit of squared deviation, as everywhere here, so that equal outcomes
    are not taken for certainty.

    Args:
        values: One a prompt, such as its mean over frames, [prompts]; two at least.
        confidence: Two-sided.
        least: No value is below; the interval ends there at the latest.
        most: No value is above.

    Raises:
        ValueError: Fewer than two prompts, or values that are not finite or out of bounds.

    >>> mean_over_prompts([1.0, 3.0]).mean
    2.0
    """
    x = np.asarray(values, np.float64)
    if x.ndim != 1 or len(x) < 2:
        raise ValueError(f"expected one value for each of at least two prompts, got shape {x.shape}; ask more prompts.")
    if not (np.isfinite(x) & (x >= least) & (x <= most)).all():
        raise ValueError(f"expected finite values within [{least}, {most}], got others; look at the rows.")
    added = 1.0 if np.isfinite(most - least) else 0.0
    n, value = len(x), float(x.mean())
    error = float(np.sqrt((((x - value) ** 2).sum() + added) / (n - 1) / n))
    return _t_estimate(value, error, n - 1, confidence, least=least, most=most).interval


def score_interval(harmful: ArrayLike, harmless: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """Score of one arm: mean(harmful) - mean(harmless).

    Args:
        harmful: Refusals, [seeds, harmful prompts].
        harmless: Refusals by the same models, [seeds, harmless prompts].
        confidence: Two-sided for low and high, one-sided for the lower bound.
    """
    return _estimate([(1, (harmful,)), (-1, (harmless,))], confidence)


def mean_difference(a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """Mean of a minus mean of b over the same items: [seeds of a, items], [seeds of b, items]."""
    return _estimate([(1, (a, b))], confidence)


def score_difference(
    a_harmful: ArrayLike,
    a_harmless: ArrayLike,
    b_harmful: ArrayLike,
    b_harmless: ArrayLike,
    *,
    confidence: float = 0.95,
) -> Estimate:
    """Score of arm a minus score of arm b: paired by prompt, with fresh and independent seeds for each arm.

    Args:
        a_harmful: Refusals, [seeds of a, harmful prompts].
        a_harmless: [seeds of a, harmless prompts].
        b_harmful: [seeds of b, harmful prompts], the same prompts in the same order.
        b_harmless: [seeds of b, harmless prompts].
        confidence: Two-sided for low and high, one-sided for the lower bound.
    """
    return _estimate([(1, (a_harmful, b_harmful)), (-1, (a_harmless, b_harmless))], confidence)


def non_inferior(difference: Estimate, delta: float) -> bool:
    """Whether new minus old is above -delta, by its one-sided lower bound."""
    if delta <= 0:
        raise ValueError(f"expected a positive delta, got {delta}")
    return difference.lower_bound > -delta


def _estimate(blocks: Sequence[tuple[int, tuple[ArrayLike, ...]]], confidence: float) -> Estimate:
    """A signed sum of mean outcomes, with its variance over prompts and over seeds, which are crossed.

    Each block is a class of prompts: its sign, and its arms' outcomes [seeds, prompts]; the first arm counts plus, the
    second minus. Prompts are shared by the arms of a block, seeds by the blocks of an arm. With x = mean + seed +
    prompt + rest,

        V = V_prompts + V_seeds - V_rest,

    where V_prompts is the variance of the arms' per-prompt differences over the number of prompts, V_seeds that of the
    per-seed scores over the number of seeds, arm by arm (Welch), and V_rest the interaction, which is in both. V is
    at least the larger of the two. The t quantile has Satterthwaite's degrees of freedom. One seed, or an arm without
    randomness, has no V_seeds: the claim is then about that one model.

    Source: Cameron, Gelbach & Miller 2011, J. Business & Economic Statistics 29:238 (two-way variance); Satterthwaite
    1946, Biometrics Bulletin 2:110; Welch 1947, Biometrika 34:28; Agresti & Coull 1998, The American Statistician
    52:119, and Agresti & Min 2005, Statistics in Medicine 24:729 (the added unit of squared deviation).
    """
    signed = [(sign, [_outcomes(arm) for arm in arms]) for sign, arms in blocks]
    _check_shapes([arms for _, arms in signed])
    sides = (1, -1)[: len(signed[0][1])]
    value = rest = 0.0
    prompt_parts: list[tuple[float, int]] = []
    seed_scores = [np.zeros(len(arm)) for arm in signed[0][1]]
    for sign, arms in signed:
        per_prompt = np.sum([side * arm.mean(axis=0) for side, arm in zip(sides, arms, strict=True)], axis=0)
        n = len(per_prompt)
        value += sign * float(per_prompt.mean())
        # One more unit of squared deviation keeps equal outcomes on n prompts from being taken for certainty.
        squares = float(((per_prompt - per_prompt.mean()) ** 2).sum()) + 1.0
        prompt_parts.append((squares / (n - 1) / n, n - 1))
        for scores, arm in zip(seed_scores, arms, strict=True):
            scores += sign * arm.mean(axis=1)
            rest += interaction_variance(arm)
    seed_parts = [(float(s.var(ddof=1)) / len(s), len(s) - 1) for s in seed_scores if len(s) > 1]
    prompts, seeds = (sum(v for v, _ in parts) for parts in (prompt_parts, seed_parts))
    variance = max(prompts + seeds - rest, prompts, seeds)
    df = variance**2 / sum(v**2 / degrees for v, degrees in prompt_parts + seed_parts)
    signs = [sign * side for sign, _ in signed for side in sides]
    return _t_estimate(value, float(np.sqrt(variance)), df, confidence, least=-signs.count(-1), most=signs.count(1))


def _t_estimate(value: float, error: float, df: float, confidence: float, *, least: float, most: float) -> Estimate:
    """A value with its t interval, cut where outcomes within bounds cannot lead."""
    two_sided, one_sided = (float(stdtrit(df, level)) for level in ((1 + confidence) / 2, confidence))
    low, high, bound = value - two_sided * error, value + two_sided * error, value - one_sided * error
    return Estimate(value, max(low, least), min(high, most), max(bound, least), error, df)


def interaction_variance(arm: np.ndarray) -> float:
    """Variance of the mean of outcomes [seeds, prompts] from seed and prompt together; 0 where one seed cannot tell."""
    n_seeds, n = arm.shape
    if n_seeds == 1:
        return 0.0
    residual = arm - arm.mean(axis=0) - arm.mean(axis=1, keepdims=True) + arm.mean()
    return float((residual**2).sum() / ((n_seeds - 1) * (n - 1)) / (n_seeds * n))


def _outcomes(values: ArrayLike) -> np.ndarray:
    array = np.atleast_2d(np.asarray(values, np.float64))
    if array.ndim != 2 or array.shape[0] < 1 or array.shape[1] < 2:
        raise ValueError(f"expected outcomes [seeds, prompts] of at least two prompts, got shape {array.shape}")
    if not ((array >= 0) & (array <= 1)).all():
        raise ValueError("expected outcomes within [0, 1], got others; give refusals or accuracies, not logits")
    return array


def _check_shapes(blocks: Sequence[Sequence[np.ndarray]]) -> None:
    for arms in blocks:
        if len({arm.shape[1] for arm in arms}) > 1:
            raise ValueError(f"expected both arms on the same prompts, got {[arm.shape[1] for arm in arms]}")
    for seeds in zip(*blocks, strict=True):
        if len({len(arm) for arm in seeds}) > 1:
            raise ValueError(f"expected the same seeds on every class of prompts, got {[len(arm) for arm in seeds]}")


def _resampled_means(values: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Means of resamples; a resample is a multinomial draw of how often each distinct value comes."""
    distinct, counts = np.unique(values, return_counts=True)
    shares = counts / len(values)
    block = max(1, 2_000_000 // len(distinct))  # rows at once, to bound memory
    sizes = [min(block, resamples - start) for start in range(0, resamples, block)]
    return np.concatenate([rng.multinomial(len(values), shares, size=size) @ distinct for size in sizes]) / len(values)
