"""The decisions of a study, apart from how anything was measured: numbers in, a choice or a verdict out.

Search, confirmation and the simulation of false claims all decide by these functions, so that what the simulation
says of the error rate is said of the study itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from smidgen.evaluation.statistics import Estimate, mean_difference, non_inferior, score_difference

if TYPE_CHECKING:
    from smidgen.study.plan import Candidate, Trial  # a report's reader waits for no training to be imported
    from smidgen.study.records import TrialRecord

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ArmScores:
    """Per-prompt results of an arm over its seeds.

    Attributes:
        harmful: Refused or not, [seeds, harmful prompts], 0 or 1.
        harmless: [seeds, harmless prompts].
        correct: Held-out pairs ranked rightly, [seeds, pairs]; None where not measured.
        degenerate: Answer empty or repeating, [seeds, prompts], harmful prompts first.
    """

    harmful: np.ndarray
    harmless: np.ndarray
    correct: np.ndarray | None
    degenerate: np.ndarray


@dataclass(frozen=True, slots=True)
class Finalist:
    """A candidate after its generated answers on dev.

    Attributes:
        score: Mean dev score over its seeds.
        sound: Whether the second endpoint on dev does not speak against it.
        trials: What was run for it; empty where nothing was, as in a simulation.
    """

    candidate: Candidate
    score: float
    sound: bool
    trials: Sequence[TrialRecord] = ()


@dataclass(frozen=True, slots=True)
class Nomination(Generic[T]):
    """What dev hands on: the sizes to be tested, largest first, and the best at any size."""

    sequence: list[T]
    best: T


@dataclass(frozen=True, slots=True)
class SizeTest:
    """One step of the fixed sequence: is this subset as good as all pairs, in score and in the second endpoint?"""

    candidate: Candidate
    trials: list[Trial]
    difference: Estimate
    endpoints: dict[str, Estimate]
    failed: list[str]

    @property
    def passed(self) -> bool:
        return not self.failed


def survivors(heat: Iterable[Candidate], surrogate: Mapping[Candidate, float], *, most: int) -> list[Candidate]:
    """The candidates of one size that go on to generated answers: those with the highest surrogate."""
    return sorted(heat, key=lambda candidate: -surrogate[candidate])[:most]


def is_sound(changes: Mapping[str, float], margins: Mapping[str, float]) -> bool:
    """Whether no measure of the second endpoint falls by more than its margin; changes are against full data."""
    return all(change >= -margins[name] for name, change in changes.items())


def champions(finalists: Iterable[Finalist]) -> list[Finalist]:
    """The best finalist of every size, in order of first appearance; a sound one goes before any other."""
    by_size: dict[int, Finalist] = {}
    for finalist in finalists:
        held = by_size.get(finalist.candidate.size)
        if held is None or (finalist.sound, finalist.score) > (held.sound, held.score):
            by_size[finalist.candidate.size] = finalist
    return list(by_size.values())


def nominate(finalists: Iterable[Finalist], *, enough: float, most: int) -> Nomination[Finalist]:
    """The sizes to be tested, and the best at any size.

    Tested are the smallest sizes that on dev come within delta of full (score `enough`) and are sound; where none
    does, the one that scores highest.
    """
    of_each_size = champions(finalists)
    best = max(of_each_size, key=lambda f: (f.sound, f.score, -f.candidate.size))
    plausible = sorted((f for f in of_each_size if f.sound and f.score >= enough), key=lambda f: -f.candidate.size)
    return Nomination(plausible[-most:] or [best], best)


# What a subset must keep up in with all pairs, for people.
ENDPOINT_NAMES = {
    "score": "the refusal score",
    "preference_accuracy": "accuracy on held-out pairs",
    "harmless_answered": "harmless prompts answered",
    "no_degeneration": "answers neither empty nor repeating",
}


def second_endpoint(found: ArmScores, full: ArmScores, confidence: float) -> dict[str, Estimate]:
    """Differences, subset minus full, of what a refusal score does not see; for each of them more is better."""
    endpoints = {
        "harmless_answered": mean_difference(1 - found.harmless, 1 - full.harmless, confidence=confidence),
        "no_degeneration": mean_difference(1 - found.degenerate, 1 - full.degenerate, confidence=confidence),
    }
    if found.correct is not None and full.correct is not None:
        endpoints["preference_accuracy"] = mean_difference(found.correct, full.correct, confidence=confidence)
    return endpoints


def arm_difference(a: ArmScores, b: ArmScores, confidence: float) -> Estimate:
    """Score of arm a minus score of arm b."""
    return score_difference(a.harmful, a.harmless, b.harmful, b.harmless, confidence=confidence)


def size_test(
    candidate: Candidate,
    found: ArmScores,
    full: ArmScores,
    *,
    delta: float,
    margins: Mapping[str, float],
    confidence: float,
    trials: list[Trial] | None = None,
) -> SizeTest:
    """Test one size on the confirm prompts: every endpoint must be shown non-inferior.

    All must pass, so no level is split between them (an intersection-union test).

    Source: Berger 1982, Technometrics 24:295.
    """
    difference = arm_difference(found, full, confidence)
    endpoints = second_endpoint(found, full, confidence)
    failed = [] if non_inferior(difference, delta) else ["score"]
    failed += [name for name, estimate in endpoints.items() if not non_inferior(estimate, margins[name])]
    return SizeTest(candidate, trials or [], difference, endpoints, failed)


def fixed_sequence(nominees: Iterable[T], test: Callable[[T], SizeTest]) -> list[SizeTest]:
    """Test in the given order until the first failure; each at the full level, since the order was fixed before.

    Source: Maurer, Hothorn & Lehmacher 1995; Westfall & Krishen 2001, J. Statistical Planning and Inference 99:25.
    """
    tests: list[SizeTest] = []
    for nominee in nominees:
        tests.append(test(nominee))
        if not tests[-1].passed:
            break
    return tests


def answer_of(tests: Sequence[SizeTest]) -> SizeTest:
    """The smallest size that passed; the first tested where none did."""
    return next((test for test in reversed(tests) if test.passed), tests[0])


def assay_of(subset: ArmScores, full: ArmScores, base: ArmScores, confidence: float) -> dict[str, Estimate]:
    """How far full and the subset stand above the model before training."""
    return {
        "full_minus_base": arm_difference(full, base, confidence),
        "subset_minus_base": arm_difference(subset, base, confidence),
    }


def assay_passed(assay: Mapping[str, Estimate], delta: float) -> bool:
    """Whether the benchmark can tell here: full above base by more than delta, the subset above base at all."""
    return assay["full_minus_base"].lower_bound > delta and assay["subset_minus_base"].lower_bound > 0


def sequence_loss_bound(tests: Sequence[SizeTest], delta: float) -> float | None:
    """A bound on the answer's loss of score that holds for the sequence as a whole; None where nothing passed.

    The answer's own bound is that of one size taken alone; which size it is was decided by the same numbers. If all
    sizes passed, the largest of their bounds holds for all; if one failed, no more is shown than the claim: delta.

    Source: Hsu & Berger 1999, J. American Statistical Association 94:468 (stepwise confidence intervals).
    """
    if not tests[0].passed:
        return None
    return delta if not tests[-1].passed else max(-test.difference.lower_bound for test in tests)
