"""One trial, in whatever process it runs: reset the weights, train, measure."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from smidgen.data.templates import Template, load_template
from smidgen.data.tokens import EncodedPair
from smidgen.evaluation.endpoints import degeneration, preference_accuracy
from smidgen.evaluation.patterns import DEFAULT_LIST
from smidgen.evaluation.refusal import PromptScore, bench, summarize
from smidgen.evaluation.surrogate import Opening
from smidgen.models.load import LanguageModel, load_language_model, save_language_model
from smidgen.models.logprobs import find_layout
from smidgen.models.reference_store import ReferenceStore
from smidgen.models.rows import Layout
from smidgen.plugins import load_plugins
from smidgen.study.plan import SUPERVISED, Trial
from smidgen.training.loop import TrainingLog
from smidgen.training.preference import reference_logps, train_preference
from smidgen.training.sft import train_on_answers

# Each list: harmful prompts, harmless prompts.
PromptLists = tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialContext:
    """What all trials of a study share; small enough to be sent to every process.

    Attributes:
        places: Where this machine has the models that context and trials name; names that are missing are places.
    """

    model: str
    template: str
    pairs: tuple[EncodedPair, ...]
    heldout: Mapping[str, tuple[EncodedPair, ...]]
    prompts: Mapping[str, PromptLists]
    reference_store: Path
    weights: Path
    pattern_lists: tuple[str, ...]
    openings: tuple[Opening, ...]
    max_new_tokens: int
    threads: int
    places: Mapping[str, str] = field(default_factory=dict)
    deciding: str = DEFAULT_LIST
    plugins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TrialResult:
    """What a trial measured.

    Attributes:
        scores: One row a prompt.
        correct: 1 where a held-out pair's chosen answer has the higher implicit reward, 0.5 at a tie, else 0; None
            without held-out pairs.
        metrics: Averages for people to read; statistics start from the rows.
    """

    scores: list[PromptScore]
    correct: list[float] | None
    metrics: dict[str, float | None]
    wall_seconds: float


class TrialRunner:
    """Holds the base model in memory between trials; only its weights are reset."""

    def __init__(self, context: TrialContext) -> None:
        load_plugins(context.plugins)
        torch.set_num_threads(context.threads)
        self.context = context
        self.lm: LanguageModel = self._load(context.model)
        self.template: Template = load_template(context.template, self.lm.tokenizer)
        self.layout: Layout = find_layout(self.lm.model)
        self._base = {name: tensor.clone() for name, tensor in self.lm.model.state_dict().items()}
        self._pairs = {pair.idx: pair for pair in context.pairs}
        self._store = ReferenceStore(context.reference_store)

    def run(self, trial: Trial) -> TrialResult:
        """Train on the trial's pairs, then measure on its prompt set. Deterministic for one number of threads."""
        started = time.perf_counter()
        lm, layout = self.lm, self.layout
        self.lm.model.load_state_dict(self._base)
        if trial.model:
            lm = self._load(trial.model)
            layout = find_layout(lm.model)
        # The reference is the weights the trial starts from, so it is read before they change. A model that is only
        # measured is held against the study's own.
        heldout = self.context.heldout.get(trial.prompt_set, ())
        reference, reference_layout = (lm, layout) if trial.idxs else (self.lm, self.layout)
        heldout_reference = reference_logps(reference, heldout, self._store, layout=reference_layout)
        log = self._train(lm, layout, trial) if trial.idxs else TrainingLog()
        if trial.keep_weights:
            save_language_model(lm, self.context.weights / trial.trial_id, card=f"Weights of trial {trial.trial_id}.\n")
        lm.model.eval()
        harmful, harmless = self.context.prompts[trial.prompt_set]
        scores = bench(
            lm,
            self.template,
            harmful,
            harmless,
            prompt_set=trial.prompt_set,
            pattern_lists=self.context.pattern_lists,
            openings=self.context.openings,
            max_new_tokens=self.context.max_new_tokens,
            generate=trial.generate,
        )
        correct = None
        if heldout:
            right = preference_accuracy(
                lm,
                heldout,
                ref_chosen_logps=np.array([chosen.sum() for chosen, _ in heldout_reference]),
                ref_rejected_logps=np.array([rejected.sum() for _, rejected in heldout_reference]),
            )
            correct = [float(value) for value in right]
        metrics = trial_metrics(scores, correct, log, deciding=self.context.deciding)
        return TrialResult(scores, correct, metrics, time.perf_counter() - started)

    def _load(self, name: str) -> LanguageModel:
        return load_language_model(self.context.places.get(name, name))

    def _train(self, lm: LanguageModel, layout: Layout, trial: Trial) -> TrainingLog:
        pairs = [self._pairs[idx] for idx in trial.idxs]
        if trial.objective == SUPERVISED:
            prompts, answers = [p.prompt for p in pairs], [p.chosen for p in pairs]
            return train_on_answers(
                lm, prompts, answers, recipe=trial.recipe, seed=trial.seed, idxs=trial.idxs, layout=layout
            )
        reference = reference_logps(lm, pairs, self._store, dtype=trial.recipe.dtype, layout=layout)
        return train_preference(
            lm,
            pairs,
            reference,
            objective=trial.objective,
            recipe=trial.recipe,
            seed=trial.seed,
            layout=layout,
        )


def trial_metrics(
    scores: list[PromptScore], correct: list[float] | None, log: TrainingLog, *, deciding: str
) -> dict[str, float | None]:
    """A trial's averages: refusal score and rates, surrogate, held-out accuracy, degeneration, training loss, speed.

    Args:
        deciding: The refusal list that score and rates are by.
    """
    summary: dict[str, Any] = summarize(scores)
    by_list = summary["lists"].get(deciding, {})
    wrote = [score.completion for score in scores if score.completion is not None]

    def rate(name: str) -> float | None:
        return by_list[name]["mean"] if wrote else None

    return {
        "score": rate("score"),
        "harmful_refusal_rate": rate("harmful_refusal_rate"),
        "harmless_refusal_rate": rate("harmless_refusal_rate"),
        "surrogate_score": summary["surrogate_score"],
        "preference_accuracy": float(np.mean(correct)) if correct else None,
        "degeneration": float(degeneration(wrote).mean()) if wrote else None,
        "train_loss": log.rows[-1]["loss"] if log.rows else None,
        "pairs_per_second": float(np.mean([row["pairs_per_second"] for row in log.rows])) if log.rows else None,
    }
