"""With --json, every command prints exactly one JSON object on standard output: its outcome, or why there is none."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.foreground import COMMAND
from tests.report.conftest import build_run

from smidgen.assets import COMPLETION_FLAGS, DEMO
from smidgen.cli import main
from smidgen.errors import InvalidData, SmidgenError, UsageError
from smidgen.evaluation.completions import Completed, Completions
from smidgen.evaluation.completions_files import write_completions_jsonl

Run = Callable[..., tuple[int, Any]]
LEAVES = tuple(json.loads(COMPLETION_FLAGS.read_text(encoding="utf-8"))["commands"])
DATA = "--pairs pairs.jsonl --model {model}"
NUMBERS = "--policy .3,.2 --reference .2,.3"
# How each command is called here; trainings and studies say what they would do.
CALLS = {
    "demo": "--dry-run",
    "prepare": "--pairs pairs.jsonl --out prepared",
    "critique": "--task safety --n 2 --teacher local --model {model} --out made.jsonl --dry-run",
    "score": "--pairs pairs.jsonl --rule refusal --out rewards.jsonl",
    "train sft": f"{DATA} --out out --dry-run",
    "train hindsight": f"{DATA} --out out --dry-run",
    "train kto_unpaired": "--answers answers.jsonl --model {model} --out out --dry-run",
    "train maxmin": f"{DATA} --user truth --out out --dry-run",
    "train ppo": "--prompts harmful.txt --reward refusal --model {model} --out out --dry-run",
    "train reward": f"{DATA} --out out --dry-run",
    "train refined_dpo": "--pairs scored.jsonl --model {model} --out out --dry-run",
    "train odpo": "--pairs scored.jsonl --model {model} --out out --dry-run",
    "generate": "--model {model} --prompts harmful.txt --completions 1 --max-new-tokens 2 --out written",
    "bench": "--model {model} --harmful harmful.txt --harmless harmless.txt --max-new-tokens 2",
    "select": f"{DATA} --selector random --budget 5 --harmful harmful.txt --harmless harmless.txt --out chosen",
    "plan": "",
    "minimize": f"{DATA} --harmful harmful.txt --harmless harmless.txt --sizes 8 --out study --dry-run",
    "compare": "a.jsonl b.jsonl --judge longer --out compared",
    "explain ratings": "--group 1,1,2 --group 2,1,2",
    "explain reward": "--chosen .5 --rejected .8",
    "explain dpo": NUMBERS,
    "explain beta": NUMBERS,
    "explain policy": f"{NUMBERS} --rewards .5,.8",
    "explain objectives": NUMBERS,
    "explain sheet": "sheet.yaml",
    "export": "pairs.jsonl --format trl --out exported",
    "report": "study-run",
    "settings schema": "prepare",
    "completion": "bash",
}
SLOW = ("demo", "report", "explain objectives", "completion")
LOSSES = {leaf: f"{DATA} --out out --dry-run" for leaf in LEAVES if leaf.startswith("train ") and leaf not in CALLS}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a little of all that commands read."""
    folder = tmp_path_factory.mktemp("world")
    lines = (DEMO / "pairs.jsonl").read_text(encoding="utf-8").splitlines()[:40]
    pairs = [json.loads(line) for line in lines]
    (folder / "pairs.jsonl").write_text("\n".join(lines) + "\n")
    for name in ("harmful", "harmless"):
        prompts = (DEMO / f"{name}.txt").read_text(encoding="utf-8").splitlines()[:12]
        (folder / f"{name}.txt").write_text("\n".join(prompts) + "\n")
    jsonl = {
        "scored": [{**pair, "chosen_score": 2, "rejected_score": 1} for pair in pairs],
        "answers": [
            {"prompt": p["prompt"], "completion": p["chosen"], "label": i % 2 == 0} for i, p in enumerate(pairs)
        ],
    }
    for name, rows in jsonl.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, side in (("a", "chosen"), ("b", "rejected")):
        answers = tuple(Completed(pair["prompt"], (pair[side],)) for pair in pairs)
        write_completions_jsonl(folder / f"{name}.jsonl", Completions(model=name, rows=answers))
    (folder / "sheet.yaml").write_text("reward:\n  chosen: 0.5\n  rejected: 0.8\n")
    return folder


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, world: Path) -> Run:
    """Call a command with --json in a copy of the world: its exit code, and the only thing on standard output."""
    folder = tmp_path / "here"
    shutil.copytree(world, folder)
    monkeypatch.chdir(folder)

    def call(command: str, flags: str = "") -> tuple[int, Any]:
        words = f"{command} {flags.format(model=DEMO / 'model')} --json".split()
        code = main(words)
        out = capfd.readouterr().out
        found, end = json.JSONDecoder().raw_decode(out)
        assert out[end:] == "\n", "more than one thing on standard output"
        assert isinstance(found, dict)
        return code, found

    return call


def is_failure(found: dict[str, Any], kind: str, code: int) -> bool:
    """Whether an object has the documented form, and nothing else."""
    assert set(found) == {"error", "exit_code"}
    assert set(found["error"]) == {"kind", "message"}
    assert found["error"]["message"]
    return (found["error"]["kind"], found["exit_code"]) == (kind, code)


def test_every_command_has_its_call_here() -> None:
    assert set(CALLS) | set(LOSSES) | {"view"} == set(LEAVES)


@pytest.mark.parametrize(
    "command",
    [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in CALLS],
)
def test_a_command_that_is_done_prints_its_outcome(run: Run, command: str) -> None:
    if command == "report":
        build_run(Path("study-run"))
    code, found = run(command, CALLS[command])
    assert code in (0, 4), found
    assert "error" not in found


@pytest.mark.slow
@pytest.mark.parametrize("command", LOSSES)
def test_a_loss_that_says_what_it_would_do_prints_its_outcome(run: Run, command: str) -> None:
    code, found = run(command, LOSSES[command])
    assert code == 0, found
    assert found["steps"] > 0


@pytest.mark.parametrize("command", LEAVES)
def test_a_wrong_flag_is_a_failure_of_the_documented_form(run: Run, command: str) -> None:
    code, found = run(command, "--no-such-flag 1")
    assert code == 2
    assert is_failure(found, "usage", code)


@pytest.mark.parametrize("words", ["", "minimise", "train", "train dpoo", "explain", "settings schema nothing"])
def test_what_is_no_command_is_a_failure_too(run: Run, words: str) -> None:
    code, found = run(words)
    assert code == 2
    assert is_failure(found, "usage", code)


@pytest.mark.parametrize(
    ("flags", "kind", "code"),
    [
        ("--config none.yaml", "usage", 2),
        ("--set template", "usage", 2),
        ("--preset none", "usage", 2),
        ("--max-length 2.5", "usage", 2),
        ("--max-bad-fraction 2", "usage", 2),
        ("--pairs a.jsonl", "invalid_data", 3),
    ],
)
def test_each_way_to_fail_has_its_kind(run: Run, flags: str, kind: str, code: int) -> None:
    given, found = run(
        "prepare", f"--pairs pairs.jsonl --out out {flags}" if "--pairs" not in flags else f"{flags} --out o"
    )
    assert given == code
    assert is_failure(found, kind, code)


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (SmidgenError("the worker died"), "failed", 1),
        (UsageError("no such thing"), "usage", 2),
        (InvalidData("all rows are bad"), "invalid_data", 3),
        (KeyboardInterrupt(), "interrupted", 130),
        (OSError(28, "No space left on device"), "failed", 1),
    ],
)
def test_each_error_has_its_kind(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, kind: str, code: int
) -> None:
    def fails() -> None:
        print("chatter of a library")
        raise error

    monkeypatch.setattr("smidgen.cli.prepare.prepare", fails)
    given, found = run("prepare")
    assert given == code
    assert is_failure(found, kind, code)


def test_a_defect_says_so_and_keeps_its_traceback(tmp_path: Path) -> None:
    script = (
        "import sys, smidgen.cli.prepare as module\nfrom smidgen.cli import main\n"
        "def fails():\n    raise ZeroDivisionError('by zero')\n"
        "module.prepare = fails\nsys.exit(main(['prepare', '--json']))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert is_failure(json.loads(done.stdout), "defect", 1)
    assert "Traceback" in done.stderr


@pytest.mark.parametrize("words", ["--help", "prepare --help", "train dpo --help", "--version"])
def test_help_and_version_stay_text(capsys: pytest.CaptureFixture[str], words: str) -> None:
    assert main(words.split()) == 0
    page = capsys.readouterr().out
    assert main([*words.split(), "--json"]) == 0
    assert capsys.readouterr().out == page


def test_a_dry_run_says_what_is_done_already(run: Run) -> None:
    flags = f"{DATA} --first 4 --steps 1 --out out"
    assert run("train dpo", f"{flags} --dry-run")[1]["stored"] is None
    assert run("train dpo", flags)[0] == 0
    assert run("train dpo", f"{flags} --dry-run")[1]["stored"] == "done"


@pytest.mark.slow
def test_pages_end_with_their_outcome(world: Path) -> None:
    command = [*COMMAND, "view", "pairs.jsonl", "--no-browser", "--json"]
    with subprocess.Popen(
        command, cwd=world, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        assert process.stderr is not None
        assert any("token=" in line for line in iter(process.stderr.readline, ""))
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert set(json.loads(out)) == {"address", "run"}
