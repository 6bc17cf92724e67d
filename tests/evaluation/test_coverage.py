"""What an interval promises, tried: refusals drawn from crossed logistic effects of prompts and seeds."""

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit

from smidgen.evaluation.statistics import Estimate, mean_over_seeds, non_inferior, score_difference, score_interval

DELTA = 0.10
PROMPT_SD, ARM_PROMPT_SD = 1.2, 0.7  # logits; the first is shared by the arms: outcomes correlate by prompt
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(40)


def logit_mean(rate: float, sd: float) -> float:
    """The mean of a normal logit of this spread whose expected probability is `rate`."""
    return brentq(lambda mean: WEIGHTS @ expit(mean + sd * NODES) / WEIGHTS.sum() - rate, -20, 20)  # pyright: ignore


def draw(rng: np.random.Generator, shared: np.ndarray, n_seeds: int, rate: float, seed_sd: float) -> np.ndarray:
    """Refusals [trials, seeds, prompts] of one arm; `shared` is the prompts' own logit effect, [trials, 1, prompts]."""
    n_trials, _, n = shared.shape
    logits = (
        logit_mean(rate, float(np.sqrt(PROMPT_SD**2 + ARM_PROMPT_SD**2 + seed_sd**2)))
        + PROMPT_SD * shared
        + ARM_PROMPT_SD * rng.standard_normal((n_trials, 1, n), dtype=np.float32)
        + seed_sd * rng.standard_normal((n_trials, n_seeds, 1), dtype=np.float32)
    )
    return rng.random((n_trials, n_seeds, n), dtype=np.float32) < expit(logits)


def two_arms(rng: np.random.Generator, *, n_trials: int, n_seeds: int, n: int, rates: tuple[float, float], sd: float):
    """A subset arm and a full arm: harmful and harmless refusals of each, on the same prompts, with their own seeds."""
    harmful, harmless = (rng.standard_normal((n_trials, 1, n), dtype=np.float32) for _ in range(2))
    return [
        outcome
        for rate in rates
        for outcome in (draw(rng, harmful, n_seeds, rate, sd), draw(rng, harmless, n_seeds, 0.05, sd / 3))
    ]


def shares(found: list[Estimate], truth: float) -> tuple[float, float]:
    """Share of intervals that hold the truth, and of false claims that the value is above it."""
    return (
        float(np.mean([e.low <= truth <= e.high for e in found])),
        float(np.mean([e.lower_bound > truth for e in found])),
    )


@pytest.mark.parametrize(
    ("n_seeds", "n", "rates", "seed_logit_sd"),
    [
        (5, 100, (0.35, 0.45), 0.55),  # a seed standard deviation of about .08 of the score
        (5, 400, (0.35, 0.45), 0.55),
        (5, 400, (0.80, 0.90), 0.70),
        (5, 100, (0.80, 0.90), 0.0),  # seeds that hardly matter
        (8, 200, (0.35, 0.45), 0.35),
    ],
)
def test_false_claims_of_non_inferiority_stay_at_their_level(n_seeds, n, rates, seed_logit_sd):
    rng = np.random.default_rng(n_seeds * n)
    arms = two_arms(rng, n_trials=1500, n_seeds=n_seeds, n=n, rates=rates, sd=seed_logit_sd)
    found = [score_difference(*trial) for trial in zip(*arms, strict=True)]
    assert np.mean([non_inferior(e, DELTA) for e in found]) <= 0.065  # .05 and twice the simulation's own error
    covered, _ = shares(found, rates[0] - rates[1])
    assert covered >= 0.93


def test_one_arm_is_covered_too_and_so_is_the_base_without_seeds():
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((1500, 1, 150), dtype=np.float32)
    harmful, harmless = draw(rng, shared, 5, 0.4, 0.5), draw(rng, shared[:, :, ::-1], 5, 0.05, 0.2)
    covered, above = shares([score_interval(*trial) for trial in zip(harmful, harmless, strict=True)], 0.35)
    assert covered >= 0.93
    assert above <= 0.065
    covered, above = shares([mean_over_seeds(trial[:1]) for trial in draw(rng, shared, 1, 0.05, 0.0)], 0.05)
    assert covered >= 0.93
    assert above <= 0.065


def bootstrap_claims(arms: list[np.ndarray], rng: np.random.Generator, *, resamples: int = 1000) -> float:
    """Share of trials in which a percentile bootstrap over seeds and prompts calls the first arm non-inferior."""
    _, n_seeds, n = arms[0].shape
    # One set of resamples serves all trials, which are independent of it and of each other.
    prompts = [rng.multinomial(n, np.full(n, 1 / n), resamples) / n for _ in range(2)]
    seeds = [rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), resamples) / n_seeds for _ in range(2)]
    claims = 0
    for trial in zip(*arms, strict=True):
        by_seed = [prompts[i % 2] @ outcome.T.astype(float) for i, outcome in enumerate(trial)]
        means = [(values * seeds[i // 2]).sum(1) for i, values in enumerate(by_seed)]
        claims += np.quantile((means[0] - means[1]) - (means[2] - means[3]), 0.05) > -DELTA
    return claims / len(arms[0])


def test_a_bootstrap_over_three_seeds_claims_too_much_where_t_intervals_do_not():
    rng = np.random.default_rng(0)
    arms = two_arms(rng, n_trials=1500, n_seeds=3, n=150, rates=(0.35, 0.45), sd=0.55)
    by_t = np.mean([non_inferior(score_difference(*trial), DELTA) for trial in zip(*arms, strict=True)])
    by_bootstrap = bootstrap_claims(arms, rng)
    assert by_t <= 0.065
    assert by_bootstrap >= 0.07
    assert by_bootstrap > by_t + 0.015
