"""docs/explain.md has every command; that it prints what the page shows is tested with all other pages."""

from __future__ import annotations

from pathlib import Path

from smidgen.cli.explain import app

PAGE = (Path(__file__).parents[2] / "docs" / "explain.md").read_text(encoding="utf-8")


def test_every_command_is_on_the_page() -> None:
    for name in app:
        assert name.startswith("-") or f"smidgen explain {name}" in PAGE
