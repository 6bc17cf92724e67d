"""SIGKILL at random moments of every stage: the same command, called again, ends as if nothing had happened.

SMIDGEN_KILLS says how many kills a stage is put through; a few unless told otherwise.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from tests.faults.left import left_by
from tests.synthesis.scripted_teacher import teaching

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("SMIDGEN_KILLS", "4"))
STAGES = ("prepare", "select", "train", "minimize", "critique")


@pytest.fixture(scope="module")
def soaked(commands: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder of all stages' runs, and what was said of them."""
    folder, seed = tmp_path_factory.mktemp("soak"), random.randrange(10_000)
    with teaching() as teacher:
        stages = {name: [word.replace("{teacher}", teacher.url) for word in commands[name]] for name in STAGES}
        done = subprocess.run(
            [sys.executable, "-m", "tests.faults.soak", str(KILLS), str(seed), str(folder)],
            input=json.dumps(stages),
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            check=False,
        )
    print(f"seed {seed}\n{done.stdout}")
    assert done.returncode == 0, f"seed {seed}: {done.stdout}{done.stderr}"
    return folder, f"seed {seed}"


@pytest.mark.slow
@pytest.mark.timeout(300 + 150 * KILLS)
@pytest.mark.parametrize("stage", STAGES)
def test_killed_again_and_again_is_never_killed(stage: str, soaked: tuple[Path, str]) -> None:
    folder, seed = soaked
    expected = left_by(stage, folder / stage / "whole")
    runs = [path for path in (folder / stage).iterdir() if path.name.isdecimal()]
    assert runs
    for run in runs:
        found = left_by(stage, run)
        for name, value in expected.items():
            assert found[name] == value, f"{seed}, {run}, {name}"
