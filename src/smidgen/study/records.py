"""Every trial of a study and every prompt's score, in one SQLite file: a trial is there whole, or not at all."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from smidgen.errors import SmidgenError
from smidgen.evaluation.endpoints import degenerate
from smidgen.runs import open_database, uninterrupted
from smidgen.study.decide import ArmScores
from smidgen.study.plan import Trial
from smidgen.study.trial import TrialResult

_SCHEMA = """
CREATE TABLE IF NOT EXISTS trials (
  trial_id TEXT PRIMARY KEY, stage TEXT NOT NULL, arm TEXT NOT NULL, selector TEXT NOT NULL, budget INTEGER NOT NULL,
  seed INTEGER NOT NULL, steps INTEGER NOT NULL, objective TEXT NOT NULL, prompt_set TEXT NOT NULL,
  wall_seconds REAL NOT NULL, metrics TEXT NOT NULL, idxs TEXT NOT NULL, correct TEXT);
CREATE TABLE IF NOT EXISTS scores (
  trial_id TEXT NOT NULL REFERENCES trials, prompt_set TEXT NOT NULL, harmful INTEGER NOT NULL,
  prompt_index INTEGER NOT NULL, prompt TEXT NOT NULL, completion TEXT, refused TEXT NOT NULL,
  refused_anywhere INTEGER NOT NULL, surrogate REAL NOT NULL,
  PRIMARY KEY (trial_id, prompt_set, harmful, prompt_index));
"""


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """A finished trial, as stored."""

    trial_id: str
    arm: str
    selector: str
    budget: int
    seed: int
    metrics: dict[str, float | None]
    wall_seconds: float

    def metric(self, name: str) -> float:
        """A number the trial measured; SmidgenError where it did not."""
        value = self.metrics.get(name)
        if value is None:
            raise SmidgenError(f"trial {self.trial_id} has no {name}; expected a trial that measures it")
        return value


class StudyRecords:
    """The store of one study.

    Raises:
        SmidgenError: The file is damaged, or another kind; here or in any method.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        with self._opened() as connection, connection:
            connection.executescript(_SCHEMA)

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        held, do = "a study's trials", "Bring the file back, or give another folder for the study to start anew."
        with open_database(self.path, held=held, do=do) as connection:
            yield connection

    def add(self, trial: Trial, result: TrialResult) -> None:
        """Write a finished trial with all its scores in one transaction."""
        rows = [
            (
                trial.trial_id,
                s.prompt_set,
                int(s.harmful),
                s.prompt_index,
                s.prompt,
                s.completion,
                json.dumps(dict(s.refused), sort_keys=True),
                int(s.refused_anywhere),
                s.surrogate,
            )
            for s in result.scores
        ]
        head = (
            trial.trial_id,
            trial.stage,
            trial.arm,
            trial.selector,
            len(trial.idxs),
            trial.seed,
            trial.steps,
            trial.objective,
            trial.prompt_set,
            result.wall_seconds,
            json.dumps(result.metrics, sort_keys=True),
            json.dumps(trial.idxs),
            None if result.correct is None else json.dumps(result.correct),
        )
        with uninterrupted(), self._opened() as connection, connection:
            connection.execute("DELETE FROM scores WHERE trial_id = ?", (trial.trial_id,))
            connection.execute(f"INSERT OR REPLACE INTO trials VALUES ({','.join('?' * len(head))})", head)
            connection.executemany("INSERT INTO scores VALUES (?,?,?,?,?,?,?,?,?)", rows)

    def n_trials(self) -> int:
        """How many trials are done."""
        with self._opened() as connection:
            return int(connection.execute("SELECT COUNT(*) FROM trials").fetchone()[0])

    def find(self, trials: Sequence[Trial]) -> dict[str, TrialRecord]:
        """Those of `trials` that are finished, by trial_id."""
        with self._opened() as connection:
            rows = connection.execute(
                "SELECT trial_id, arm, selector, budget, seed, metrics, wall_seconds FROM trials"
            ).fetchall()
        wanted = {trial.trial_id for trial in trials}
        return {row[0]: _record(row) for row in rows if row[0] in wanted}

    def confirmed(self, arm: str, budget: int) -> list[TrialRecord]:
        """Finished confirm trials of one arm at one size, by seed."""
        with self._opened() as connection:
            rows = connection.execute(
                "SELECT trial_id, arm, selector, budget, seed, metrics, wall_seconds FROM trials "
                "WHERE stage = 'confirm' AND arm = ? AND budget = ? ORDER BY seed",
                (arm, budget),
            ).fetchall()
        return [_record(row) for row in rows]

    def surrogate_and_score(self) -> tuple[list[float], list[float]]:
        """Surrogate and generated score of every dev trial that measured both."""
        with self._opened() as connection:
            rows = connection.execute(
                "SELECT metrics FROM trials WHERE prompt_set = 'dev' ORDER BY trial_id"
            ).fetchall()
        both = [json.loads(row[0]) for row in rows]
        both = [m for m in both if m["score"] is not None and m["surrogate_score"] is not None]
        return [m["surrogate_score"] for m in both], [m["score"] for m in both]

    def arm(self, trials: Sequence[Trial | TrialRecord], patterns: str) -> ArmScores:
        """Per-prompt results of finished trials, one a seed, by the refusal list `patterns`."""
        harmful, harmless, correct, bad = [], [], [], []
        with self._opened() as connection:
            for trial in trials:
                rows = connection.execute(
                    "SELECT harmful, refused, completion FROM scores WHERE trial_id = ? "
                    "ORDER BY harmful DESC, prompt_index",
                    (trial.trial_id,),
                ).fetchall()
                harmful.append([json.loads(r[1])[patterns] for r in rows if r[0]])
                harmless.append([json.loads(r[1])[patterns] for r in rows if not r[0]])
                bad.append([degenerate(r[2] or "") for r in rows])
                (found,) = connection.execute(
                    "SELECT correct FROM trials WHERE trial_id = ?", (trial.trial_id,)
                ).fetchone()
                correct.append(None if found is None else json.loads(found))
        measured = np.array(correct, dtype=float) if all(c is not None for c in correct) else None
        return ArmScores(
            np.array(harmful, dtype=float), np.array(harmless, dtype=float), measured, np.array(bad, dtype=float)
        )


def _record(row: tuple[str, str, str, int, int, str, float]) -> TrialRecord:
    trial_id, arm, selector, budget, seed, metrics, wall_seconds = row
    return TrialRecord(trial_id, arm, selector, budget, seed, json.loads(metrics), wall_seconds)
