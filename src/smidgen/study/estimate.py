"""How many trials a study may take, and how long, said before it starts: from a few timed steps on this machine."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch

from smidgen.models.generate import generate
from smidgen.models.load import LanguageModel
from smidgen.models.logprobs import AnswerLogps, find_layout, score_answers
from smidgen.study.inputs import StudyInputs
from smidgen.study.plan import StudySettings
from smidgen.training.loop import train
from smidgen.training.losses import loss
from smidgen.training.preference import collate_pairs, preference_objective

_PROBE_STEPS = 3
_PROBE_PROMPTS = 16


@dataclass(frozen=True, slots=True)
class Estimate:
    """Most trials a study can need, and about how long they take."""

    trials: int
    steps: int
    seconds: float

    def sentence(self, workers: int) -> str:
        return (
            f"at most {self.trials} trials, {self.steps:,} optimiser steps; about {_span(self.seconds)} "
            f"with {max(1, workers)} at a time on this machine"
        )


def planned_steps(settings: StudySettings, n_pairs: int) -> list[int]:
    """Optimiser steps of every trial a study may run, if every test passes and every baseline can be made."""
    full = settings.recipe.total_steps(n_pairs)
    sizes = settings.ladder(n_pairs)

    def steps(size: int) -> int:
        return settings.subset_recipe(settings.recipe, n_pairs, size).total_steps(size)

    tune = [full] * (max(1, len(settings.learning_rates)) + settings.dev_seeds - 1) + [0]
    race = [steps(size) for size in sizes for _ in settings.selectors]
    finals = [
        steps(size)
        for size in sizes
        for _ in range(min(settings.survivors, len(settings.selectors)) * settings.dev_seeds)
    ]
    refine = [steps(sizes[0])] * (settings.refine_groups + 2 * settings.dev_seeds if settings.refine_groups else 0)
    tested = sorted(map(steps, sizes))[-settings.confirm_sizes :]
    # Beside the tested sizes: best, random, random in pool and SFT on the largest; full twice (all, and clean).
    arms = [*tested, *[steps(sizes[0])] * 4, full, full]
    if settings.both_budgets:
        arms += [settings.recipe.total_steps(sizes[0]), full]
    return tune + race + finals + refine + [0] + arms * settings.confirm_seeds


def estimate(lm: LanguageModel, inputs: StudyInputs, settings: StudySettings, *, workers: int) -> Estimate:
    """Time a few steps and answers, and multiply; the weights of `lm` are put back.

    Workers share the machine's cores, so the time of one process on all cores is the time of all of them.
    """
    before = {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}
    planned = planned_steps(settings, len(inputs.pairs))
    per_step = _seconds_per_step(lm, inputs, settings)
    lm.model.load_state_dict(before)
    per_benchmark = _seconds_per_benchmark(lm, inputs, settings)
    seconds = sum(planned) * per_step + len(planned) * per_benchmark
    return Estimate(len(planned), sum(planned), seconds)


def _seconds_per_step(lm: LanguageModel, inputs: StudyInputs, settings: StudySettings) -> float:
    size = settings.recipe.batch_size
    layout = find_layout(lm.model)
    step = max(1, len(inputs.encoded) // size)
    pairs = inputs.encoded[::step][:size]
    scored = score_answers(lm, [p.prompt for p in pairs], [(p.chosen, p.rejected) for p in pairs], layout=layout)
    batch = collate_pairs(pairs, [(chosen, rejected) for chosen, rejected in scored], layout=layout)
    objective = preference_objective(loss.bind(settings.loss))
    scorer = AnswerLogps(lm.model, layout)

    def run(steps: int) -> None:
        recipe = replace(settings.recipe, steps=steps)
        train(scorer, objective, [batch] * steps, recipe=recipe, steps=steps)

    run(1)
    started = time.perf_counter()
    run(_PROBE_STEPS)
    return (time.perf_counter() - started) / _PROBE_STEPS


def _seconds_per_benchmark(lm: LanguageModel, inputs: StudyInputs, settings: StudySettings) -> float:
    prompts = [pair.prompt for pair in inputs.encoded[:_PROBE_PROMPTS]]
    with torch.no_grad():
        started = time.perf_counter()
        generate(lm, prompts, max_new_tokens=min(8, settings.max_new_tokens))
        seconds = (time.perf_counter() - started) * settings.max_new_tokens / min(8, settings.max_new_tokens)
    n_prompts = max(sum(map(len, lists)) for lists in inputs.prompts.values())
    return seconds * n_prompts / len(prompts)


def _span(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.0f} minutes" if minutes < 90 else f"{minutes / 60:.1f} hours"
