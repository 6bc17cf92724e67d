"""The confirmation: fresh seeds, prompts that the search never saw, and every baseline beside the subset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from smidgen.errors import UsageError
from smidgen.evaluation.statistics import Estimate, score_interval
from smidgen.selection.features import Features
from smidgen.selection.kinds import ANSWERING, REFUSAL, is_inverted, kind_of
from smidgen.selection.selectors import selector, top
from smidgen.study.decide import Finalist, Nomination, SizeTest, answer_of, fixed_sequence, size_test
from smidgen.study.plan import SUPERVISED, Candidate, Trial
from smidgen.study.search import base_trial
from smidgen.study.study import Study


@dataclass(slots=True)
class Confirmation:
    """What was measured on the confirm prompts.

    Attributes:
        arms: The trials of every arm.
        tests: The fixed sequence.
        transfers: By what was changed, "objective" or "model": the full arm's trials and the subset's.
        left_out: Arms that could not be made, each with its reason.
    """

    arms: dict[str, list[Trial]] = field(default_factory=dict)
    transfers: dict[str, tuple[list[Trial], list[Trial]]] = field(default_factory=dict)
    tests: list[SizeTest] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def answer(self) -> SizeTest:
        """The smallest size that passed; the first tested where none did."""
        return answer_of(self.tests)


def confirm(
    study: Study,
    nomination: Nomination[Finalist],
    features: Features,
    *,
    delta: float,
    aligned: str | None,
) -> Confirmation:
    """Run the fixed sequence of tests from the largest size down, then the baselines at the size it ends at."""
    seeds = study.confirm_seeds()
    confirmation = Confirmation()
    arms = confirmation.arms
    arms["base"] = [base_trial(study, stage="confirm")]
    if aligned:
        arms["aligned"] = [base_trial(study, stage="confirm", arm="aligned", model=aligned)]
    everything = Candidate("", study.all_idxs)
    arms["full"] = _repeat(study, "full", everything, seeds)
    study.results([*arms["base"], *arms.get("aligned", []), *arms["full"]], "confirming: base and full")
    full = study.records.arm(arms["full"], study.settings.deciding)
    settings = study.settings

    def test(finalist: Finalist) -> SizeTest:
        trials = _repeat(study, "subset", finalist.candidate, seeds)
        study.results(trials, f"confirming: {finalist.candidate.size} pairs")
        return size_test(
            finalist.candidate,
            study.records.arm(trials, settings.deciding),
            full,
            delta=delta,
            margins=settings.margins(delta),
            confidence=settings.confidence,
            trials=trials,
        )

    confirmation.tests = fixed_sequence(nomination.sequence, test)
    arms["subset"] = confirmation.answer.trials
    _add_baselines(study, confirmation, nomination.best.candidate, features, seeds)
    study.results([trial for arm in arms.values() for trial in arm], "confirming: baselines")
    _add_transfer(study, confirmation, seeds)
    return confirmation


def _repeat(study: Study, arm: str, candidate: Candidate, seeds: Sequence[int]) -> list[Trial]:
    return [
        study.subset_trial(candidate, stage="confirm", arm=arm, seed=seed, keep_weights=arm == "subset" and i == 0)
        for i, seed in enumerate(seeds)
    ]


def _add_baselines(
    study: Study, confirmation: Confirmation, best: Candidate, features: Features, seeds: Sequence[int]
) -> None:
    """Name the trials of every other arm; what cannot be made is left out with its reason."""
    arms, subset = confirmation.arms, confirmation.answer.candidate
    tested = {test.candidate: test.trials for test in confirmation.tests}
    arms["best"] = tested.get(best) or _repeat(study, "best", best, seeds)
    clean = tuple(int(idx) for idx in features.idx[~is_inverted(features)])
    if len(clean) < len(study.all_idxs):
        arms["full_clean"] = _repeat(study, "full_clean", Candidate("", clean), seeds)
    else:
        confirmation.left_out["full_clean"] = "no pair looks inverted, so it is the same as full"
    arms["random"] = _draws(study, "random", "random", features, subset.size, seeds)
    drawn = {"random_in_pool": subset} | ({"random_in_pool_of_best": best} if best != subset else {})
    for arm, like in drawn.items():
        pooled = f"random_in_pool:refuse_share={_refuse_share(features, like)}"
        try:
            arms[arm] = _draws(study, arm, pooled, features, like.size, seeds)
        except UsageError as error:
            confirmation.left_out[arm] = str(error)
    arms["sft_on_chosen"] = [
        study.subset_trial(subset, stage="confirm", arm="sft_on_chosen", seed=seed, objective=SUPERVISED)
        for seed in seeds
    ]
    if study.settings.both_budgets:
        budgets = {"subset_equal_epochs": subset.size, "subset_equal_steps": len(study.all_idxs)}
        for arm, size in budgets.items():
            recipe = replace(study.recipe, steps=study.recipe.total_steps(size))
            arms[arm] = [
                study.subset_trial(subset, stage="confirm", arm=arm, seed=seed, recipe=recipe) for seed in seeds
            ]


def _add_transfer(study: Study, confirmation: Confirmation, seeds: Sequence[int]) -> None:
    """The same subset and the full data under another objective, and from another model, where that is asked for."""
    settings = study.settings
    arms = {"full": Candidate("", study.all_idxs), "subset": confirmation.answer.candidate}
    for name, wanted, objective, model in (
        ("objective", settings.transfer, settings.transfer_loss, None),
        ("model", settings.transfer_model is not None, settings.loss, settings.transfer_model),
    ):
        if not wanted:
            continue
        full, subset = (
            [
                study.subset_trial(
                    candidate,
                    stage="confirm",
                    arm=f"transfer_{name}_{arm}",
                    seed=seed,
                    objective=objective,
                    model=model,
                )
                for seed in seeds[: settings.transfer_seeds]
            ]
            for arm, candidate in arms.items()
        )
        study.results([*full, *subset], f"confirming: transfer to another {name}")
        confirmation.transfers[name] = full, subset


def _draws(study: Study, arm: str, spec: str, features: Features, size: int, seeds: Sequence[int]) -> list[Trial]:
    """One fresh draw a seed, so that the luck of the draw is part of the interval."""
    rank = selector.bind(spec)
    return [
        study.subset_trial(
            Candidate(spec, tuple(int(idx) for idx in top(rank(features, seed), size))),
            stage="confirm",
            arm=arm,
            seed=seed,
        )
        for seed in seeds
    ]


def _refuse_share(features: Features, subset: Candidate) -> float:
    """Share of refusing pairs among the subset's contrast pairs; a half where it has none."""
    held = set(subset.idxs)
    found = [kind for idx, kind in zip(features.idx, kind_of(features), strict=True) if int(idx) in held]
    refusing, answering = found.count(REFUSAL), found.count(ANSWERING)
    return round(refusing / (refusing + answering), 4) if refusing + answering else 0.5


def arm_estimate(study: Study, trials: Sequence[Trial]) -> Estimate:
    """An arm's score over its seeds and the confirm prompts."""
    found = study.records.arm(trials, study.settings.deciding)
    return score_interval(found.harmful, found.harmless, confidence=study.settings.confidence)
