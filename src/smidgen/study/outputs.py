"""What a study leaves behind: the subset with reasons, the winner, the certificate, the environment it was made in."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from smidgen.data.tables import write_subset
from smidgen.evaluation.surrogate import correlation
from smidgen.models.load import load_language_model, save_language_model, wanted_device
from smidgen.pairs import PairTable
from smidgen.runs import write_json
from smidgen.selection.features import WORK, Features
from smidgen.selection.kinds import kind_of
from smidgen.selection.selectors import Selection
from smidgen.selection.why import subset_columns, why_dropped, why_kept
from smidgen.study.certificate import build_certificate
from smidgen.study.confirm import Confirmation, arm_estimate
from smidgen.study.decide import Finalist, assay_of
from smidgen.study.evidence import comparisons, detector_agreement, read_detectors, transfer, winners_curse
from smidgen.study.inputs import StudyInputs
from smidgen.study.minimality import Reduction, minimality
from smidgen.study.reasons import Descent, descent_columns, runners_up
from smidgen.study.search import DevLevels
from smidgen.study.study import Study
from smidgen.study.swap import METAGRADIENTS

_LIBRARIES = ("smidgen", "torch", "transformers", "tokenizers", "numpy", "scipy", "datasets", "pyarrow")


def write_environment(out: Path) -> None:
    """environment.json: versions and machine, for whoever wants the same numbers again."""
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    write_json(
        out / "environment.json",
        {
            "python": platform.python_version(),
            "system": platform.system(),
            "machine": platform.machine(),
            "processors": os.cpu_count(),
            "device": wanted_device(),
            "libraries": versions,
        },
    )


def certify(
    study: Study,
    confirmation: Confirmation,
    levels: DevLevels,
    inputs: StudyInputs,
    *,
    finalists: Sequence[Finalist],
    reduction: Reduction,
    best_size: int,
    harmfulness_accuracy: float,
    datamodel: dict[str, Any] | None,
) -> dict[str, Any]:
    """Turn what was measured into the certificate."""
    settings = study.settings
    arms = {name: study.records.arm(confirmation.arms[name], settings.deciding) for name in ("subset", "full", "base")}
    found = correlation(*study.records.surrogate_and_score())
    harmful, harmless = inputs.prompts["confirm"]
    certificate = build_certificate(
        confirmation,
        {name: arm_estimate(study, trials) for name, trials in confirmation.arms.items()},
        assay_of(arms["subset"], arms["full"], arms["base"], settings.confidence),
        delta=levels.delta,
        confidence=settings.confidence,
        full_size=len(study.all_idxs),
        n_prompts=(len(harmful), len(harmless)),
        n_seeds=settings.confirm_seeds,
        comparisons=comparisons(study, confirmation),
        detectors=read_detectors(study, confirmation, levels.delta),
        context={
            "seeds": study.confirm_seeds(),
            "loss": settings.loss,
            "recipe": asdict(study.recipe),
            "subset_recipe": asdict(confirmation.answer.trials[0].recipe),
            "patterns": settings.deciding,
            "best_size": best_size,
            "n_heldout_pairs": len(inputs.heldout["confirm"]),
            "endpoint_deltas": settings.margins(levels.delta),
            "surrogate_correlation": {
                key: round(value, 6) if isinstance(value, float) else value for key, value in asdict(found).items()
            },
            "harmfulness_accuracy": round(harmfulness_accuracy, 6),
            **({"datamodel": datamodel} if datamodel else {}),
            "detector_agreement": detector_agreement(study, confirmation),
            "winners_curse": winners_curse(study, confirmation, finalists, levels),
            "minimality": minimality(reduction, confirmation.answer.candidate.idxs),
            "transfer": transfer(study, confirmation),
        },
    )
    certificate["limits"].insert(0, _training(study, confirmation))
    return certificate


def _training(study: Study, confirmation: Confirmation) -> str:
    """How long subset and full trained: few pairs are seen more often."""
    answer, n = confirmation.answer.trials[0], len(study.all_idxs)
    size, full = len(answer.idxs), study.recipe.total_steps(n)
    passes, full_passes = (steps * study.recipe.batch_size / k for steps, k in ((answer.steps, size), (full, n)))
    return (
        f"The subset trained for {answer.steps} steps, {passes:.1f} passes over its {size:,} pairs; "
        f"all {n:,} pairs for {full} steps, {full_passes:.1f} passes."
    )


def write_answer(
    out: Path,
    pairs: PairTable,
    features: Features,
    selection: Selection,
    selector: str,
    way: Descent,
    metagradients: Mapping[int, float],
) -> None:
    """subset.csv, pairs in the ranking's order, each with why it was kept; runners_up.csv, what nearly made it.

    Args:
        out: The run's folder.
        pairs: All pairs.
        features: Of all pairs.
        selection: The ranking that the answer goes back to.
        selector: Its name, with settings.
        way: From the ranking to the answer.
        metagradients: Of the answer and of others; where they were not asked for, nothing nearly made it.
    """
    subset = pairs.take(way.answer)
    dropped = way.why_dropped(why_dropped(selection, features, len(way.ranked)))
    kept = way.why_kept(why_kept(selection, features))
    columns = subset_columns(subset, pairs, features, kept=kept, dropped=dropped, selector=selector)
    write_subset(out, subset, columns | descent_columns(way, metagradients))
    if metagradients:
        kinds = dict(zip(features.idx.tolist(), kind_of(features), strict=True))
        others, columns = runners_up(way.answer, metagradients, kinds)
        why = {"reason": [dropped(idx) for idx in others]}
        write_subset(out, pairs.take(others), columns | why, name="runners_up")


def write_winner(confirmation: Confirmation, certificate: dict[str, Any], weights: Path, out: Path) -> None:
    """model/: the answer's first confirm seed in Hugging Face format, its card saying what is claimed."""
    lm = load_language_model(weights / confirmation.answer.trials[0].trial_id)
    score = certificate["scores"]["subset"]
    card = (
        "---\nlibrary_name: transformers\ntags: [preference-alignment, smidgen]\n---\n"
        f"# Trained on {certificate['subset_size']:,} of {certificate['full_size']:,} preference pairs\n\n"
        f"{certificate['claim']}\n\n"
        f"Refusal score on the confirm prompts over {certificate['n_seeds']} seeds: {score['mean']:.3f} "
        f"[{score['low']:.3f}, {score['high']:.3f}]. These weights are those of seed {certificate['seeds'][0]}.\n"
    )
    save_language_model(lm, out / "model", card=card)


def drop_work(out: Path) -> None:
    """Remove what only a resumed run would have needed."""
    for name in ("weights", METAGRADIENTS, WORK):
        shutil.rmtree(out / name, ignore_errors=True)
