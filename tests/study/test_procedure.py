"""What a study says before trials are spent: a refusal list of the user's own that tells nothing apart is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from smidgen.evaluation.refusal import PromptScore
from smidgen.study.plan import StudySettings
from smidgen.study.procedure import _unfit_list  # pyright: ignore[reportPrivateUsage]
from smidgen.study.records import StudyRecords
from smidgen.study.search import DevLevels, base_trial
from smidgen.study.study import Study
from smidgen.study.trial import TrialResult
from smidgen.training.recipe import Recipe


def warned(folder: Path, patterns: str, refused: list[bool]) -> str | None:
    """What is said of a list that matched these answers to two harmful and two harmless prompts."""
    settings = StudySettings(patterns=patterns)
    records = StudyRecords(folder / "study.sqlite")
    study = Study(settings, (1, 2), Recipe(steps=1), records, lambda trials, on_result: None)
    name = settings.deciding
    rows = [
        PromptScore("dev", i < 2, i % 2, "How?", "So.", {name: found}, False, 0.0) for i, found in enumerate(refused)
    ]
    trial = base_trial(study, stage="dev")
    records.add(trial, TrialResult(rows, None, {"score": 0.0}, 0.0))
    base = list(records.find([trial]).values())
    return _unfit_list(study, DevLevels(base, base, 0.1))


@pytest.mark.parametrize(("refused", "how"), [([False] * 4, "none of its 2"), ([True] * 4, "one of its 2")])
def test_a_list_that_decides_nothing_is_named(tmp_path: Path, refused: list[bool], how: str) -> None:
    (tmp_path / "mine.txt").write_text("qqxzq\nno such words\n", encoding="utf-8")
    said = warned(tmp_path, str(tmp_path / "mine.txt"), refused)
    assert said and f"'mine' tells no two answers apart: {how} patterns" in said


def test_a_list_that_tells_answers_apart_or_ships_is_not(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("qqxzq\n", encoding="utf-8")
    assert warned(tmp_path, str(tmp_path / "mine.txt"), [True, False, False, False]) is None
    assert warned(tmp_path, "common", [False] * 4) is None
