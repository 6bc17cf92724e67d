"""How many trials a study may take, and how long, said before it starts: from a few timed steps on this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from smidgen.models.generate import generate
from smidgen.models.load import LanguageModel
from smidgen.models.logprobs import AnswerLogps, find_layout, score_answers
from smidgen.study.execute import on_threads
from smidgen.study.inputs import StudyInputs
from smidgen.study.plan import StudySettings, planned_steps
from smidgen.training.loop import train
from smidgen.training.losses import loss
from smidgen.training.preference import collate_pairs, preference_objective

_PROBE_PAIRS = 16


@dataclass(frozen=True, slots=True)
class Estimate:
    """Most trials a study can need, and about how long they take."""

    trials: int
    steps: int
    seconds: float

    def sentence(self, workers: int, *, here: bool = True) -> str:
        return (
            f"at most {self.trials} trials, {self.steps:,} optimiser steps; about {_span(self.seconds)} "
            f"with {max(1, workers)} at a time on {'this machine' if here else 'machines like this one'}"
        )


def estimate(
    lm: LanguageModel, inputs: StudyInputs, settings: StudySettings, *, workers: int, threads: int, clamped: bool = True
) -> Estimate:
    """Time a few steps and answers on a trial's number of threads, and multiply; the weights of `lm` are put back.

    Args:
        clamped: Whether only as many workers count as this machine has processors for.
    """
    before = {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}
    with on_threads(threads):
        per_step = _seconds_per_step(lm, inputs, settings)
        lm.model.load_state_dict(before)
        per_measurement = _seconds_per_measurement(lm, inputs, settings)
    planned = planned_steps(settings, len(inputs.pairs))
    at_once = max(1, min(workers, (os.cpu_count() or 1) // threads) if clamped else workers)
    seconds = (sum(planned) * per_step + len(planned) * per_measurement) / at_once
    return Estimate(len(planned), sum(planned), seconds)


def _seconds_per_step(lm: LanguageModel, inputs: StudyInputs, settings: StudySettings) -> float:
    size = settings.recipe.batch_size
    layout = find_layout(lm.model)
    pairs = inputs.encoded[:: max(1, len(inputs.encoded) // size)][:size]
    scored = score_answers(lm, [p.prompt for p in pairs], [(p.chosen, p.rejected) for p in pairs], layout=layout)
    batch = collate_pairs(pairs, [(chosen, rejected) for chosen, rejected in scored], layout=layout)
    objective = preference_objective(loss.bind(settings.loss))
    scorer = AnswerLogps(lm.model, layout)
    recipe = replace(settings.recipe, steps=1)
    return _shortest(lambda: train(scorer, objective, [[batch]], recipe=recipe, steps=1))


def _seconds_per_measurement(lm: LanguageModel, inputs: StudyInputs, settings: StudySettings) -> float:
    """Answers of all prompts, their surrogate (about as long), and the held-out pairs."""
    pairs = inputs.encoded[:_PROBE_PAIRS]
    prompts = [pair.prompt for pair in pairs]
    answering = _shortest(lambda: generate(lm, prompts, max_new_tokens=settings.max_new_tokens)) / len(pairs)
    scoring = _shortest(lambda: score_answers(lm, prompts, [(p.chosen, p.rejected) for p in pairs])) / len(pairs)
    n_prompts = max(sum(map(len, lists)) for lists in inputs.prompts.values())
    return 2 * answering * n_prompts + scoring * len(inputs.heldout["confirm"])


def _shortest(work: Callable[[], object]) -> float:
    """Least seconds of three runs: what else the machine does makes them longer, never shorter."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def _span(seconds: float) -> str:
    minutes = seconds / 60
    if minutes < 1.5:
        return "a minute"
    return f"{minutes:.0f} minutes" if minutes < 90 else f"{minutes / 60:.1f} hours"
