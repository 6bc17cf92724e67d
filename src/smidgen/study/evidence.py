"""What stands beside the claim: baselines, detectors, the winner's curse, transfer. Read from a study's records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from smidgen.evaluation.patterns import list_name
from smidgen.evaluation.selection_bias import contest, selection_bias
from smidgen.evaluation.statistics import (
    Estimate,
    Interval,
    cohens_kappa,
    mean_difference,
    non_inferior,
    score_interval,
)
from smidgen.study.confirm import Confirmation
from smidgen.study.decide import ArmScores, Finalist, arm_difference, assay_of, assay_passed, nominate
from smidgen.study.plan import Candidate
from smidgen.study.search import DevLevels
from smidgen.study.study import Study

# Differences that say what the choice of pairs was worth, beside the tested one to full data.
_COMPARED = (
    ("subset", "random_in_pool"),
    ("subset", "random"),
    ("subset", "sft_on_chosen"),
    ("subset", "full_clean"),
    ("best", "full"),
    ("best", "random_in_pool_of_best"),
    ("full_clean", "full"),
)
_READ_BY_ALL = ("subset", "full", "base", "best")


def rounded(found: Estimate | Interval) -> dict[str, float]:
    """mean, low, high, and lower_bound where there is one; rounded, so that a last bit tells no two runs apart."""
    return {name: round(value, 6) for name, value in found.as_dict().items()}


@dataclass(frozen=True, slots=True)
class Detector:
    """The claim's numbers by one refusal list."""

    scores: dict[str, Estimate]
    difference: Estimate
    non_inferior: bool
    assay_passed: bool

    def as_dict(self) -> dict[str, Any]:
        return {
            "scores": {arm: rounded(score.interval) for arm, score in self.scores.items()},
            "difference": rounded(self.difference),
            "non_inferior": self.non_inferior,
            "assay_passed": self.assay_passed,
        }


def read_detectors(study: Study, confirmation: Confirmation, delta: float) -> dict[str, Detector]:
    """The same answers judged by every refusal list; the claim itself rests on one that was fixed beforehand."""
    confidence = study.settings.confidence
    found = {}
    for name in map(list_name, study.settings.pattern_lists):
        arms = {arm: study.records.arm(confirmation.arms[arm], name) for arm in _READ_BY_ALL}
        difference = arm_difference(arms["subset"], arms["full"], confidence)
        found[name] = Detector(
            {arm: score_interval(s.harmful, s.harmless, confidence=confidence) for arm, s in arms.items()},
            difference,
            non_inferior(difference, delta),
            assay_passed(assay_of(arms["subset"], arms["full"], arms["base"], confidence), delta),
        )
    return found


def comparisons(study: Study, confirmation: Confirmation) -> dict[str, Estimate]:
    """Differences between arms, paired by prompt, seeds apart: reported, nothing is claimed by them."""
    arms = {name: study.records.arm(trials, study.settings.deciding) for name, trials in confirmation.arms.items()}
    return {
        f"{one}_minus_{other}": arm_difference(arms[one], arms[other], study.settings.confidence)
        for one, other in _COMPARED
        if one in arms and other in arms
    }


def detector_agreement(study: Study, confirmation: Confirmation) -> dict[str, float | None]:
    """Cohen's kappa of every two refusal lists, over the answers of base, full and subset to the confirm prompts."""
    judged = {}
    for name in map(list_name, study.settings.pattern_lists):
        arms = [study.records.arm(confirmation.arms[arm], name) for arm in ("base", "full", "subset")]
        judged[name] = np.concatenate([side.ravel() for arm in arms for side in (arm.harmful, arm.harmless)])
    kappas = {f"{a} / {b}": cohens_kappa(judged[a].tolist(), judged[b].tolist()) for a, b in combinations(judged, 2)}
    return {names: None if kappa is None else round(kappa, 6) for names, kappa in kappas.items()}


def winners_curse(
    study: Study, confirmation: Confirmation, finalists: Sequence[Finalist], levels: DevLevels
) -> dict[str, Any]:
    """Dev, which chose, against confirm, which did not: changes against full data, of the subset and of the best.

    Dev and confirm ask other prompts, so scores are not compared, only what each differs from full data by.
    """
    settings = study.settings
    full_dev = study.records.arm(levels.full, settings.deciding)
    dev = [study.records.arm(finalist.trials, settings.deciding) for finalist in finalists]
    full_confirm = study.records.arm(confirmation.arms["full"], settings.deciding)
    held = contest([(arm.harmful, arm.harmless) for arm in dev], (full_dev.harmful, full_dev.harmless))
    chosen = nominate(finalists, enough=full_score(study, levels) - levels.delta, most=settings.confirm_sizes)
    answer = confirmation.answer.candidate
    from_smallest = [f.candidate for f in reversed(chosen.sequence)].index(answer)

    def choose(changes: np.ndarray, arm: str) -> int | None:
        again = [replace(f, score=float(change)) for f, change in zip(finalists, changes, strict=True)]
        drawn = nominate(again, enough=-levels.delta, most=settings.confirm_sizes)
        picked = drawn.best if arm == "best" else None
        if arm == "subset" and from_smallest < len(drawn.sequence):
            picked = drawn.sequence[-1 - from_smallest]
        return next((i for i, finalist in enumerate(again) if finalist is picked), None)

    found: dict[str, Any] = {"candidates": len(finalists)}
    for arm, candidate in (("subset", answer), ("best", chosen.best.candidate)):
        position = [f.candidate for f in finalists].index(candidate)
        on_dev = arm_difference(dev[position], full_dev, settings.confidence)
        scores = study.records.arm(confirmation.arms[arm], settings.deciding)
        on_confirm = arm_difference(scores, full_confirm, settings.confidence)
        bias = selection_bias(held, lambda changes, arm=arm: choose(changes, arm))
        found[arm] = _shrinkage(candidate, on_dev, on_confirm, bias)
    return found


def full_score(study: Study, levels: DevLevels) -> float:
    """Mean dev score of the run on all pairs."""
    return sum(record.metric("score") for record in levels.full) / len(levels.full)


def _shrinkage(candidate: Candidate, on_dev: Estimate, on_confirm: Estimate, bias: float) -> dict[str, Any]:
    """Both changes, the correction, and how much the change shrank: prompts and seeds are others, so errors add."""
    shrank = on_dev.mean - on_confirm.mean
    half = float(np.hypot((on_dev.high - on_dev.low) / 2, (on_confirm.high - on_confirm.low) / 2))
    corrected = Interval(on_dev.mean - bias, on_dev.low - bias, on_dev.high - bias)
    return {
        "selector": candidate.selector,
        "size": candidate.size,
        "dev": rounded(on_dev.interval),
        "dev_corrected": rounded(corrected),
        "selection_bias": round(bias, 6),
        "confirm": rounded(on_confirm.interval),
        "shrinkage": rounded(Interval(shrank, shrank - half, shrank + half)),
    }


def transfer(study: Study, confirmation: Confirmation) -> dict[str, Any]:
    """Subset minus full data under another objective and from another model: reported, nothing is claimed by it."""
    settings = study.settings
    what = {"objective": settings.transfer_loss, "model": settings.transfer_model}
    found = {}
    for name, trials in confirmation.transfers.items():
        full, subset = (study.records.arm(arm, settings.deciding) for arm in trials)
        found[name] = {
            name: what[name],
            "n_seeds": len(trials[0]),
            "full": rounded(_score(full, settings.confidence)),
            "subset": rounded(_score(subset, settings.confidence)),
            "difference": rounded(arm_difference(subset, full, settings.confidence)),
            **_accuracy(subset, full, settings.confidence),
        }
    return found


def _score(arm: ArmScores, confidence: float) -> Interval:
    return score_interval(arm.harmful, arm.harmless, confidence=confidence).interval


def _accuracy(subset: ArmScores, full: ArmScores, confidence: float) -> Mapping[str, Any]:
    if subset.correct is None or full.correct is None:
        return {}
    difference = mean_difference(subset.correct, full.correct, confidence=confidence)
    return {"preference_accuracy_difference": rounded(difference)}
