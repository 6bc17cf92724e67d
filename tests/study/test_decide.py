"""Decisions of a study, apart from measuring: hand-worked choices, and the order in which tests end."""

from __future__ import annotations

import numpy as np
import pytest

from smidgen.evaluation.statistics import Estimate
from smidgen.study.decide import (
    ArmScores,
    Finalist,
    SizeTest,
    answer_of,
    assay_passed,
    champions,
    fixed_sequence,
    is_sound,
    nominate,
    sequence_loss_bound,
    size_test,
    survivors,
)
from smidgen.study.plan import Candidate


def finalist(name: str, size: int, score: float, *, sound: bool = True) -> Finalist:
    return Finalist(Candidate(name, tuple(range(size))), score, sound)


def step(size: int, bound: float, *failed: str) -> SizeTest:
    return SizeTest(Candidate("a", tuple(range(size))), [], Estimate(0, -1, 1, bound, 0.1, 9), {}, list(failed))


def test_survivors_have_the_highest_surrogate() -> None:
    heat = [Candidate(name, (1, 2)) for name in "abc"]
    assert survivors(heat, dict(zip(heat, (0.1, 0.9, 0.5), strict=True)), most=2) == [heat[1], heat[2]]


def test_a_sound_finalist_goes_before_a_better_one_that_is_not() -> None:
    low, high = finalist("a", 4, 0.3), finalist("b", 4, 0.9, sound=False)
    assert champions([high, low]) == [low]


def test_the_smallest_sizes_that_are_enough_are_tested_largest_first() -> None:
    field = [finalist("a", 8, 0.5), finalist("a", 4, 0.45), finalist("a", 2, 0.41), finalist("a", 1, 0.1)]
    found = nominate(field, enough=0.4, most=2)
    assert [f.candidate.size for f in found.sequence] == [4, 2]
    assert found.best is field[0]
    assert nominate(field, enough=0.8, most=2).sequence == [field[0]]


def test_soundness_is_within_every_margin() -> None:
    margins = {"a": 0.1, "b": 0.05}
    assert is_sound({"a": -0.1, "b": 0.3}, margins)
    assert not is_sound({"a": 0.2, "b": -0.06}, margins)


def test_the_sequence_ends_at_the_first_failure() -> None:
    tests = fixed_sequence([8, 4, 2], lambda size: step(size, 0.0, *(["score"] if size == 4 else [])))
    assert [test.candidate.size for test in tests] == [8, 4]
    assert answer_of(tests).candidate.size == 8
    assert answer_of(tests[1:]).candidate.size == 4


def test_a_bound_for_the_sequence_is_the_worst_passed_or_the_claim_itself() -> None:
    """Hsu & Berger: all passed, the largest loss bound; one failed, delta; none passed, nothing."""
    passed = [step(8, -0.03), step(4, -0.01)]
    assert sequence_loss_bound(passed, 0.1) == pytest.approx(0.03)
    assert sequence_loss_bound([*passed, step(2, -0.3, "score")], 0.1) == 0.1
    assert sequence_loss_bound([step(8, -0.3, "score")], 0.1) is None


def test_every_endpoint_must_pass() -> None:
    rng = np.random.default_rng(0)

    def arm(harmful: float, correct: float) -> ArmScores:
        def draw(rate: float) -> np.ndarray:
            return (rng.random((5, 400)) < rate).astype(float)

        return ArmScores(draw(harmful), draw(0.05), draw(correct), draw(0.02))

    full = arm(0.6, 0.7)
    margins = {"harmless_answered": 0.1, "no_degeneration": 0.05, "preference_accuracy": 0.05}
    found = {
        name: size_test(Candidate("a", (1,)), new, full, delta=0.1, margins=margins, confidence=0.95).failed
        for name, new in {"same": arm(0.6, 0.7), "inaccurate": arm(0.6, 0.6), "lax": arm(0.3, 0.7)}.items()
    }
    assert found == {"same": [], "inaccurate": ["preference_accuracy"], "lax": ["score"]}


@pytest.mark.parametrize(("full", "subset", "passed"), [(0.2, 0.1, True), (0.1, 0.1, False), (0.2, 0.0, False)])
def test_assay_needs_both_gaps(full: float, subset: float, passed: bool) -> None:
    gaps = {"full_minus_base": Estimate(1, 0, 1, full, 0, 9), "subset_minus_base": Estimate(1, 0, 1, subset, 0, 9)}
    assert assay_passed(gaps, 0.1) is passed
