"""A clock that is set back or forward: no negative durations, nothing taken for the newest that is not."""

from __future__ import annotations

import ast
import datetime
import itertools
import json
import os
import time
from pathlib import Path

import pytest
from tests.faults.left import left_by

import smidgen
from smidgen.cli import main
from smidgen.evaluation import human
from smidgen.evaluation.human import MATCHES, HumanVotes
from smidgen.evaluation.matches import Match, write_matches
from smidgen.models.chat.failures import LONGEST_WAIT_SECONDS, retry_after
from smidgen.training.checkpoints import last_good

PACKAGE = Path(smidgen.__file__).parent
# When a vote was cast, for people to read; when a server says to come back, within bounds.
ALLOWED = {"evaluation/human.py": {"now"}, "models/chat/failures.py": {"time"}}
CLOCKS = {"time", "time_ns", "now", "utcnow", "today", "st_mtime", "st_mtime_ns", "st_ctime", "getmtime", "localtime"}


def clocks(source: str) -> set[str]:
    """Names by which a module looks at the clock on the wall, or at when files were written."""
    found = {node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}
    return found & CLOCKS


def test_nothing_looks_at_the_clock_on_the_wall() -> None:
    found = {str(path.relative_to(PACKAGE)): clocks(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}
    assert {name: used for name, used in found.items() if used} == ALLOWED
    assert clocks("import time\nstart = time.time()\npath.stat().st_mtime") == {"time", "st_mtime"}


def test_a_clock_that_jumps_changes_nothing(
    commands: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def argv(out: str) -> list[str]:
        return [word.replace("{out}", str(tmp_path / out)) for word in commands["train"]]

    assert main(argv("whole")) in (0, 4)
    jumps = itertools.cycle([0.0, 4e9, -1e9, 1.0])
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    assert main(argv("jumped")) in (0, 4)
    assert left_by("train", tmp_path / "jumped") == left_by("train", tmp_path / "whole")
    rows = [json.loads(line) for line in (tmp_path / "jumped" / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(0 < row["pairs_per_second"] < 1e6 and row["tokens_per_second"] > 0 for row in rows)


def test_the_newest_checkpoint_is_that_of_the_last_step_whenever_it_was_written(
    commands: dict[str, list[str]], tmp_path: Path
) -> None:
    argv = [word.replace("{out}", str(tmp_path)) for word in commands["train"]]
    assert main([*argv, "--keep-checkpoints"]) in (0, 4)
    folder = tmp_path / "run" / "checkpoints"
    assert {path.name for path in folder.iterdir()} == {"step-11", "step-12"}
    for number, path in enumerate(sorted(folder.iterdir())):
        for file in (*path.iterdir(), path):
            os.utime(file, (4e9 - number * 1e9, 4e9 - number * 1e9))
    assert last_good(folder) == folder / "step-12"


def test_a_date_to_come_back_at_is_waited_for_within_bounds() -> None:
    date = "Thu, 01 Jan 1970 00:00:30 GMT"
    assert retry_after(date, now=1e10) == 0
    assert retry_after(date, now=-1e10) == LONGEST_WAIT_SECONDS


def test_the_last_vote_is_the_one_that_was_cast_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the time on it."""
    texts = [Match(number=i, letter="A", prompt=f"p{i}", model_a="x", model_b="y", a="a", b="b") for i in (1, 2, 3)]
    write_matches(tmp_path / MATCHES, texts)
    votes = HumanVotes(tmp_path)
    years = iter([2040, 1980, 2001])

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Clock:
            return cls(next(years, 2020), 1, 1, tzinfo=tz)

    monkeypatch.setattr(human, "datetime", Clock)
    last = None
    for _ in texts:
        shown = votes.next("ada")
        assert shown and votes.cast("ada", shown.place, "left")
        last = shown.place
    assert votes.undo("ada")
    again = votes.next("ada")
    assert again and again.place == last
