"""A run as a notebook: it executes where it lies, its outputs are those of its cells, and hostile text is inert."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import pytest

from smidgen.errors import UsageError
from smidgen.report.notebook import CELLS, write_notebook


def cells(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


@pytest.fixture
def run(make_run: Callable[..., Path]) -> Path:
    return make_run(hostile=True)


def test_it_is_a_notebook_of_words_and_code_in_turn(run: Path) -> None:
    path = write_notebook(run)
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert path.name == "main.ipynb" and path.parent == run
    assert len({cell["id"] for cell in notebook["cells"]}) == len(CELLS)
    for position, cell in enumerate(notebook["cells"]):
        wanted = {"cell_type", "id", "metadata", "source"}
        assert set(cell) == wanted | ({"execution_count", "outputs"} if position % 2 else set())
        assert "".join(cell["source"]) == CELLS[position]


def test_its_outputs_are_what_its_cells_print_where_it_lies(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = cells(write_notebook(run))
    monkeypatch.chdir(run)
    monkeypatch.setattr(plt, "show", lambda: None)
    namespace: dict[str, Any] = {}
    for cell in found[1::2]:
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec("".join(cell["source"]), namespace)
        texts = ["".join(o["text"]) for o in cell["outputs"] if o["output_type"] == "stream"]
        assert "".join(texts) == printed.getvalue() and printed.getvalue()
    plt.close("all")
    claim = json.loads((run / "certificate.json").read_text(encoding="utf-8"))["claim"]
    assert claim in "".join(found[1]["outputs"][0]["text"])
    (picture,) = [o for cell in found[1::2] for o in cell["outputs"] if o["output_type"] == "display_data"]
    assert base64.b64decode(picture["data"]["image/png"]).startswith(b"\x89PNG")


def test_hostile_text_is_nothing_but_text(run: Path) -> None:
    subset = (run / "subset.csv").read_text(encoding="utf-8")
    assert "<script>" in subset
    path = write_notebook(run)
    raw = path.read_bytes()
    assert raw.isascii() and b"\x1b" not in raw
    for cell in cells(path):
        assert "<script>" not in "".join(cell["source"])
        for output in cell.get("outputs", []):
            assert output["output_type"] == "stream" or set(output["data"]) == {"image/png", "text/plain"}
            assert not any(ord(c) < 32 and c != "\n" for c in "".join(output.get("text", [])))


def test_the_public_scores_stand_in_it_where_there_are_any(run: Path) -> None:
    def shown() -> str:
        return "".join(o["text"][i] for c in cells(write_notebook(run))[1::2] for o in c["outputs"] if "text" in o
                       for i in range(len(o["text"])))  # fmt: skip

    assert "no public prompts" in shown()
    interval = {"mean": 0.25, "low": -0.1, "high": 0.6}
    counted = {"score": {"mean": 0.381}, "divided_by_20": {"score": 0.4}}
    longer = {"score": {"mean": 0.5}}
    models = {"base": {"exercise_compatible": counted, "score": interval}}
    models["other"] = {"exercise_compatible": longer, "score": interval}
    (run / "public.json").write_text(json.dumps({"models": models, "leaks": []}))
    assert "base            +0.400      +0.381   +0.250 [-0.100, +0.600]" in shown()
    assert "other                -      +0.500" in shown()


def test_equal_artefacts_give_equal_bytes_and_the_backend_stays(run: Path) -> None:
    before = matplotlib.get_backend()
    first = write_notebook(run).read_bytes()
    assert write_notebook(run).read_bytes() == first
    assert matplotlib.get_backend() == before and not plt.get_fignums()


def test_where_no_run_is_there_is_no_notebook(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="finished run"):
        write_notebook(tmp_path)
    assert not list(tmp_path.iterdir())
