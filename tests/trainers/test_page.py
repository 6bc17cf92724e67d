"""The page for those who come from TRL names every trainer, and only arguments there are."""

from __future__ import annotations

import re
from pathlib import Path

import smidgen.trainers
from smidgen.trainers.arguments import HONOURED

PAGE = (Path(__file__).parents[2] / "docs" / "from_trl.md").read_text(encoding="utf-8")


def test_the_page_names_every_trainer_and_only_arguments_there_are() -> None:
    table = "\n".join(line for line in PAGE.splitlines() if line.startswith("|"))
    named = set(re.findall(r"`(\w+)`", table))
    assert {name for name in smidgen.trainers.__all__ if name != "Trainer"} <= named
    steps = {name for name in named if name.endswith(("_steps", "_strategy", "_limit"))}
    assert len(steps) > 5
    assert steps | {"report_to"} <= HONOURED
