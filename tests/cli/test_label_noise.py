"""The comparison under label noise: what makes it another run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def call(folder: Path, pairs: str) -> subprocess.CompletedProcess[str]:
    sizes = ("--objectives", "dpo", "--swap", "0", "--seeds", "1", "--steps", "1", "--max-new-tokens", "2")
    (folder / "prompts.txt").write_text("How are you?\nWho are you?\n")
    prompts = [word for name in ("--harmful", "--harmless") for word in (name, str(folder / "prompts.txt"))]
    out = ("--out", str(folder / "noise"), "--pairs", str(folder / pairs))
    argv = ("-m", "benchmarks.label_noise", *out, *prompts, *sizes)
    return subprocess.run([sys.executable, *argv], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_pairs_are_known_by_their_content(tmp_path: Path) -> None:
    row = {"prompt": "Hello?", "chosen": "Hi there.", "rejected": "Go away.", "chosen_score": 5.0}
    (tmp_path / "a.jsonl").write_text(json.dumps(row | {"rejected_score": 1.0}) + "\n")
    assert call(tmp_path, "a.jsonl").returncode == 0
    (tmp_path / "a.jsonl").rename(tmp_path / "b.jsonl")
    assert call(tmp_path, "b.jsonl").returncode == 0
    (tmp_path / "a.jsonl").write_text(json.dumps(row | {"rejected_score": 6.0}) + "\n")
    again = call(tmp_path, "a.jsonl")
    assert again.returncode != 0
    assert "holds a run with other pairs" in again.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="the recipe is a script of bash")
def test_another_accuracy_of_the_judge_has_folders_of_its_own(tmp_path: Path) -> None:
    """The recipe with programs that write down what they are called with."""
    for name in ("python", "smidgen"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\ncase "$1" in *replay.py) sleep 30;; esac\n')
        program.chmod(0o755)
    script = (ROOT / "recipes/label_noise/noise.sh").read_text().replace("seq 60", "seq 0")
    (tmp_path / "noise.sh").write_text(script)
    for accuracy in ("0.8", "0.6"):
        argv = ["bash", str(tmp_path / "noise.sh"), str(tmp_path / "out"), "pairs", "model", "bad", "good", accuracy]
        subprocess.run(argv, env={"BIN": str(tmp_path), "PATH": "/usr/bin:/bin"}, check=True, timeout=60)
    calls = (tmp_path / "calls").read_text().splitlines()
    for command in (" --judge ", "benchmarks.label_noise"):
        first, second = (line.split("--out ")[1].split()[0] for line in calls if command in line)
        assert first != second
