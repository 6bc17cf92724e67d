"""The page for those who come from TRL: its script runs, and it names every trainer."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import smidgen.trainers
from smidgen.models.load import LanguageModel, load_language_model, save_language_model
from smidgen.trainers.arguments import HONOURED

PAGE = (Path(__file__).parents[2] / "docs" / "from_trl.md").read_text(encoding="utf-8")


def test_the_script_on_the_page_runs(tiny: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    # transformers takes a machine without a GPU only where it is told to.
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    save_language_model(tiny, tmp_path / "my-sft-model", card="")
    rows = [{"prompt": f"Is {i} a tree?", "chosen": f" No, {i}.", "rejected": " Yes."} for i in range(4)]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 1
    exec(blocks[0], {})
    assert load_language_model("out").fingerprint != tiny.fingerprint


def test_the_page_names_every_trainer_and_only_arguments_there_are() -> None:
    table = "\n".join(line for line in PAGE.splitlines() if line.startswith("|"))
    named = set(re.findall(r"`(\w+)`", table))
    assert {name for name in smidgen.trainers.__all__ if name != "Trainer"} <= named
    steps = {name for name in named if name.endswith(("_steps", "_strategy", "_limit"))}
    assert len(steps) > 5
    assert steps | {"report_to"} <= HONOURED
