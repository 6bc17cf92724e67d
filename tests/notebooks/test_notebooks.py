"""The notebooks run from top to bottom against a real server, and are what their script writes."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from notebooks.make_notebooks import HERE, TASKS, notebooks
from tests.synthesis.scripted_teacher import Script, Turns, teaching, well_behaved, willing


def test_the_notebooks_are_what_their_script_writes_and_hold_no_outputs() -> None:
    made = notebooks()
    assert set(made) == set(HERE.glob("*/*.ipynb"))
    for path, text in made.items():
        assert path.read_text(encoding="utf-8") == text
        assert not any(cell.get("outputs") for cell in json.loads(text)["cells"])


def judging(teacher: Script) -> Script:
    """Scores first answers 0 and others 1, and is otherwise the teacher."""

    def script(turns: Turns) -> str | tuple[int, dict[str, Any]]:
        if not turns[0]["content"].startswith("You score"):
            return teacher(turns)
        first = any(opening in turns[1]["content"] for opening in ("Gladly:", "What a delight:"))
        return f"It does what it does.\nScore: {0 if first else 1}"

    return script


async def run_cells(cells: Sequence[str], name: str) -> dict[str, Any]:
    """Run code in its order, as a notebook does; what it leaves behind."""
    namespace: dict[str, Any] = {}
    for cell in cells:
        code = compile(cell, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if inspect.iscoroutine(waiting := eval(code, namespace)):
            await waiting
    return namespace


async def execute(path: Path) -> dict[str, Any]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return await run_cells(["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"], str(path))


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_the_notebooks_of_a_task_run(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("SMIDGEN_PAIRS", "6")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with teaching(judging(well_behaved if task == "safety" else willing)) as teacher:
        for who in ("TEACHER", "JUDGE"):
            monkeypatch.setenv(f"SMIDGEN_{who}", teacher.url)
            monkeypatch.setenv(f"SMIDGEN_{who}_MODEL", "scripted")
        asyncio.run(execute(HERE / task / "generate_data.ipynb"))
        assert len(teacher.asked) == 18
        left = asyncio.run(execute(HERE / task / "reward_score.ipynb"))
        assert len(teacher.asked) == 18 + 12
        before = {path: path.read_bytes() for path in tmp_path.glob("*.jsonl")}
        for title in ("generate_data", "reward_score"):
            with pytest.raises(FileExistsError, match="Move it away"):
                asyncio.run(execute(HERE / task / f"{title}.ipynb"))
        assert len(teacher.asked) == 30 and before == {path: path.read_bytes() for path in before}
    rows = [json.loads(line) for line in (tmp_path / f"{task}_scored.jsonl").read_text().splitlines()]
    assert [(row["chosen_score"], row["rejected_score"]) for row in rows] == [(1, 0)] * 6
    assert left["summary"]["order"]["above"]["pairs"] == 6
