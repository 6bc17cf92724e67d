"""A study under way: what it has, and how it gets the results of trials, from its records or by running them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from smidgen.errors import SmidgenError
from smidgen.study.execute import RunTrials
from smidgen.study.plan import Candidate, StudySettings, Trial, mean
from smidgen.study.progress import Progress
from smidgen.study.records import StudyRecords, TrialRecord
from smidgen.study.trial import TrialResult
from smidgen.training.loop import Recipe

# Dev and confirm seeds of one study never meet, nor do those of studies with other seeds below 100,000.
_SEEDS_OF_A_STUDY = 100
_FIRST_CONFIRM_SEED = 10_000_000


@dataclass(slots=True)
class Study:
    """Everything the search and the confirmation need; `recipe` is set once the full run is tuned."""

    settings: StudySettings
    all_idxs: tuple[int, ...]
    recipe: Recipe
    records: StudyRecords
    run_trials: RunTrials
    watch: Callable[[Progress], None] = field(default=lambda progress: None)

    def results(self, trials: Sequence[Trial], activity: str) -> list[TrialRecord]:
        """The results of these trials, in order; finished ones are read, the others run and stored one by one."""
        known = self.records.find(trials)
        missing = [trial for trial in trials if trial.trial_id not in known]
        done = len(trials) - len(missing)
        self.watch(Progress(activity, done, len(trials)))

        def store(trial: Trial, result: TrialResult) -> None:
            nonlocal done
            self.records.add(trial, result)
            done += 1
            self.watch(Progress(activity, done, len(trials), self.records.find([trial])[trial.trial_id]))

        if missing:
            self.run_trials(missing, store)
            known = self.records.find(trials)
        lost = [trial.trial_id for trial in trials if trial.trial_id not in known]
        if lost:
            raise SmidgenError(f"{len(lost)} trials left no result, the first {lost[0]}; run the command again.")
        return [known[trial.trial_id] for trial in trials]

    def dev_seed(self, number: int) -> int:
        return self.settings.seed * _SEEDS_OF_A_STUDY + number

    def confirm_seeds(self) -> list[int]:
        """Fresh seeds: no dev trial has ever used them."""
        first = _FIRST_CONFIRM_SEED + self.settings.seed * _SEEDS_OF_A_STUDY
        return [first + i for i in range(self.settings.confirm_seeds)]

    def subset_trial(
        self,
        candidate: Candidate,
        *,
        stage: Literal["search", "refine", "confirm"],
        arm: str,
        seed: int,
        recipe: Recipe | None = None,
        objective: str | None = None,
        model: str | None = None,
        generate: bool = True,
        keep_weights: bool = False,
    ) -> Trial:
        """A trial on a candidate's pairs, by default with the steps that the frozen rule gives its size."""
        return Trial(
            stage=stage,
            arm=arm,
            selector=candidate.selector,
            idxs=candidate.idxs,
            seed=seed,
            objective=objective or self.settings.loss,
            recipe=recipe or self.settings.subset_recipe(self.recipe, len(self.all_idxs), candidate.size),
            prompt_set="confirm" if stage == "confirm" else "dev",
            generate=generate,
            model=model,
            keep_weights=keep_weights,
        )


def mean_metric(records: Sequence[TrialRecord], name: str) -> float:
    """Average of a metric over trials that measured it."""
    return mean([record.metric(name) for record in records])
