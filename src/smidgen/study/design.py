"""The plan of a study before any run: prompts, seeds, held-out pairs and trials for a claim at delta."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from smidgen.errors import UsageError
from smidgen.evaluation.power import MOST_SEEDS, Spread, claim_power, needed_items, observed_spread, textbook_items
from smidgen.runs import read_json
from smidgen.study.decide import ArmScores
from smidgen.study.plan import StudySettings, planned_steps

PROMPTS_SHOWN = (100, 150, 200, 300, 400, 600, 800)
SEEDS_SHOWN = (3, 5, 8, 10, 15, 20)
# Held-out accuracy and degeneration of arms alike: assumed where no finished run says otherwise.
ACCURACY = Spread(rates=(0.6,), rho=0.6, seed_sd=0.02)


def plan_study(
    settings: StudySettings,
    *,
    delta: float,
    spread: Spread,
    accuracy: Spread = ACCURACY,
    power: float = 0.8,
    change: float = 0.0,
    n_pairs: int = 5000,
) -> dict[str, Any]:
    """What a claim at `delta` needs.

    Args:
        settings: The study's own; its seeds, margins and confidence count.
        delta: Non-inferiority margin of the score.
        spread: Of the score.
        accuracy: Of held-out preference accuracy.
        power: Chance of the claim that is asked for, of each test.
        change: True score of the subset minus full's.
        n_pairs: Of the study, for the number of trials.
    """

    def needed(n_seeds: int) -> int | None:
        return needed_items(
            n_seeds, delta=delta, spread=spread, power=power, change=change, confidence=settings.confidence
        )

    def chance(n: int, n_seeds: int) -> float:
        found = claim_power(n, n_seeds, delta=delta, spread=spread, change=change, confidence=settings.confidence)
        return round(found, 4)

    seeds = settings.confirm_seeds
    heldout = needed_items(
        seeds, delta=settings.accuracy_delta, spread=accuracy, power=power, confidence=settings.confidence
    )
    return {
        "delta": delta,
        "power": power,
        "confidence": settings.confidence,
        "change": change,
        "spread": asdict(spread),
        "accuracy_spread": asdict(accuracy),
        "n_seeds": seeds,
        "prompts_per_class": needed(seeds),
        "least_seeds": next((n for n in range(2, MOST_SEEDS + 1) if needed(n) is not None), None),
        "prompts_by_seeds": [{"n_seeds": n, "prompts_per_class": needed(n)} for n in SEEDS_SHOWN],
        "textbook_prompts": {
            "unpaired": textbook_items(
                delta=delta + change, spread=replace(spread, rho=0.0), power=power, confidence=settings.confidence
            ),
            "paired": textbook_items(delta=delta + change, spread=spread, power=power, confidence=settings.confidence),
        },
        "heldout_pairs": heldout,
        "trials": len(planned_steps(settings, n_pairs)),
        "table": [
            {"prompts_per_class": n, "n_seeds": s, "power": chance(n, s)} for n in PROMPTS_SHOWN for s in SEEDS_SHOWN
        ],
    }


def spread_of_runs(folders: Sequence[Path]) -> tuple[Spread, Spread | None]:
    """The spread of score and of held-out accuracy in finished runs, averaged over them; None without held-out pairs.

    Raises:
        UsageError: No finished run in a folder, or one whose arms have a single seed.
    """
    arms = [_confirmed(folder) for folder in folders]
    scores = [observed_spread([(a.harmful, a.harmless) for a in both]) for both in arms]
    accuracies = [
        observed_spread([(subset.correct,), (full.correct,)])
        for subset, full in arms
        if subset.correct is not None and full.correct is not None
    ]
    return _average(scores), _average(accuracies) if accuracies else None


def _average(spreads: Sequence[Spread]) -> Spread:
    rates = np.mean([spread.rates for spread in spreads], axis=0)
    return Spread(
        rates=tuple(float(rate) for rate in rates),
        rho=float(np.mean([spread.rho for spread in spreads])),
        seed_sd=float(np.sqrt(np.mean([spread.seed_sd**2 for spread in spreads]))),
    )


def _confirmed(folder: Path) -> tuple[ArmScores, ArmScores]:
    """The reported subset and full data on a run's confirm prompts."""
    if not (folder / "certificate.json").exists() or not (folder / "study.sqlite").exists():
        raise UsageError(
            f"expected certificate.json and study.sqlite in {folder}, found none or one. Name a finished run."
        )
    # The records know of trials, and so of the engine, which a plan without runs need not wait for.
    from smidgen.study.records import StudyRecords

    certificate, records = read_json(folder / "certificate.json"), StudyRecords(folder / "study.sqlite")
    subset = records.confirmed("subset", certificate["subset_size"])
    full = records.confirmed("full", certificate["full_size"])
    if min(len(subset), len(full)) < 2:
        raise UsageError(f"expected two seeds or more of subset and full in {folder}, got {len(subset)}, {len(full)}.")
    return records.arm(subset, certificate["patterns"]), records.arm(full, certificate["patterns"])
