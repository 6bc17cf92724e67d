"""Planning: the textbook's numbers, and what more prompts, seeds and pairing must do."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri

from smidgen.evaluation.power import Spread, claim_power, needed_items, observed_spread, textbook_items

STILL = Spread(seed_sd=0.0)


@pytest.mark.parametrize(("delta", "rho", "needed"), [(0.10, 0.0, 365), (0.10, 0.5, 183), (0.15, 0.0, 163)])
def test_the_textbook_numbers(delta: float, rho: float, needed: int) -> None:
    """One-sided .05, power .80, rates .45 and .05: computed by hand from (z + z)² V / δ²."""
    spread = replace(STILL, rho=rho)
    assert textbook_items(delta=delta, spread=spread) == needed
    # A t quantile asks for a little more than a normal one, never for less.
    assert needed <= (needed_items(5, delta=delta, spread=spread) or 0) <= needed + 3


@pytest.mark.parametrize(("delta", "seeds", "power"), [(0.10, 5, 0.44), (0.15, 10, 0.84)])
def test_seeds_count_as_well(delta: float, seeds: int, power: float) -> None:
    """142 + 198 prompts, rho .5, seed sd .08, normal quantiles; with t quantiles a little power goes."""
    error = math.sqrt(0.2475 / 142 + 0.0475 / 198 + 2 * 0.08**2 / seeds)
    assert ndtr(delta / error - ndtri(0.95)) == pytest.approx(power, abs=0.005)
    n = (0.2475 + 0.0475) / (0.2475 / 142 + 0.0475 / 198)  # as many of each class as give the same variance
    found = claim_power(round(n), seeds, delta=delta, spread=Spread())
    assert power - 0.05 <= found <= power


def test_where_seeds_differ_too_much_no_number_of_prompts_is_enough() -> None:
    assert needed_items(5, delta=0.1, spread=Spread(seed_sd=0.08)) is None
    assert needed_items(12, delta=0.1, spread=Spread(seed_sd=0.08)) is not None


@given(n=st.integers(20, 2000), seeds=st.integers(2, 20), rho=st.floats(0, 0.9), sd=st.floats(0.01, 0.2))
def test_more_of_anything_never_costs_power(n: int, seeds: int, rho: float, sd: float) -> None:
    def power(n: int, seeds: int, change: float = 0.0) -> float:
        return claim_power(n, seeds, delta=0.1, spread=Spread(rho=rho, seed_sd=sd), change=change)

    here = power(n, seeds)
    assert 0 <= here <= 1
    assert power(2 * n, seeds) >= here - 0.02  # with fewer degrees of freedom in the sum, t may grow by a hair
    assert power(n, seeds + 1) >= here - 1e-9
    assert power(n, seeds, 0.05) >= here - 1e-9


def test_at_the_margin_itself_power_is_the_level() -> None:
    assert claim_power(200, 5, delta=0.1, spread=Spread(), change=-0.1) == pytest.approx(0.05)


@given(n=st.integers(30, 900), seeds=st.integers(3, 12))
def test_needed_is_the_least_that_is_enough(n: int, seeds: int) -> None:
    spread = Spread(seed_sd=0.03)
    needed = needed_items(seeds, delta=0.12, spread=spread)
    if needed is not None:
        assert claim_power(needed, seeds, delta=0.12, spread=spread) >= 0.8
        assert claim_power(needed - 1, seeds, delta=0.12, spread=spread) < 0.8


def test_a_spread_is_read_from_outcomes() -> None:
    """Outcomes drawn with a known spread of seeds: it comes back, and identical arms correlate fully."""
    rng = np.random.default_rng(0)
    levels = 0.5 + 0.06 * rng.standard_normal((2, 200, 1))
    arms = [((rng.random((200, 300)) < level).astype(float),) for level in levels]
    found = observed_spread(arms)
    assert found.seed_sd == pytest.approx(0.06, rel=0.12)
    same = np.tile(rng.random(300) < 0.4, (3, 1)).astype(float)
    assert observed_spread([(same,), (same,)]).rho == pytest.approx(1.0)
    with pytest.raises(ValueError, match="two seeds"):
        observed_spread([(same[:1],), (same,)])
