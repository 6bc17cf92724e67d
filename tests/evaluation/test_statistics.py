import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student_t
from statsmodels.stats.inter_rater import cohens_kappa as reference_kappa
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from smidgen.evaluation.statistics import (
    Estimate,
    bootstrap_difference,
    cohens_kappa,
    mean_difference,
    mean_over_seeds,
    newcombe_difference,
    non_inferior,
    score_difference,
    score_interval,
    wilson,
)

COUNTS = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
LEVELS = st.sampled_from([0.8, 0.9, 0.95, 0.99])


def outcomes(*shape: int, rate: float = 0.4, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random(shape) < rate).astype(np.float64)


def around(mean: float, error: float = 0.02) -> Estimate:
    return Estimate(mean, mean - 2 * error, mean + 2 * error, mean - 1.7 * error, error, 8.0)


@pytest.mark.parametrize(("n", "low", "high"), [(20, 0.13, 0.61), (100, 0.29, 0.50), (400, 0.35, 0.45)])
def test_a_score_of_point_four_is_as_sure_as_its_prompts_are_many(n, low, high):
    found = newcombe_difference(round(0.45 * n), n, round(0.05 * n), n)
    assert (found.mean, round(found.low, 2), round(found.high, 2)) == (pytest.approx(0.4), low, high)


def test_wilson_by_hand():
    z2 = 1.959964**2
    assert wilson(0, 20).as_dict() == {"mean": 0.0, "low": 0.0, "high": pytest.approx(z2 / (20 + z2))}
    assert wilson(20, 20).low == pytest.approx(20 / (20 + z2))
    assert wilson(20, 20).high == 1.0
    half = math.sqrt(z2) / (1 + z2 / 100) * math.sqrt(0.25 / 100 + z2 / 40000)
    assert wilson(50, 100).low == pytest.approx(0.5 - half)


@settings(deadline=None)
@given(count=COUNTS, confidence=LEVELS)
def test_wilson_equals_statsmodels(count, confidence):
    k, n = count
    found = wilson(k, n, confidence=confidence)
    expected = proportion_confint(k, n, alpha=1 - confidence, method="wilson")
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-9)
    assert 0 <= found.low <= found.mean <= found.high <= 1


@settings(deadline=None)
@given(a=COUNTS, b=COUNTS, confidence=LEVELS)
def test_newcombe_equals_statsmodels_and_turns_with_its_arguments(a, b, confidence):
    found = newcombe_difference(*a, *b, confidence=confidence)
    expected = confint_proportions_2indep(*a, *b, method="newcomb", compare="diff", alpha=1 - confidence)
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-9)
    turned = newcombe_difference(*b, *a, confidence=confidence)
    assert (-turned.high, -turned.low) == pytest.approx((found.low, found.high))


@pytest.mark.parametrize(("k", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_counts_that_cannot_be_are_refused(k, n):
    with pytest.raises(ValueError, match="0 <= k <= n"):
        wilson(k, n)


def test_bootstrap_is_that_of_resampling_each_class_apart():
    a, b = outcomes(60, rate=0.6), np.random.default_rng(1).random(45)
    rng = np.random.default_rng(2)
    draws = rng.choice(a, (20_000, 60)).mean(1) - rng.choice(b, (20_000, 45)).mean(1)
    found = bootstrap_difference(a, b)
    assert found.mean == pytest.approx(a.mean() - b.mean())
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=0.01)


def test_bootstrap_depends_on_seed_and_values_alone():
    a, b = outcomes(60), outcomes(45, seed=1)
    assert bootstrap_difference(a, b, seed=3) == bootstrap_difference(a[::-1], b, seed=3)
    assert bootstrap_difference(a, b, seed=3) != bootstrap_difference(a, b, seed=4)
    assert bootstrap_difference([0, 0], [0, 0, 0]).high == 0.0


@settings(deadline=None)
@given(table=st.tuples(*[st.integers(0, 30)] * 4).filter(lambda t: sum(t) > 0))
def test_kappa_equals_statsmodels(table):
    both, a_only, b_only, neither = table
    a = [True] * both + [True] * a_only + [False] * b_only + [False] * neither
    b = [True] * both + [False] * a_only + [True] * b_only + [False] * neither
    found = cohens_kappa(a, b)
    if found is None:
        assert len(set(a + b)) == 1
    else:
        expected = reference_kappa([[both, a_only], [b_only, neither]], return_results=False)
        assert found == pytest.approx(expected)


def test_kappa_by_hand():
    a = [True] * 25 + [False] * 25
    b = [True] * 20 + [False] * 5 + [True] * 10 + [False] * 15
    assert cohens_kappa(a, b) == pytest.approx(0.4)


def test_one_seed_is_a_t_interval_over_prompts_with_one_more_unit_of_squares():
    x = outcomes(50)
    error = math.sqrt((((x - x.mean()) ** 2).sum() + 1) / 49 / 50)
    found = mean_over_seeds(x)
    assert found.standard_error == pytest.approx(error)
    assert found.df == pytest.approx(49)
    assert found.high == pytest.approx(x.mean() + student_t.ppf(0.975, 49) * error)
    assert found.lower_bound == pytest.approx(x.mean() - student_t.ppf(0.95, 49) * error)


def test_seeds_and_prompts_make_the_two_way_variance():
    x = np.clip(outcomes(5, 30) * 0.6 + np.linspace(0, 0.3, 5)[:, None] + np.linspace(0, 0.1, 30), 0, 1)
    seeds, prompts = x.mean(1), x.mean(0)
    residual = sum((x[s, p] - seeds[s] - prompts[p] + x.mean()) ** 2 for s in range(5) for p in range(30)) / (4 * 29)
    over_prompts = (prompts.var(ddof=1) + 1 / 29) / 30
    over_seeds = seeds.var(ddof=1) / 5
    variance = over_prompts + over_seeds - residual / 150
    found = mean_over_seeds(x)
    assert found.standard_error**2 == pytest.approx(variance)
    assert found.df == pytest.approx(variance**2 / (over_prompts**2 / 29 + over_seeds**2 / 4))


def test_a_score_is_seen_seed_by_seed_so_that_what_both_classes_share_cancels():
    shift = np.array([0.0, 0.2, 0.4, 0.1, 0.3])[:, None]
    harmful = outcomes(1, 40) * 0.3 + 0.3 + shift
    harmless = outcomes(1, 40, seed=1) * 0.3 + shift
    found = score_interval(harmful, harmless)
    assert found.mean == pytest.approx(harmful.mean() - harmless.mean())
    assert found.standard_error == pytest.approx(score_interval(harmful[0], harmless[0]).standard_error)
    assert score_interval(harmful, harmless[::-1]).standard_error > 1.5 * found.standard_error


def test_repeating_an_arm_without_randomness_changes_nothing():
    base_harmful, base_harmless = outcomes(1, 40, rate=0.1), outcomes(1, 50, rate=0.05)
    arm_harmful, arm_harmless = outcomes(5, 40), outcomes(5, 50, rate=0.1, seed=1)
    once = score_difference(arm_harmful, arm_harmless, base_harmful, base_harmless)
    again = score_difference(arm_harmful, arm_harmless, np.tile(base_harmful, (5, 1)), np.tile(base_harmless, (5, 1)))
    for name in ("mean", "low", "high", "lower_bound", "df"):
        assert getattr(once, name) == pytest.approx(getattr(again, name))


@settings(deadline=None)
@given(seed=st.integers(0, 1000), n_seeds=st.tuples(st.integers(1, 6), st.integers(1, 6)))
def test_a_difference_turns_with_its_arms_and_heeds_no_order(seed, n_seeds):
    a_harmful, a_harmless = outcomes(n_seeds[0], 20, seed=seed), outcomes(n_seeds[0], 25, rate=0.1, seed=seed + 1)
    b_harmful, b_harmless = outcomes(n_seeds[1], 20, seed=seed + 2), outcomes(n_seeds[1], 25, seed=seed + 3)
    found = score_difference(a_harmful, a_harmless, b_harmful, b_harmless)
    turned = score_difference(b_harmful, b_harmless, a_harmful, a_harmless)
    assert (-turned.mean, -turned.high, -turned.low) == pytest.approx((found.mean, found.low, found.high))
    rng = np.random.default_rng(seed)
    order, seeds = rng.permutation(20), rng.permutation(n_seeds[0])
    mixed = score_difference(a_harmful[seeds][:, order], a_harmless[seeds], b_harmful[:, order], b_harmless)
    assert (mixed.low, mixed.high, mixed.df) == pytest.approx((found.low, found.high, found.df))
    assert -2 <= found.low <= found.lower_bound <= found.mean <= found.high <= 2


def test_pairing_by_prompt_narrows_the_difference_of_arms_that_agree():
    x = outcomes(1, 200)
    agreeing = np.tile(x, (5, 1))
    mixed = agreeing[:, np.random.default_rng(0).permutation(200)]
    assert mean_difference(agreeing, agreeing).standard_error < 0.2 * mean_difference(agreeing, mixed).standard_error


def test_equal_outcomes_everywhere_are_not_certainty():
    nothing = np.zeros((5, 100))
    found = mean_difference(nothing, nothing)
    assert found.mean == 0
    assert -0.03 < found.lower_bound < -0.01  # about 1.66 / 100: one prompt of 100 cannot be ruled out
    assert mean_over_seeds(nothing).low == 0.0
    assert mean_over_seeds(nothing).high > 0.01


def test_a_score_is_the_difference_of_two_means_and_a_pair_of_classes_adds_up():
    harmful, harmless = outcomes(4, 30), outcomes(4, 50, rate=0.1)
    assert score_interval(harmful, harmless).mean == pytest.approx(harmful.mean() - harmless.mean())
    found = score_difference(harmful, harmless, harmful * 0, harmless)
    assert found.mean == pytest.approx(mean_difference(harmful, harmful * 0).mean)


@pytest.mark.parametrize(
    ("arms", "problem"),
    [
        ((outcomes(5, 20), outcomes(5, 21)), "same prompts"),
        ((outcomes(5, 1), outcomes(5, 1)), "two prompts"),
        ((outcomes(5, 20) * 2, outcomes(5, 20)), "within"),
        ((outcomes(5, 20) * np.nan, outcomes(5, 20)), "within"),
        ((outcomes(5, 20, 2), outcomes(5, 20)), "shape"),
    ],
)
def test_outcomes_that_cannot_be_compared_are_refused(arms, problem):
    with pytest.raises(ValueError, match=problem):
        mean_difference(*arms)


def test_both_classes_need_the_same_seeds():
    with pytest.raises(ValueError, match="same seeds"):
        score_interval(outcomes(5, 20), outcomes(4, 20))


def test_non_inferiority_is_judged_by_the_one_sided_bound():
    difference = around(-0.05)
    assert difference.low < -0.085 < difference.lower_bound
    assert non_inferior(difference, 0.085)
    assert not non_inferior(difference, 0.08)
    with pytest.raises(ValueError, match="positive"):
        non_inferior(difference, 0.0)
