"""One process at a time is at work in a run's folder; what it leaves when it is killed is nobody's hindrance."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from smidgen.cli import main
from smidgen.errors import SmidgenError, UsageError
from smidgen.runs import LOCK, held, open_run, read_json, sweep, write_json

_HOLDS = """
import sys, time
from smidgen.runs import held
with held(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the folder."""
    with subprocess.Popen([sys.executable, "-c", _HOLDS, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_second_process_is_refused_with_the_firsts_number_until_that_one_dies(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with holder(folder) as first:
        with pytest.raises(SmidgenError, match=rf"process {first.pid} is at work. Wait.*--out"), held(folder):
            pass
        assert names(folder) == {LOCK}
        first.send_signal(signal.SIGKILL)
        first.wait()
    # Its file is still there, and holds nothing any more.
    assert (folder / LOCK).exists()
    with held(folder):
        assert (folder / LOCK).read_text() == f"{os.getpid()}\n"
        (folder / "work").write_text("")
    assert names(folder) == {"work"}


def test_a_folder_that_ends_empty_is_gone(tmp_path: Path) -> None:
    with held(tmp_path / "a" / "run"):
        pass
    assert not (tmp_path / "a" / "run").exists()


COMMANDS = {
    "prepare": ["prepare", "--pairs", "pairs.jsonl", "--out", "run"],
    "train": ["train", "sft", "--pairs", "pairs.jsonl", "--out", "run", "--steps", "1", "--shape", "tiny"],
    "export": ["export", "pairs.jsonl", "--format", "trl", "--out", "run"],
    "critique": [
        *("critique", "--task", "safety", "--n", "1", "--out", "run.jsonl"),
        *("--teacher", "http://127.0.0.1:9/v1", "--model", "m"),
    ],
    "score": ["score", "--pairs", "pairs.jsonl", "--rule", "refusal", "--out", "run.jsonl"],
    "compare": ["compare", "a.jsonl", "b.jsonl", "--judge", "longer", "--out", "run"],
    "explain": ["explain", "reward", "--chosen", ".5", "--rejected", ".8", "--out", "run"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_writes_a_run_is_refused(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    row = {"prompt": "How?", "chosen": "So.", "rejected": "No."}
    Path("pairs.jsonl").write_text(json.dumps(row) + "\n")
    for name in "ab":
        Path(f"{name}.jsonl").write_text(json.dumps({"prompt": "How?", "completions": [f"So {name}."]}) + "\n")
    folder = Path(f"run.{command}" if command in ("critique", "score") else "run")
    with held(folder):
        before = names(folder)
        code = main(COMMANDS[command])
        said = capsys.readouterr().err
        assert code == 1, said
        assert f"expected {folder} for this process alone, got one where process {os.getpid()} is at work" in said
        assert names(folder) == before
        assert not Path("run.jsonl").exists()


def test_what_killed_writers_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    run = open_run(tmp_path / "run", {"command": "x"})
    (run / "checkpoints" / ".step-3.ab_12xyz.part").mkdir(parents=True)
    (run / "checkpoints" / ".step-3.ab_12xyz.part" / "weights").write_text("half")
    (run / ".subset.csv.abcdefgh.part").write_text("half")
    kept = {".hidden", "subset.csv", ".notes.part", "my.part"}
    for name in kept:
        (run / name).write_text("")
    sweep(run)
    assert names(run) == kept | {"run.json", "checkpoints"}
    assert not names(run / "checkpoints")


def test_killed_before_the_folder_was_claimed_is_no_hindrance(tmp_path: Path) -> None:
    """All that stands there is half of run.json under its temporary name."""
    (tmp_path / ".run.json.abcdefgh.part").write_text('{"comm')
    with held(tmp_path):
        open_run(tmp_path, {"command": "x"})
    assert names(tmp_path) == {"run.json"}


@pytest.mark.parametrize(
    ("version", "said"),
    [
        (None, "files have version 0; expected version 1.*Finish it with the smidgen that began it, or.*--out"),
        (2, r"files have version 2; expected version 1.*Update to smidgen 9\.9 or a newer one, or.*--out"),
    ],
)
def test_an_unfinished_run_of_other_files_says_what_to_do_and_is_left_alone(
    tmp_path: Path, version: int | None, said: str
) -> None:
    folder = open_run(tmp_path / "run", {"command": "x"})
    marker = read_json(folder / "run.json")
    assert marker["files_version"] == 1
    other = {"command": "x"} | ({"files_version": version, "smidgen": "9.9"} if version else {})
    write_json(folder / "run.json", other)
    (folder / "study.sqlite").write_text("other form")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UsageError, match=said):
        open_run(folder, {"command": "x"})
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    # What is finished is not gone on with, only read.
    (folder / "DONE").write_text("")
    assert open_run(folder, {"command": "x"}) == folder
