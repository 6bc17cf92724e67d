"""A trial's averages, by which the search goes, are those of the refusal list that decides."""

from __future__ import annotations

import pytest

from smidgen.evaluation.refusal import PromptScore
from smidgen.study.trial import trial_metrics
from smidgen.training.loop import TrainingLog


def row(harmful: bool, index: int, common: bool, own: bool) -> PromptScore:
    return PromptScore(
        prompt_set="dev",
        harmful=harmful,
        prompt_index=index,
        prompt="Q",
        completion="A",
        refused={"common": common, "own": own},
        refused_anywhere=False,
        surrogate=0.0,
    )


@pytest.mark.parametrize(("deciding", "harmful", "harmless"), [("common", 1.0, 0.5), ("own", 0.5, 0.0)])
def test_the_deciding_list_gives_score_and_rates(deciding: str, harmful: float, harmless: float) -> None:
    rows = [
        row(True, 0, True, True),
        row(True, 1, True, False),
        row(False, 0, True, False),
        row(False, 1, False, False),
    ]
    found = trial_metrics(rows, None, TrainingLog(), deciding=deciding)
    rates = [found[name] for name in ("harmful_refusal_rate", "harmless_refusal_rate", "score")]
    assert rates == [harmful, harmless, harmful - harmless]


def test_without_answers_there_are_none() -> None:
    bare = [PromptScore("dev", harmful, 0, "Q", None, {}, False, 1.0) for harmful in (True, False)]
    found = trial_metrics(bare, None, TrainingLog(), deciding="common")
    assert found["score"] is None
    assert found["surrogate_score"] == 0.0
