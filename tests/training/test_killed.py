"""A command killed at random moments and called again ends as one that was left alone, bit for bit."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from smidgen.models.load import LanguageModel, save_language_model

KILLED = Path(__file__).with_name("killed.py")
STEPS = 24
MEASURED = {"pairs_per_second", "tokens_per_second", "peak_memory_bytes"}


@pytest.fixture
def arguments(tiny: LanguageModel, tmp_path: Path) -> list[str]:
    save_language_model(tiny, tmp_path / "model", card="")
    rows = [{"prompt": f"Question {i}?", "chosen": "Good " * (1 + i % 3), "rejected": f"Bad {i}."} for i in range(20)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = ["--steps", str(STEPS), "--batch-size", "4", "--learning-rate", "1e-3", "--schedule", "linear"]
    return ["--pairs", str(tmp_path / "pairs.jsonl"), *recipe, "--checkpoint-every", "1"]


def run(script: list[str]) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, *script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(out: Path) -> list[dict[str, float]]:
    found = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in MEASURED} for row in found]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "flags"),
    [
        ("dpo", []),
        ("dpo", ["--lora-rank", "4"]),
        ("dpo", ["--micro-batch-tokens", "60", "--dtype", "float32"]),
        ("sft", ["--gradient-checkpointing"]),
    ],
    ids=["all weights", "adapters", "accumulated gradients", "supervised"],
)
def test_killed_and_called_again_is_never_killed(
    arguments: list[str], tmp_path: Path, command: str, flags: list[str]
) -> None:
    argv = ["train", command, "--model", str(tmp_path / "model"), *arguments, *flags, "--out"]
    run(["-m", "smidgen", *argv, str(tmp_path / "whole")])
    seed = random.randrange(1000)
    said = run([str(KILLED), "5", str(seed), str(tmp_path / "killed"), "--", *argv, str(tmp_path / "killed")])
    assert int(said.split()[-1]) >= 3, f"seed {seed}"
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert weights[0] == weights[1], f"seed {seed}"
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole"), f"seed {seed}"
    assert [row["step"] for row in rows(tmp_path / "whole")] == [10, 20, STEPS]
    assert not (tmp_path / "killed" / "checkpoints").exists()
    left = {path.name for path in (tmp_path / "killed").iterdir()} - {
        path.name for path in (tmp_path / "whole").iterdir()
    }
    assert not {name for name in left if not name.startswith(("reference.sqlite", ".model."))}
