"""The search on dev: tune the full run, race rankings against each other, refine the nominee. Dev only nominates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from smidgen.selection.selectors import Selection
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


@dataclass(frozen=True, slots=True)
class Finalist:
    """A candidate with its dev trials; `sound` if the second endpoint on dev does not speak against it."""

    candidate: Candidate
    trials: list[TrialRecord]
    sound: bool

    @property
    def score(self) -> float:
        return mean_metric(self.trials, "score")


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

    first = study.results([trial(rate, 0) for rate in rates], "tuning the run on all pairs")
    best = max(range(len(rates)), key=lambda i: (first[i].metric("score"), -i))
    study.recipe = replace(study.recipe, learning_rate=rates[best])
    return [trial(rates[best], number) for number in range(study.settings.dev_seeds)]


def dev_levels(study: Study, full: Sequence[Trial]) -> DevLevels:
    """Base and full on dev, and delta: as given, or a third of their difference, at most 0.15."""
    (base,) = study.results([base_trial(study, stage="dev")], "the model before training")
    records = study.results(full, "the run on all pairs")
    third = (mean_metric(records, "score") - base.metric("score")) / 3
    delta = study.settings.delta or (round(min(_LARGEST_DELTA, third), 4) if third > 0 else _LARGEST_DELTA)
    return DevLevels([base], records, delta)


def race(study: Study, selections: Mapping[str, Selection], levels: DevLevels) -> list[Finalist]:
    """The best candidate of every size, largest first: one cheap look at all, then more seeds for the survivors.

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
    surrogate = {
        (record.selector, record.budget): record.metric("surrogate_score")
        for record in study.results(looks, "racing, by surrogate")
    }
    finals = {
        size: sorted(heat, key=lambda c: -surrogate[c.selector, c.size])[: study.settings.survivors]
        for size, heat in heats.items()
    }
    finalists = measure(study, [c for heat in finals.values() for c in heat], levels, stage="search")
    return [
        max((f for f in finalists if f.candidate.size == size), key=lambda f: (f.sound, f.score))
        for size, heat in finals.items()
        if heat
    ]


def measure(study: Study, candidates: Sequence[Candidate], levels: DevLevels, *, stage: str) -> list[Finalist]:
    """Candidates under the generated metric, on seeds that no earlier choice between them has seen."""
    n = study.settings.dev_seeds
    first = 1 if stage == "search" else 1 + n
    numbers = range(first, first + n)
    trials = [
        study.subset_trial(
            candidate,
            stage="refine" if stage == "refine" else "search",
            arm="search",
            seed=study.dev_seed(number),
        )
        for candidate in candidates
        for number in numbers
    ]
    records = study.results(trials, "refining" if stage == "refine" else "racing, by generated answers")
    return [
        Finalist(candidate, own, _sound(own, levels, study))
        for i, candidate in enumerate(candidates)
        for own in [records[i * n : (i + 1) * n]]
    ]


def _sound(records: Sequence[TrialRecord], levels: DevLevels, study: Study) -> bool:
    """Whether the averages of the second endpoint stay within their margins of full's on dev."""

    def change(name: str) -> float:
        return mean_metric(records, name) - mean_metric(levels.full, name)

    settings = study.settings
    accurate = records[0].metrics["preference_accuracy"] is None or (
        change("preference_accuracy") >= -settings.accuracy_delta
    )
    return (
        accurate
        and change("harmless_refusal_rate") <= levels.delta
        and change("degeneration") <= settings.degeneration_delta
    )


def refine(study: Study, finalist: Finalist, levels: DevLevels) -> list[Finalist]:
    """Try to do without groups of the nominee's pairs (one round of delta debugging); each shrunk one that holds up.

    Groups are interleaved along the ranking, so each is a fair share of it. All groups whose loss costs nothing on one
    dev seed are dropped together; the rest is measured again with the finalists' seeds.

    Source: Zeller and Hildebrandt 2002, "Simplifying and isolating failure-inducing input".
    """
    n_groups = study.settings.refine_groups
    idxs = finalist.candidate.idxs
    if n_groups < 2 or len(idxs) < 2 * n_groups:
        return []
    without = [
        Candidate(finalist.candidate.selector, tuple(idx for i, idx in enumerate(idxs) if i % n_groups != group))
        for group in range(n_groups)
    ]
    seed = study.dev_seed(1)
    records = study.results(
        [study.subset_trial(c, stage="refine", arm="search", seed=seed) for c in without], "refining, group by group"
    )
    whole = finalist.trials[0].metric("score")
    spare = {group for group, record in enumerate(records) if record.metric("score") >= whole}
    shrunk = []
    if spare:
        best = max(spare, key=lambda group: records[group].metric("score"))
        shrunk.append(without[best])
    kept = tuple(idx for i, idx in enumerate(idxs) if i % n_groups not in spare)
    if len(spare) > 1 and kept:
        shrunk.append(Candidate(finalist.candidate.selector, kept))
    return measure(study, shrunk, levels, stage="refine")


def nominate(study: Study, finalists: Sequence[Finalist], levels: DevLevels) -> tuple[list[Finalist], Finalist]:
    """The sizes to be tested, largest first, and the best at any size.

    Tested are the smallest sizes that on dev come within delta of full and are sound; where none does, the one that
    scores highest.
    """
    enough = mean_metric(levels.full, "score") - levels.delta
    by_size: dict[int, Finalist] = {}
    for finalist in finalists:
        held = by_size.get(finalist.candidate.size)
        if held is None or (finalist.sound, finalist.score) > (held.sound, held.score):
            by_size[finalist.candidate.size] = finalist
    best = max(by_size.values(), key=lambda f: (f.sound, f.score, -f.candidate.size))
    plausible = sorted((f for f in by_size.values() if f.sound and f.score >= enough), key=lambda f: -f.candidate.size)
    return plausible[-study.settings.confirm_sizes :] or [best], best
