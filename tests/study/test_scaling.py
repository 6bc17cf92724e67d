"""The plan for many workers: every trial in one round, rounds as the study asked for them, bounds that must hold."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from benchmarks.scaling import PLANNED, Row, finished_trials, makespan, plan, rounds
from hypothesis import given
from hypothesis import strategies as st

from smidgen.errors import UsageError

SECONDS = st.lists(st.floats(0.01, 100), min_size=1, max_size=30)


@given(SECONDS, st.integers(1, 40))
def test_a_round_takes_its_longest_trial_or_its_share_at_least(seconds: list[float], workers: int) -> None:
    found = makespan(seconds, workers)
    least = max(max(seconds), sum(seconds) / workers)
    assert least * (1 - 1e-9) <= found <= (4 / 3 * least + max(seconds)) * (1 + 1e-9)
    assert makespan(seconds, 1) == pytest.approx(sum(seconds))
    assert makespan(seconds, len(seconds)) == max(seconds)


@given(st.lists(SECONDS, min_size=1, max_size=6), st.floats(0, 100))
def test_more_workers_never_take_longer_and_never_beat_their_number(waves: list[list[float]], serial: float) -> None:
    table = plan(waves, serial=serial, start=0.0)
    assert [row["workers"] for row in table] == list(PLANNED)
    seconds = [row["seconds"] for row in table]
    assert seconds == sorted(seconds, reverse=True)
    assert all(row["efficiency"] <= 1 + 1e-9 for row in table)
    assert table[-1]["seconds"] == pytest.approx(serial + sum(map(max, waves)))


def row(stage: str, arm: str, budget: int, seed: int, *, generated: bool = True) -> Row:
    return Row(stage, arm, budget, seed, generated, 1.0)


def test_rounds_are_those_that_the_study_asked_for() -> None:
    trials = [
        [row("tune", "full", 99, 0), row("tune", "full", 99, 1)],
        [row("tune", "base", 0, 0)],
        [row("search", "search", size, 0, generated=False) for size in (20, 10) for _ in range(3)],
        [row("search", "search", size, seed) for size in (20, 10) for seed in (1, 2)],
        [row("refine", "search", 20, 1)] * 2,  # a round of swaps
        [row("refine", "search", 20, 1)] * 2,  # the next
        [row("refine", "search", 20, seed) for seed in (3, 4)],  # what they came to, measured
        [row("refine", "search", 13, 1), row("refine", "search", 13, 1), row("refine", "search", 14, 1)],
        [row("refine", "search", 7, 1)],  # two groups dropped together
        [row("refine", "search", 7, seed) for seed in (3, 4)],
        [row("confirm", arm, 9, seed) for arm in ("base", "full") for seed in (100, 101)],
        [row("confirm", "subset", 20, seed) for seed in (100, 101)],
        [row("confirm", "subset", 7, seed) for seed in (100, 101)],
        [row("confirm", arm, 7, seed) for arm in ("best", "random", "sft_on_chosen") for seed in (100, 101)],
        [row("confirm", f"transfer_objective_{arm}", 7, 100) for arm in ("full", "subset")],
        [row("confirm", f"transfer_model_{arm}", 7, 100) for arm in ("full", "subset")],
    ]
    found = rounds([trial for together in trials for trial in together])
    assert [len(wave) for wave in found] == [len(together) for together in trials]


def test_a_store_is_read_in_the_order_trials_ended(tmp_path: Path) -> None:
    from smidgen.study.records import StudyRecords

    StudyRecords(tmp_path / "study.sqlite")
    with sqlite3.connect(tmp_path / "study.sqlite") as connection:
        for name, score in (("b", None), ("a", 0.5)):
            values = (
                name,
                "search",
                "search",
                "",
                5,
                0,
                3,
                "dpo",
                "dev",
                2.0,
                json.dumps({"score": score}),
                "[]",
                None,
            )
            connection.execute(f"INSERT INTO trials VALUES ({','.join('?' * len(values))})", values)
    assert [found.generated for found in finished_trials(tmp_path)] == [False, True]
    with pytest.raises(UsageError, match=r"expected a run with a study\.sqlite"):
        finished_trials(tmp_path / "nowhere")
