"""The search on dev: tune the full run, race rankings against each other. Dev only nominates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from smidgen.selection.selectors import Selection
from smidgen.study.decide import Finalist, Nomination, is_sound, nominate, survivors
from smidgen.study.plan import Candidate, Trial
from smidgen.study.records import TrialRecord
from smidgen.study.study import Study, mean_metric

_LARGEST_DELTA = 0.15


@dataclass(frozen=True, slots=True)
class DevLevels:
    """What base and full reach on dev, and the margin that follows; frozen before confirm is touched."""

    base: list[TrialRecord]
    full: list[TrialRecord]
    delta: float


def base_trial(study: Study, *, stage: str, arm: str = "base", model: str | None = None) -> Trial:
    """A model as it is, measured and not trained."""
    return Trial(
        stage="confirm" if stage == "confirm" else "tune",
        arm=arm,
        objective="",
        recipe=study.recipe,
        prompt_set="confirm" if stage == "confirm" else "dev",
        model=model,
    )


def tune_full(study: Study) -> list[Trial]:
    """Train on all pairs with every learning rate, freeze the best by dev score; its dev trials, one a seed.

    The first of them keeps its weights: it is the aligned model that features are computed with.
    """
    rates = study.settings.learning_rates or (study.recipe.learning_rate,)

    def trial(rate: float, number: int) -> Trial:
        return Trial(
            stage="tune",
            arm="full",
            idxs=study.all_idxs,
            seed=study.dev_seed(number),
            objective=study.settings.loss,
            recipe=replace(study.recipe, learning_rate=rate),
            prompt_set="dev",
            keep_weights=number == 0,
        )

    # With one rate there is nothing to wait for, so its other seeds run beside the first.
    beside = range(1, study.settings.dev_seeds if len(rates) == 1 else 1)
    trials = [*(trial(rate, 0) for rate in rates), *(trial(rates[0], number) for number in beside)]
    first = study.results(trials, "tuning the run on all pairs")[: len(rates)]
    best = max(range(len(rates)), key=lambda i: (first[i].metric("score"), -i))
    study.recipe = replace(study.recipe, learning_rate=rates[best])
    return [trial(rates[best], number) for number in range(study.settings.dev_seeds)]


def dev_levels(study: Study, full: Sequence[Trial]) -> DevLevels:
    """Base and full on dev, and delta: as given, or a third of their difference, at most 0.15."""
    (base,) = study.results([base_trial(study, stage="dev")], "the model before training")
    records = study.results(full, "the run on all pairs")
    gain = mean_metric(records, "score") - base.metric("score")
    return DevLevels([base], records, study.settings.delta or margin_of(gain))


def margin_of(gain: float) -> float:
    """Delta where none is given: a third of what full training gains on dev, at most .15, which it is without a gain.

    >>> margin_of(0.3), margin_of(0.9), margin_of(-0.3), margin_of(1e-17)
    (0.1, 0.15, 0.15, 0.15)
    """
    third = round(min(_LARGEST_DELTA, gain / 3), 4)
    return third if third > 0 else _LARGEST_DELTA


def race(study: Study, selections: Mapping[str, Selection], levels: DevLevels) -> list[Finalist]:
    """The finalists of every size, largest first: one cheap look at all, then more seeds for the survivors.

    The first round sees the surrogate alone; survivors get fresh seeds and the generated metric, so a lucky draw in
    the first round does not carry over.
    """
    heats: dict[int, list[Candidate]] = {}
    for size in study.settings.ladder(len(study.all_idxs)):
        able = [(name, found) for name, found in selections.items() if len(found.order) >= size]
        heats[size] = [Candidate(name, tuple(int(i) for i in found.order[:size])) for name, found in able]
    everyone = [candidate for heat in heats.values() for candidate in heat]
    looks = [
        study.subset_trial(c, stage="search", arm="search", seed=study.dev_seed(0), generate=False) for c in everyone
    ]
    records = study.results(looks, "racing, by surrogate")
    surrogate = {c: record.metric("surrogate_score") for c, record in zip(everyone, records, strict=True)}
    finals = [c for heat in heats.values() for c in survivors(heat, surrogate, most=study.settings.survivors)]
    return measure(study, finals, levels, stage="search")


def measure(study: Study, candidates: Sequence[Candidate], levels: DevLevels, *, stage: str) -> list[Finalist]:
    """Candidates under the generated metric, on seeds that no earlier choice between them has seen."""
    n = study.settings.dev_seeds
    first = 1 if stage == "search" else 1 + n
    activity = "refining" if stage == "refine" else "racing, by generated answers"
    return measured(study, candidates, levels, range(first, first + n), stage=stage, activity=activity)


def measured(
    study: Study, candidates: Sequence[Candidate], levels: DevLevels, seeds: Sequence[int], *, stage: str, activity: str
) -> list[Finalist]:
    """Candidates under the generated metric on dev, each with the dev seeds of these numbers."""
    trials = [
        study.subset_trial(
            candidate,
            stage="refine" if stage == "refine" else "search",
            arm="search",
            seed=study.dev_seed(number),
        )
        for candidate in candidates
        for number in seeds
    ]
    records = study.results(trials, activity)
    return [
        Finalist(candidate, mean_metric(own, "score"), _sound(own, levels, study), own)
        for i, candidate in enumerate(candidates)
        for own in [records[i * len(seeds) : (i + 1) * len(seeds)]]
    ]


def nominees(study: Study, finalists: Sequence[Finalist], levels: DevLevels) -> Nomination[Finalist]:
    """What dev nominates for the tests on the confirm prompts."""
    enough = mean_metric(levels.full, "score") - levels.delta
    return nominate(finalists, enough=enough, most=study.settings.confirm_sizes)


def _sound(records: Sequence[TrialRecord], levels: DevLevels, study: Study) -> bool:
    """Whether the averages of the second endpoint stay within their margins of full's on dev."""

    def change(name: str) -> float:
        return mean_metric(records, name) - mean_metric(levels.full, name)

    changes = {
        "harmless_answered": -change("harmless_refusal_rate"),
        "no_degeneration": -change("degeneration"),
    }
    if records[0].metrics["preference_accuracy"] is not None:
        changes["preference_accuracy"] = change("preference_accuracy")
    return is_sound(changes, study.settings.margins(levels.delta))
