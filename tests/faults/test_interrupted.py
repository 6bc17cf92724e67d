"""Ctrl-C: once, the write under way is finished and the command ends with 130; twice, all ends at once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.faults.left import left_by
from tests.foreground import HEARS, PROGRAM
from tests.synthesis.scripted_teacher import teaching


def started(script: str, *argv: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, argv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit code and its complaints, without the bars that loading weights draws."""
    _, err = process.communicate(timeout=60)
    lines = [
        line for line in err.splitlines() if line and "Loading weights" not in line and "Writing model" not in line
    ]
    return process.returncode, "\n".join(lines)


# Writes a file of ten lines, one a tenth of a second, as the command line's handler is installed.
_WRITES = (
    HEARS
    + """
import time
from pathlib import Path
from smidgen.runs import atomic_folder, atomic_write, held
from smidgen.runs.interrupts import interruptible

with interruptible():
    try:
        with held(sys.argv[1]) as folder, atomic_folder(sys.argv[1] + "/model") as part:
            with atomic_write(part / "weights") as file:
                print("writing", flush=True)
                for i in range(10):
                    file.write(f"{i}\\n"); file.flush(); time.sleep(0.1)
            print("written", flush=True)
        print("not reached", flush=True)
    except KeyboardInterrupt:
        print("smidgen: interrupted", file=sys.stderr)
        sys.exit(130)
"""
)


def test_once_finishes_the_write_under_way(tmp_path: Path) -> None:
    process = started(_WRITES, tmp_path / "run")
    assert process.stdout and process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "written\n"
    assert ended(process) == (130, "smidgen: interrupted")
    assert (tmp_path / "run" / "model" / "weights").read_text().split() == [str(i) for i in range(10)]
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"model"}


def test_twice_stops_at_once(tmp_path: Path) -> None:
    process = started(_WRITES, tmp_path / "run")
    assert process.stdout and process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGINT)
    time.sleep(0.15)
    started_at = time.perf_counter()
    process.send_signal(signal.SIGINT)
    assert ended(process) == (130, "smidgen: stopped at once; run the same command again")
    assert time.perf_counter() - started_at < 0.5
    assert not (tmp_path / "run" / "model").exists()


# A library that takes half a second to load, and swallows what interrupts it meanwhile.
_LOADS = """
import time
print("loading", flush=True)
for _ in range(50):
    try:
        time.sleep(0.01)
    except BaseException:
        print("swallowed", flush=True)
print("loaded", flush=True)
"""
# Loads it from within work that has made something.
_LATE = (
    HEARS
    + """
from pathlib import Path
from smidgen.runs.interrupts import begun, interruptible
sys.path.insert(0, sys.argv[1])

def work():
    made = Path(sys.argv[1], "made")
    made.touch()
    try:
        import library
        while True:
            pass
    finally:
        made.unlink()

with interruptible():
    try:
        begun(work) if sys.argv[2] == "begun" else work()
    except KeyboardInterrupt:
        print("smidgen: interrupted", file=sys.stderr)
        sys.exit(130)
"""
)


@pytest.mark.parametrize(
    ("place", "said", "output", "left"),
    [
        ("begun", "smidgen: interrupted", "loaded\n", []),
        ("before", "smidgen: interrupted before it began; run the same command again", "", ["made"]),
    ],
)
def test_what_is_loaded_late_is_loaded_and_then_all_is_put_away(
    place: str, said: str, output: str, left: list[str], tmp_path: Path
) -> None:
    (tmp_path / "library.py").write_text(_LOADS)
    process = started(_LATE, tmp_path, place)
    assert process.stdout and process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err.strip(), out) == (130, said, output)
    assert [path.name for path in tmp_path.glob("made")] == left


def test_a_program_that_is_itself_being_imported_hears_as_well(tmp_path: Path) -> None:
    """Whatever stands around the command is no import of its own."""
    (tmp_path / "study.py").write_text(
        "from smidgen.runs.interrupts import begun, interruptible\n"
        "def work():\n    print('at work', flush=True)\n    while True: pass\n"
        "with interruptible():\n    begun(work)\n"
    )
    process = started(HEARS + "sys.path.insert(0, sys.argv[1])\nimport study", tmp_path)
    assert process.stdout and process.stdout.readline() == "at work\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT and err.endswith("KeyboardInterrupt\n")


@pytest.mark.slow
def test_a_command_that_loads_more_once_it_has_begun_says_that_it_was_interrupted(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "p", "chosen": "yes", "rejected": "no"}\n')
    shown = """
class Announced:
    def find_spec(self, name, path=None, target=None):
        if name == "smidgen.web.app":
            print("loading", flush=True)
sys.meta_path.insert(0, Announced())
"""
    process = started(PROGRAM.replace("from smidgen", shown + "from smidgen"), "view", tmp_path / "pairs.jsonl")
    assert process.stdout and process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGINT)
    code, said = ended(process)
    # Where so little was left to do that the pages were there before all was loaded, they end as they do.
    last = said.splitlines()[-1]
    assert (code, last) == (130, "smidgen: interrupted; the same command starts again") or (
        code == 0 and "?token=" in last
    )


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--help"], ["prepare"], ["train", "dpo"], ["minimize"]], ids=" ".join)
def test_while_everything_is_still_being_imported(words: list[str], tmp_path: Path) -> None:
    """From the moment that the command line is called, no traceback."""
    script = PROGRAM.replace("sys.exit", "print('up', flush=True); sys.exit")
    draw = random.Random(str(words))
    for _ in range(3):
        process = started(script, *words)
        assert process.stdout and process.stdout.readline() == "up\n"
        time.sleep(draw.uniform(0, 0.6))
        process.send_signal(signal.SIGINT)
        code, said = ended(process)
        # What was done before the signal came says so: a help page, or that flags are missing. On its way out, the
        # interpreter leaves the signal to the system.
        if code == 130:
            assert said.startswith("smidgen: interrupted") and "\n" not in said
        else:
            assert code in (0, 2, -signal.SIGINT) and "Traceback" not in said
    assert not list(tmp_path.iterdir())


def wait_for(process: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
    while not ready():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


@pytest.mark.slow
def test_a_training_that_was_interrupted_says_how_to_go_on_and_does(
    commands: dict[str, list[str]], tmp_path: Path
) -> None:
    def argv(out: str) -> list[str]:
        return [word.replace("{out}", str(tmp_path / out)) for word in commands["train"]]

    for _ in range(2):
        process = started(PROGRAM, *argv("stopped"))
        there = set((tmp_path / "stopped" / "run" / "checkpoints").glob("step-*"))
        wait_for(process, lambda there=there: bool(set(tmp_path.glob("stopped/run/checkpoints/step-*")) - there))
        process.send_signal(signal.SIGINT)
        assert ended(process) == (130, "smidgen: interrupted; run the same command again to resume")
        names = {path.name for path in tmp_path.glob("stopped/run/**/*")}
        assert not {name for name in names if name.endswith(".part") or name == "run.lock"}
    for out in ("stopped", "whole"):
        assert ended(started(PROGRAM, *argv(out)))[0] in (0, 4)
    assert left_by("train", tmp_path / "stopped") == left_by("train", tmp_path / "whole")


@pytest.mark.slow
def test_a_study_with_workers_ends_without_a_word_from_them(commands: dict[str, list[str]], tmp_path: Path) -> None:
    """As from a terminal, which sends the signal to all of them; first while they start, then at their work."""
    words = [word.replace("{out}", str(tmp_path)) for word in commands["minimize"]]
    words[words.index("--workers") + 1] = "2"
    # Workers import the main module again, so it has to be one.
    script = tmp_path / "smidgen_here.py"
    script.write_text(
        f"import signal, sys\nif __name__ == '__main__':\n    {PROGRAM.replace(chr(10), chr(10) + '    ')}\n"
    )
    store = tmp_path / "run" / "study.sqlite"
    for ready in (store.exists, lambda: store.exists() and store.stat().st_size > 50_000):
        process = subprocess.Popen(
            [sys.executable, str(script), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        )
        wait_for(process, ready)
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
        code, said = ended(process)
        assert code == 130
        assert said.splitlines()[-1] == "smidgen: interrupted; run the same command again to resume"
        assert "Traceback" not in said and "KeyboardInterrupt" not in said, said


@pytest.mark.slow
def test_a_critique_ends_in_order(commands: dict[str, list[str]], tmp_path: Path) -> None:
    with teaching() as teacher:
        words = [w.replace("{out}", str(tmp_path)).replace("{teacher}", teacher.url) for w in commands["critique"]]
        process = started(PROGRAM, *words)
        wait_for(process, lambda: len(teacher.asked) > 4)
        process.send_signal(signal.SIGINT)
        assert ended(process) == (130, "smidgen: interrupted; run the same command again to resume")
        assert ended(started(PROGRAM, *words))[0] == 0
    assert json.loads((tmp_path / "run.critique" / "summary.json").read_text())["counts"]["pairs"] > 0
