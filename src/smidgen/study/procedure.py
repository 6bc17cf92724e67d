"""What a study does once everything is read: search on dev, nominate, confirm, and write the answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from smidgen.data.templates import load_template
from smidgen.evaluation.patterns import SHIPPED, load_patterns, unfit
from smidgen.models.load import LanguageModel, load_language_model
from smidgen.runs import write_json
from smidgen.selection.features import WORK, Features, write_features
from smidgen.selection.gradient_groups import GradientSettings
from smidgen.selection.measure import measure_features
from smidgen.selection.selectors import Selection, selector
from smidgen.study.confirm import confirm
from smidgen.study.datamodel import datamodel_group, datamodel_summary
from smidgen.study.decide import Finalist, Nomination
from smidgen.study.execute import Executor
from smidgen.study.inputs import StudyInputs
from smidgen.study.minimality import refine
from smidgen.study.outputs import certify, write_answer, write_winner
from smidgen.study.plan import StudySettings
from smidgen.study.progress import Progress
from smidgen.study.reasons import descent
from smidgen.study.search import DevLevels, dev_levels, nominees, race, tune_full
from smidgen.study.study import Study
from smidgen.study.swap import METAGRADIENTS, metagradient_oracle, swap_champions
from smidgen.study.trial import TrialContext


def search_and_confirm(
    study: Study,
    lm: LanguageModel,
    inputs: StudyInputs,
    context: TrialContext,
    aligned: str | None,
    out: Path,
    placed: Executor,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Tune, race, refine and nominate on dev, test on the confirm prompts, and write all that the study found.

    Args:
        study: With its settings and records; its recipe is set here.
        lm: The model to start from, for features and metagradients.
        inputs: Pairs and prompts.
        context: What trials share.
        aligned: The model after training on all pairs, if there is one.
        out: The run's folder.
        placed: Who computes features.
        say: Called with lines for people.

    Returns:
        The certificate, as written.
    """
    full = tune_full(study)
    levels = dev_levels(study, full)
    if warning := _unfit_list(study, levels):
        say(f"warning: {warning}")
    study.watch(Progress("features", 0, 1))
    harmful, harmless = inputs.prompts["dev"]
    features, accuracy = measure_features(
        lm,
        inputs.pairs,
        inputs.encoded,
        template=load_template(context.template, lm.tokenizer),
        harmful=harmful,
        harmless=harmless,
        aligned=lambda: load_language_model(aligned or context.weights / full[0].trial_id),
        gradients=GradientSettings(objective=study.settings.loss, recipe=study.recipe, seed=study.settings.seed),
        also=[datamodel_group(study, (lm.fingerprint, inputs.prompts["dev"]))],
        patterns=study.settings.patterns,
        work=out / WORK,
        on_block=lambda group, done, total: study.watch(Progress(f"features: {group}", done, total)),
        elsewhere=placed.elsewhere,
    )
    rankings = rank_pairs(study.settings, features)
    write_features(features, out / "features.parquet")
    finalists = race(study, rankings, levels)
    oracle = metagradient_oracle(lm, context, features, out / METAGRADIENTS)
    swapped, swaps = swap_champions(study, finalists, oracle, levels)
    finalists += swapped
    shrunk, reduction = refine(study, nominees(study, finalists, levels).sequence[-1], levels)
    finalists += shrunk
    nomination = nominees(study, finalists, levels)
    write_json(out / "nominees.json", _nominees(nomination, levels.delta))
    confirmation = confirm(study, nomination, features, delta=levels.delta, aligned=aligned)
    certificate = certify(
        study,
        confirmation,
        levels,
        inputs,
        finalists=finalists,
        reduction=reduction,
        best_size=nomination.best.candidate.size,
        harmfulness_accuracy=accuracy,
        datamodel=datamodel_summary(study, features),
    )
    study.watch(Progress("writing", 0, 1))
    answer = confirmation.answer.candidate
    way, looked = descent(answer.idxs, reduction, swaps), oracle.look_back(study, answer.idxs)
    write_answer(out, inputs.pairs, features, rankings[answer.selector], answer.selector, way, looked)
    write_winner(confirmation, certificate, context.weights, out)
    write_json(out / "certificate.json", certificate)
    return certificate


def _unfit_list(study: Study, levels: DevLevels) -> str | None:
    """What is wrong with a list of the user's own that has decided nothing, before trials are spent on it."""
    if study.settings.patterns in SHIPPED:
        return None
    arm = study.records.arm([*levels.base, *levels.full], study.settings.deciding)
    matched = np.concatenate([arm.harmful.ravel(), arm.harmless.ravel()]).astype(bool).tolist()
    n_patterns = len(load_patterns(study.settings.patterns).patterns)
    return unfit(study.settings.deciding, matched, n_patterns=n_patterns)


def rank_pairs(settings: StudySettings, features: Features) -> dict[str, Selection]:
    """Every competing ranking, by its specification."""
    return {spec: selector.bind(spec)(features, settings.seed) for spec in settings.selectors}


def _nominees(nomination: Nomination[Finalist], delta: float) -> dict[str, Any]:
    """What dev nominated, written down before the confirm prompts are touched."""

    def row(finalist: Finalist) -> dict[str, Any]:
        candidate = finalist.candidate
        return {"selector": candidate.selector, "size": candidate.size, "dev_score": round(finalist.score, 6)}

    return {"delta": delta, "sequence": [row(f) for f in nomination.sequence], "best": row(nomination.best)}
