"""The simulated study: its worlds are what they say, and the procedure claims falsely no more often than it may."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from smidgen.evaluation.power import claim_power, observed_spread
from smidgen.evaluation.statistics import non_inferior, wilson
from smidgen.study.decide import arm_difference
from smidgen.study.plan import StudySettings
from smidgen.study.simulation import World, _Prompts, play, worlds

SETTINGS = StudySettings(delta=0.1, sizes=(40, 20, 10), refine_groups=2, refine_trials=4)


@pytest.mark.parametrize("seed_sd", [0.04, 0.12])
def test_rates_and_the_spread_of_seeds_are_as_set(seed_sd: float) -> None:
    world = World(settings=SETTINGS, seed_sd=seed_sd)
    rng = np.random.default_rng(0)
    arm = _Prompts(world, rng, 4000).arm(0.45, 0.6, 300)
    scores = arm.harmful.mean(1) - arm.harmless.mean(1)
    assert scores.mean() == pytest.approx(0.40, abs=0.03)
    assert scores.std(ddof=1) == pytest.approx(seed_sd, rel=0.15)


def test_one_stream_of_random_numbers_is_one_study() -> None:
    world = worlds(World(settings=SETTINGS, n_dev=40, n_confirm=40))["as good as full"]
    assert play(world, np.random.default_rng(5)) == play(world, np.random.default_rng(5))


@pytest.mark.parametrize("name", ["all lose δ", "accuracy loses its margin", "full is δ above base"])
def test_false_claims_stay_at_their_level(name: str) -> None:
    """200 studies: five in a hundred may claim falsely, and chance may add as much again; ten in a hundred may not."""
    world = worlds(World(settings=SETTINGS, n_dev=80, n_confirm=160, n_heldout=120))[name]
    rng = np.random.default_rng(1)
    false = sum(play(world, rng).false for _ in range(200))
    assert wilson(false, 200).low <= 0.05


def test_testing_on_the_prompts_of_the_search_would_claim_too_much() -> None:
    """Without fresh prompts and seeds the same choice among candidates is not protected: the simulation can fail."""
    rng, false = np.random.default_rng(2), 0
    world = World(settings=SETTINGS, n_dev=160, seed_sd=0.08)
    for _ in range(100):
        dev = _Prompts(world, rng, 160)
        full, *tried = [dev.arm(0.45, 0.6, 5), *(dev.arm(0.35, 0.6, 5) for _ in range(12))]
        best = max(tried, key=lambda arm: arm.harmful.mean() - arm.harmless.mean())
        false += non_inferior(arm_difference(best, full, 0.95), world.delta)
    assert wilson(false, 100).low > 0.10


def test_planned_power_is_the_simulated_one() -> None:
    world = replace(World(settings=SETTINGS), seed_sd=0.06)
    rng = np.random.default_rng(3)
    large = _Prompts(world, rng, 20_000)
    arms = [large.arm(0.45, 0.6, 5) for _ in range(2)]
    spread = observed_spread([(arm.harmful, arm.harmless) for arm in arms])
    spread = replace(spread, seed_sd=0.06)
    passed = 0
    for _ in range(400):
        prompts = _Prompts(world, rng, 150)
        new, old = prompts.arm(0.45, 0.6, 5), prompts.arm(0.45, 0.6, 5)
        passed += non_inferior(arm_difference(new, old, 0.95), 0.1)
    assert passed / 400 == pytest.approx(claim_power(150, 5, delta=0.1, spread=spread), abs=0.07)
