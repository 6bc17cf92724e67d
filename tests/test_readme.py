"""What the README counts and lists is what there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from smidgen.cli.app import COMMANDS
from smidgen.selection.selectors import selector
from smidgen.training.losses import loss

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_its_counts_are_those_of_the_registries() -> None:
    assert README.count(f"{len(loss.names())} losses on pairs") >= 1
    assert f"{len(selector.names())} rankings" in README


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "demo"])
def test_it_names_every_command(command: str) -> None:
    assert f"| `smidgen {command}" in README


def test_the_comparison_with_others_is_dated_and_says_what_was_looked_at() -> None:
    part = README.partition("## Beside others")[2].partition("\n## ")[0]
    assert "As of November 2026" in part
    rows = [line for line in part.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 8
    assert all(cell.strip() for row in rows[1:] for cell in row.strip("|").split("|"))
