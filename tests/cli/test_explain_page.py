"""docs/explain.md shows what the commands print, and its files and snippets do what it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from smidgen.cli import main
from smidgen.explain.sheet import sheet

PAGE = (Path(__file__).parents[2] / "docs" / "explain.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"^```\n\$ smidgen (explain [^\n]+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("command", "shown"), SHOWN, ids=[command.split()[1] for command, _ in SHOWN])
def test_outputs_are_printed(
    command: str, shown: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(shlex.split(command)) == 0
    out = capsys.readouterr().out
    place = 0
    for part in filter(None, (part.strip("\n") for part in shown.split("…\n"))):
        assert part in out[place:], part
        place = out.index(part, place)


def test_every_command_is_on_the_page() -> None:
    from smidgen.cli.explain import app

    for name in app:
        assert name.startswith("-") or f"smidgen explain {name}" in PAGE


def test_the_sheet_is_one() -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    sections = yaml.safe_load(text)
    assert sections.pop("title") == "Week 5"
    losses = [one.data["loss"] for one in sheet(sections) if one.name in ("reward", "dpo")]
    assert losses == pytest.approx([0.854355, 0.446287, 1.178655], abs=5e-7)


def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    exec(compile(code, "docs/explain.md", "exec"), {})
    assert capsys.readouterr().out.startswith("0.4462871")
    assert (tmp_path / "dpo_explained" / "explanation.html").exists()
