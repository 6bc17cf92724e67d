"""Win rates: worked by hand, mirrored by a swap, and right as often as their intervals say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen.evaluation.winrate import Tally, by_prompt, sign_flip_p, tally, win_rate

TALLIES = st.lists(st.builds(Tally, *[st.integers(0, 4)] * 3), min_size=1, max_size=20)


def test_ties_are_half_wins_and_prompts_count_by_their_verdicts() -> None:
    found = by_prompt([(2, 1.0), (1, 0.5), (1, 0.0), (2, 1.0)])

    assert found == {1: Tally(0, 1, 1), 2: Tally(2, 0, 0)}
    rate = win_rate(list(found.values()))
    assert rate is not None and rate.mean == 0.625


def test_an_interval_by_hand() -> None:
    # Points 3, 1, 2 of 3 each: mean 2/3, squared deviations of the shares 2/9, one unit added, t(2) = 4.302653.
    rate = win_rate([Tally(3, 0, 0), Tally(1, 2, 0), Tally(2, 1, 0)])
    half = 4.302653 * np.sqrt((2 / 9 + 1) / 2 / 3)
    assert rate is not None and rate.mean == pytest.approx(2 / 3)
    assert rate.low == pytest.approx(max(0, 2 / 3 - half)) and rate.high == 1.0


def test_nothing_judged_one_prompt_and_prompts_without_a_verdict() -> None:
    assert win_rate([]) is None and win_rate([Tally(0, 0, 0)]) is None and sign_flip_p([]) is None
    one = win_rate([Tally(3, 0, 0), Tally(0, 0, 0)])
    assert one is not None and (one.mean, one.low, one.high) == (1.0, 0.0, 1.0)


@pytest.mark.parametrize("n_prompts", [2, 3, 5, 20, 200])
def test_all_wins_are_no_certainty(n_prompts: int) -> None:
    rate = win_rate([Tally(3, 0, 0)] * n_prompts)
    assert rate is not None and rate.mean == rate.high == 1.0 and rate.low < 1.0


@given(TALLIES)
def test_a_swap_of_the_models_mirrors_everything(of_prompts: list[Tally]) -> None:
    swapped = [Tally(t.losses, t.wins, t.ties) for t in of_prompts]
    mine, theirs = win_rate(of_prompts), win_rate(swapped)

    assert sign_flip_p(of_prompts) == sign_flip_p(swapped)
    assert (mine is None) == (theirs is None)
    if mine and theirs:
        assert (mine.mean, mine.low, mine.high) == pytest.approx((1 - theirs.mean, 1 - theirs.high, 1 - theirs.low))


def test_the_sign_flip_test_by_hand_and_beyond_enumeration() -> None:
    # Margins 3, 1: of four sign patterns two are as extreme as 4.
    assert sign_flip_p([Tally(3, 0, 0), Tally(1, 0, 2)]) == 0.5
    assert sign_flip_p([Tally(1, 1, 1)] * 9) == 1.0
    # 15 of 20: twice the binomial tail is .0414.
    many = sign_flip_p([Tally(1, 0, 0)] * 15 + [Tally(0, 1, 0)] * 5)
    assert many == pytest.approx(0.0414, abs=0.007)


def correlated(rng: np.random.Generator, n_prompts: int, mean: float, rho: float, letters: int = 3) -> list[Tally]:
    """Prompts with win probabilities of their own; `rho` is the correlation of two letters of one prompt."""
    spread = (1 - rho) / rho
    rates = rng.beta(mean * spread, (1 - mean) * spread, n_prompts)
    return [tally((rng.random(letters) < rate).astype(float)) for rate in rates]


@pytest.mark.parametrize(("n_prompts", "mean", "rho"), [(5, 0.5, 0.5), (15, 0.8, 0.9), (40, 0.5, 0.9), (40, 0.9, 0.5)])
def test_coverage_with_letters_that_hang_together(n_prompts: int, mean: float, rho: float) -> None:
    rng = np.random.default_rng(7)
    held = naive = 0
    for _ in range(300):
        of_prompts = correlated(rng, n_prompts, mean, rho)
        rate = win_rate(of_prompts)
        # What is not to be done: every verdict as a draw of its own.
        apart = win_rate([Tally(*kind) for t in of_prompts for kind in [(1, 0, 0)] * t.wins + [(0, 1, 0)] * t.losses])
        assert rate is not None and apart is not None
        held += rate.low <= mean <= rate.high
        naive += apart.low <= mean <= apart.high
    assert held / 300 > 0.925
    assert naive <= held


def test_verdicts_taken_apart_would_be_far_too_sure() -> None:
    rng = np.random.default_rng(8)
    narrow = 0
    for _ in range(200):
        of_prompts = correlated(rng, 40, 0.5, 0.9)
        apart = win_rate([Tally(*kind) for t in of_prompts for kind in [(1, 0, 0)] * t.wins + [(0, 1, 0)] * t.losses])
        assert apart is not None
        narrow += not apart.low <= 0.5 <= apart.high
    assert narrow / 200 > 0.15
