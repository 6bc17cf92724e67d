"""Run trials and measure features on a Ray cluster: what is sent there, what is done there, and what comes back.

Nothing is expected of a machine but the same programs: models, reference log-probabilities and pairs are fetched once
by each, and weights that a trial keeps come back with its result.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from smidgen.models.load import LanguageModel, load_language_model
from smidgen.models.logprobs import BATCH_TOKENS, find_layout, score_answers
from smidgen.models.rows import Layout, Tokens, row_lengths, token_budget_batches
from smidgen.plugins import load_plugins, loaded_plugins
from smidgen.runs import atomic_write
from smidgen.selection.feature_store import MeasureElsewhere
from smidgen.selection.measure import WITH_ALIGNED, FeatureSource, column_groups
from smidgen.study.execute import RunTrials
from smidgen.study.fleet import Fleet, Node
from smidgen.study.parcel import Files, ShippedModel, check_arrived, placed, read_folder, small_files, write_folder
from smidgen.study.plan import Trial
from smidgen.study.trial import TrialContext, TrialResult, TrialRunner

# Prompts, and of each its answers: token ids.
Batch = tuple[list[Tokens], list[Sequence[Tokens]]]


@dataclass(frozen=True, slots=True)
class TrialJob:
    """All trials of a study.

    Attributes:
        context: As on the driver, without places: those are the machine's own.
        models: By the names that context and trials call them by.
        store: Gives the reference store's file.
        files: Plugins and lists of patterns.
    """

    context: TrialContext
    models: Mapping[str, ShippedModel]
    store: Any
    files: Mapping[str, bytes]
    kind: str = "trials"

    def name(self, item: Trial) -> str:
        return f"trial {item.trial_id}"

    def open(self, node: Node) -> Callable[[Trial], tuple[TrialResult, Files]]:
        places = {name: str(node.model(model)) for name, model in self.models.items()}
        context = replace(
            self.context,
            places=places,
            reference_store=node.once("reference.sqlite", self.store, _write_bytes),
            weights=node.own,
            pattern_lists=tuple(placed(name, self.files, node.own) for name in self.context.pattern_lists),
            plugins=tuple(placed(name, self.files, node.own) for name in self.context.plugins),
        )
        runner = TrialRunner(context)
        check_arrived(runner.lm, self.models[context.model])

        def run(trial: Trial) -> tuple[TrialResult, Files]:
            result, kept = runner.run(trial), node.own / trial.trial_id
            files = read_folder(kept) if trial.keep_weights else {}
            shutil.rmtree(kept, ignore_errors=True)
            return result, files

        return run


@dataclass(frozen=True, slots=True)
class FeatureJob:
    """Blocks of pairs of one group of columns."""

    source: FeatureSource
    model: ShippedModel
    aligned: ShippedModel | None
    group: str
    threads: int
    plugins: tuple[str, ...]
    files: Mapping[str, bytes]
    kind: str = "passes"

    def name(self, item: slice) -> str:
        return f"pairs {item.start:,} to {item.stop - 1:,} of the features {self.group!r}"

    def open(self, node: Node) -> Callable[[slice], Mapping[str, np.ndarray]]:
        torch.set_num_threads(self.threads)
        load_plugins(placed(name, self.files, node.own) for name in self.plugins)
        source = replace(self.source, patterns=placed(self.source.patterns, self.files, node.own))

        def load(shipped: ShippedModel) -> LanguageModel:
            return check_arrived(load_language_model(node.model(shipped)), shipped)

        aligned = self.aligned and cache(partial(load, self.aligned))
        groups, _ = column_groups(load(self.model), source, aligned)
        (group,) = [found for found in groups if found.name == self.group]
        return group.prepare({})


@dataclass(frozen=True, slots=True)
class ScoreJob:
    """Batches of prompts, and of each prompt's answers, to score; after it, its model makes way for the features'."""

    model: ShippedModel
    layout: Layout
    dtype: str
    threads: int
    kind: str = "passes"

    def name(self, item: Batch) -> str:
        return f"{len(item[0]):,} pairs under the reference"

    def open(self, node: Node) -> Callable[[Batch], list[list[np.ndarray]]]:
        torch.set_num_threads(self.threads)
        lm = check_arrived(load_language_model(node.model(self.model)), self.model)
        return lambda batch: score_answers(lm, *batch, layout=self.layout, dtype=self.dtype)


def ray_trials(fleet: Fleet, context: TrialContext, models: Mapping[str, LanguageModel]) -> RunTrials:
    """Runs trials on the fleet; results equal those of `local_executor` bit for bit where threads and machines do.

    Args:
        models: Every model that a trial may name, by that name.
    """
    job = TrialJob(
        replace(context, weights=Path(), reference_store=Path()),
        {name: fleet.ship(lm) for name, lm in models.items()},
        fleet.put(_store_bytes(context.reference_store)),
        small_files((*context.pattern_lists, *context.plugins)),
    )

    def run(trials: Sequence[Trial], on_result: Callable[[Trial, TrialResult], None]) -> None:
        # The longest first, so that no worker is left with a long one at the end.
        ordered = sorted(trials, key=lambda trial: -trial.steps)
        for i, (result, kept) in fleet.results(job, ordered):
            if kept:
                write_folder(context.weights / ordered[i].trial_id, kept)
            on_result(ordered[i], result)

    return run


def ray_score(
    fleet: Fleet,
    lm: LanguageModel,
    prompts: Sequence[Tokens],
    answers: Sequence[Sequence[Tokens]],
    *,
    layout: Layout | None = None,
    dtype: str = "float32",
    threads: int,
) -> list[list[np.ndarray]]:
    """As `score_answers`, whose batches are computed on the fleet: one batch there is what it is here."""
    layout = layout or find_layout(lm.model)
    batches = token_budget_batches(row_lengths(prompts, answers), BATCH_TOKENS, padded=layout != "packed")
    items = [([prompts[i] for i in batch], [answers[i] for i in batch]) for batch in batches]
    result: list[list[np.ndarray]] = [[] for _ in prompts]
    for n, found in fleet.results(ScoreJob(fleet.ship(lm), layout, dtype, threads), items):
        for i, values in zip(batches[n], found, strict=True):
            result[i] = values
    return result


def ray_features(
    fleet: Fleet, source: FeatureSource, lm: LanguageModel, aligned: Callable[[], LanguageModel] | None, *, threads: int
) -> MeasureElsewhere:
    """Measures blocks of columns on the fleet, and gives them back in order."""

    def measure(group: str, blocks: Sequence[slice]) -> Iterator[Mapping[str, np.ndarray]]:
        needed = aligned if group in WITH_ALIGNED else None
        plugins = loaded_plugins()
        files = small_files((source.patterns, *plugins))
        job = FeatureJob(
            source, fleet.ship(lm), needed and fleet.ship(needed()), group, threads, plugins=plugins, files=files
        )
        early: dict[int, Mapping[str, np.ndarray]] = {}
        due = 0
        for i, block in fleet.results(job, blocks):
            early[i] = block
            while due in early:
                yield early.pop(due)
                due += 1

    return measure


def _store_bytes(path: Path) -> np.ndarray:
    """A reference store as one file, with what its journal holds."""
    with closing(sqlite3.connect(path, timeout=60)) as connection:
        return np.frombuffer(connection.serialize(), np.uint8)


def _write_bytes(path: Path, content: np.ndarray) -> None:
    with atomic_write(path, "wb") as file:
        file.write(content.tobytes())
