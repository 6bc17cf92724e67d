"""The datamodel: who is drawn, that what outcomes follow from is found, and that no trial is run twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from smidgen.errors import InvalidData, UsageError
from smidgen.evaluation.refusal import PromptScore
from smidgen.selection.feature_store import ColumnGroup, FeatureStore
from smidgen.selection.features import Features
from smidgen.selection.kinds import ANSWERING, OTHER, REFUSAL
from smidgen.selection.selectors import selector
from smidgen.study.datamodel import datamodel_draws, datamodel_group, datamodel_summary
from smidgen.study.plan import StudySettings, Trial, planned_steps
from smidgen.study.records import StudyRecords
from smidgen.study.study import Study
from smidgen.study.trial import TrialResult
from smidgen.training.loop import Recipe

N = 60
IDXS = np.random.default_rng(0).permutation(1000)[:N]
KIND = np.array([REFUSAL, ANSWERING, OTHER])[np.arange(N) % 3]
TEXTS = {
    "chosen_refuses": KIND == REFUSAL,
    "rejected_refuses": KIND == ANSWERING,
    "prompt_harmfulness": np.where(KIND == REFUSAL, 0.9, 0.1),
}
# Two pairs of each pool help, one of each hinders; the others change nothing.
EFFECTS = dict.fromkeys(IDXS.tolist(), 0.0) | dict(
    zip(IDXS[[0, 3, 6, 1, 4, 7]].tolist(), [1, 0.7, -0.8, 1, 0.7, -0.8], strict=True)
)


class Stop(Exception):
    pass


def study_of(folder: Path, ran: list[str], *, stop_after: int | None = None) -> Study:
    """A study whose trials have outcomes that are linear in who is in."""

    def run(trials: Sequence[Trial], on_result: Callable[[Trial, TrialResult], None]) -> None:
        for done, trial in enumerate(trials):
            if done == stop_after:
                raise Stop
            ran.append(trial.trial_id)
            noise = np.random.default_rng(trial.seed).normal(scale=0.05)
            outcome = sum(EFFECTS[idx] for idx in trial.idxs) + noise
            assert not trial.generate and trial.prompt_set == "dev"
            scores: list[PromptScore] = []
            on_result(trial, TrialResult(scores, None, {"surrogate_score": float(outcome), "score": None}, 0.0))

    settings = StudySettings(datamodel_trials=48, datamodel_size=20, selectors=("datamodel",))
    return Study(settings, tuple(IDXS.tolist()), Recipe(steps=7), StudyRecords(folder / "study.sqlite"), run)


def measured(study: Study, folder: Path) -> Features:
    text = ColumnGroup(
        name="text",
        columns=tuple(TEXTS),
        decides=lambda: None,
        prepare=lambda columns: lambda rows: {name: values[rows] for name, values in TEXTS.items()},
    )
    store = FeatureStore(folder / "work", [text, datamodel_group(study, "a model")], n_rows=N, pairs="x")
    return Features(IDXS, store.columns)


def test_draws_are_halves_of_both_pools_whatever_the_order_of_rows() -> None:
    draws = datamodel_draws(IDXS, KIND, n_trials=30, size=12, seed=0)
    kind_of = dict(zip(IDXS.tolist(), KIND.tolist(), strict=True))
    assert all([kind_of[idx] for idx in draw] == [REFUSAL] * 6 + [ANSWERING] * 6 for draw in draws)
    assert all(len(set(draw)) == 12 for draw in draws)
    assert datamodel_draws(IDXS[::-1], KIND[::-1], n_trials=30, size=12, seed=0) == draws
    assert len({*draws, *datamodel_draws(IDXS, KIND, n_trials=30, size=12, seed=1)}) == 60
    assert datamodel_draws(IDXS, KIND, n_trials=9, size=12, seed=0) == draws[:9]
    assert {len(draw) for draw in datamodel_draws(IDXS, KIND, n_trials=3, size=900, seed=0)} == {20}


def test_a_pool_without_pairs_says_so() -> None:
    with pytest.raises(InvalidData, match="got 20 and 0"):
        datamodel_draws(IDXS, np.where(KIND == ANSWERING, OTHER, KIND), n_trials=4, size=4, seed=0)


def test_what_outcomes_follow_from_is_found_and_ranked(tmp_path: Path) -> None:
    ran: list[str] = []
    study = study_of(tmp_path, ran)
    features = measured(study, tmp_path)
    assert datamodel_summary(study, features) is None, "nobody has asked yet"
    assert not ran
    ranking = selector.get("datamodel")(features, 0)
    assert set(ranking.order[:4].tolist()) == set(IDXS[[0, 3, 1, 4]].tolist())
    assert set(ranking.order[-2:].tolist()) == set(IDXS[[6, 7]].tolist())
    coefficients = dict(zip(IDXS.tolist(), features.column("datamodel").tolist(), strict=True))
    for idx, effect in EFFECTS.items():
        assert coefficients[idx] == pytest.approx(effect, abs=0.25)
    assert all(coefficients[idx] == 0 for idx in IDXS[KIND == OTHER].tolist())
    summary = datamodel_summary(study, features)
    assert summary is not None and len(ran) == len(set(ran)) == 48
    assert (summary["trials"], summary["size"], summary["pairs_drawn"]) == (48, 20, 40)
    assert summary["held_out_correlation"] > 0.9


def test_stopped_and_called_again_runs_the_rest_and_ends_the_same(tmp_path: Path) -> None:
    for name in ("stopped", "never"):
        (tmp_path / name).mkdir()
    ran: list[str] = []
    with pytest.raises(Stop):
        measured(study_of(tmp_path / "stopped", ran, stop_after=17), tmp_path / "stopped").column("datamodel")
    again = measured(study_of(tmp_path / "stopped", ran), tmp_path / "stopped").column("datamodel")
    assert len(ran) == len(set(ran)) == 48
    never = measured(study_of(tmp_path / "never", []), tmp_path / "never").column("datamodel")
    assert again.tobytes() == never.tobytes()
    measured(study_of(tmp_path / "stopped", ran, stop_after=0), tmp_path / "stopped").column("datamodel")


def test_without_a_study_the_column_says_where_it_comes_from() -> None:
    with pytest.raises(UsageError, match=r"no feature 'datamodel'.*smidgen minimize"):
        selector.get("datamodel")(Features(IDXS, TEXTS), 0)


def test_its_trials_are_planned_where_a_ranking_asks_for_them() -> None:
    plain = StudySettings(selectors=("random",))
    for spec in ("datamodel:pools=all", "stratified:by=kind,then=datamodel"):
        asked = StudySettings(selectors=(spec,), datamodel_size=40)
        assert sorted(planned_steps(asked, 1000)) == sorted(planned_steps(plain, 1000) + [10] * 64)


@pytest.mark.parametrize("wrong", [{"datamodel_trials": 3}, {"datamodel_size": 1}])
def test_too_few_trials_or_pairs_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="expected 4 datamodel_trials"):
        StudySettings(**wrong)  # pyright: ignore[reportArgumentType]
