"""A study of a thousand trials in one store: seconds to write a trial, to read and decide, to report, to show pages.

    python benchmarks/many_trials.py RUN [--trials N] [--json FILE]

RUN is a finished run, such as `smidgen demo` leaves; it is copied, and its search trials are added again under other
seeds until there are enough, with every prompt's scores and completions.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from fastapi.testclient import TestClient
from setting import machine

from smidgen.evaluation.refusal import PromptScore
from smidgen.report.html import write_report
from smidgen.report.pdf import write_pdf
from smidgen.runs import write_json
from smidgen.study.plan import Trial
from smidgen.study.records import StudyRecords
from smidgen.study.trial import TrialResult
from smidgen.training.loop import Recipe
from smidgen.web.app import make_app
from smidgen.web.holding import open_holding

T = TypeVar("T")
RECIPE = Recipe()


def search_trials(store: Path) -> list[tuple[Trial, TrialResult]]:
    """The store's search trials that wrote answers, as they were added."""
    found = []
    with closing(sqlite3.connect(store)) as database:
        database.row_factory = sqlite3.Row
        asked = "SELECT * FROM trials WHERE prompt_set = 'dev' AND arm = 'search' AND correct IS NOT NULL"
        for row in database.execute(asked).fetchall():
            metrics = json.loads(row["metrics"])
            if metrics["score"] is None:
                continue
            scores = database.execute("SELECT * FROM scores WHERE trial_id = ?", (row["trial_id"],)).fetchall()
            trial = Trial(
                stage="search",
                arm="search",
                selector=row["selector"],
                idxs=tuple(json.loads(row["idxs"])),
                objective=row["objective"],
                recipe=RECIPE,
                prompt_set="dev",
            )
            correct = json.loads(row["correct"])
            found.append((trial, TrialResult([_score(score) for score in scores], correct, metrics, 1.0)))
    return found


def _score(row: sqlite3.Row) -> PromptScore:
    values = {name: row[name] for name in ("prompt_set", "prompt_index", "prompt", "completion", "surrogate")}
    return PromptScore(
        harmful=bool(row["harmful"]),
        refused=json.loads(row["refused"]),
        refused_anywhere=bool(row["refused_anywhere"]),
        **values,
    )


def under_new_seeds(own: list[tuple[Trial, TrialResult]], n: int) -> Iterator[tuple[Trial, TrialResult]]:
    for i in range(n):
        trial, result = own[i % len(own)]
        yield replace(trial, seed=1_000_000 + i), result


def timed(call: Callable[[], T]) -> tuple[float, T]:
    started = time.perf_counter()
    result = call()
    return round(time.perf_counter() - started, 4), result


def filled(run: Path, n_trials: int) -> tuple[list[Trial], dict[str, float]]:
    """Add trials until there are `n_trials`: those added, and seconds of the first and the last fifty."""
    records = StudyRecords(run / "study.sqlite")
    added, seconds = [], []
    for trial, result in under_new_seeds(search_trials(records.path), n_trials - records.n_trials()):
        taken, _ = timed(lambda trial=trial, result=result: records.add(trial, result))
        looked, _ = timed(lambda trial=trial: records.find([trial]))
        added.append(trial)
        seconds.append((taken, looked))
    ends = {"first": seconds[:50], "last": seconds[-50:]}
    return added, {
        f"{what}, {end} 50 (median)": round(median(pair[place] for pair in found), 4)
        for end, found in ends.items()
        for place, what in enumerate(("add a trial", "find a trial"))
    }


def read_back(run: Path, trials: list[Trial]) -> dict[str, float]:
    """Seconds of what a study asks its store when it is called again, and when it decides."""
    path = run / "study.sqlite"
    opened, records = timed(lambda: StudyRecords(path))
    found, known = timed(lambda: records.find(trials))
    if len(known) != len(trials):
        raise SystemExit(f"expected {len(trials)} trials in the store, got {len(known)}")
    return {
        "open": opened,
        "find all": found,
        "surrogate and score of all": timed(records.surrogate_and_score)[0],
        "scores of 100 trials by prompt": timed(lambda: records.arm(trials[:100], _patterns(run)))[0],
    }


def _patterns(run: Path) -> str:
    return json.loads((run / "certificate.json").read_text())["patterns"]


def shown(run: Path) -> dict[str, Any]:
    """Seconds and bytes of the report, and of the pages that `smidgen view` serves."""
    found: dict[str, Any] = {}
    found["report.html"], page = timed(lambda: write_report(run))
    found["report.html, bytes"] = page.stat().st_size
    found["report.pdf"], document = timed(lambda: write_pdf(run))
    found["report.pdf, bytes"] = document.path.stat().st_size
    found["open for the pages"], holding = timed(lambda: open_holding(run))
    client = TestClient(make_app(holding), base_url="http://127.0.0.1")
    for name in ("pairs", "frontier"):
        found[f"page {name}"], answer = timed(lambda name=name: client.get(f"/{name}"))
        found[f"page {name}, status and bytes"] = [answer.status_code, len(answer.content)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    options: Namespace = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        run = Path(temporary) / "run"
        shutil.copytree(options.run, run)
        before = shown(run)
        trials, written = filled(run, options.trials)
        print(f"{len(trials)} trials added", file=sys.stderr)
        found = written | {"store, bytes": (run / "study.sqlite").stat().st_size} | read_back(run, trials) | shown(run)
    for name, value in found.items():
        print(f"{name:40} {value!s:>22} {before.get(name, '')!s:>22}")
    if options.json:
        write_json(options.json, {"machine": machine(), "trials": options.trials, "as it was": before, "found": found})


if __name__ == "__main__":
    main()
