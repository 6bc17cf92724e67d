"""main.ipynb and benchmark.ipynb: committed as their cells say, fit to be read, and executed by a real kernel."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
import pytest
from matplotlib.image import imread
from nbclient.exceptions import CellExecutionError
from notebooks.make_executed import CELLS, HERE, as_text, executed
from tests.recipes.test_exercise import hh_rows, write_rows

import smidgen
from notebooks import benchmark_cells, main_cells
from smidgen.assets import DEMO
from smidgen.cli import main

_MOST_BYTES = 400_000
_MACHINE = re.compile(r"(?<![\w.])/(home|root|tmp|work|usr|opt|mnt|Users|var)/|[A-Z]:\\\\|site-packages")


def committed(name: str) -> Any:
    return nbformat.read(HERE / f"{name}.ipynb", as_version=4)


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def printed(notebook: Any) -> str:
    return "".join(output.text for output in outputs(notebook) if output.output_type == "stream")


@pytest.mark.parametrize("name", CELLS)
def test_the_committed_notebook_is_of_the_present_cells_and_ended_well(name: str) -> None:
    found = committed(name)
    nbformat.validate(found)
    assert [cell.source for cell in found.cells] == list(CELLS[name])
    code = [cell for cell in found.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert {output.output_type for output in outputs(found)} <= {"stream", "display_data"}
    assert {output.name for output in outputs(found) if output.output_type == "stream"} == {"stdout"}
    assert "Warning" not in printed(found) and "Traceback" not in printed(found)
    assert (HERE / f"{name}.ipynb").read_text(encoding="utf-8") == as_text(found)


@pytest.mark.parametrize("name", CELLS)
def test_the_committed_notebook_is_small_and_tells_nothing_of_the_machine(name: str) -> None:
    path = HERE / f"{name}.ipynb"
    assert path.stat().st_size < _MOST_BYTES
    found = committed(name)
    assert not _MACHINE.search(printed(found) + "".join(cell.source for cell in found.cells))
    assert not _MACHINE.search(json.dumps([dict(o.data, **{"image/png": ""}) for o in outputs(found) if "data" in o]))


def test_a_machines_path_would_be_seen() -> None:
    for text in ("saved to /home/me/x", "C:\\\\Users", "lib/site-packages/tqdm"):
        assert _MACHINE.search(text), text
    assert not _MACHINE.search("../docs/certificate.md, runs/main/model, and/or /") and _MACHINE.search("(/tmp/x")


@pytest.mark.parametrize("name", CELLS)
def test_pictures_are_light_and_links_lead_somewhere(name: str) -> None:
    found = committed(name)
    pictures = [o.data["image/png"] for o in outputs(found) if o.output_type == "display_data"]
    assert pictures
    for picture in pictures:
        pixels = imread(io.BytesIO(base64.b64decode(picture)), format="png")[..., :3]
        assert pixels[0, 0].min() > 0.9 and pixels.mean() > 0.85
    words = "\n".join(cell.source for cell in found.cells if cell.cell_type == "markdown")
    headings = {line.lstrip("# ").replace(" ", "-") for line in words.splitlines() if line.startswith("#")}
    for target in re.findall(r"\]\(([^)]+)\)", words):
        assert target[1:] in headings if target.startswith("#") else (HERE / target).is_file(), target


# One cell changed: the exercise's models and data, of which stand-ins are here.


def settings_of(cell: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(HERE)
    namespace: dict[str, Any] = {}
    exec(cell, namespace)
    return namespace


def test_the_other_settings_stand_in_the_words_before_the_cell() -> None:
    for cells in (main_cells, benchmark_cells):
        place = cells.CELLS.index(cells.DEMO_SETTINGS)
        assert cells.EXERCISE_SETTINGS in cells.CELLS[place - 1]


@pytest.mark.parametrize(
    ("study", "beta"),
    [
        ({}, 0.1),
        ({"loss": "dpo:beta=0.5"}, 0.5),
        ({"loss": "simpo"}, 0.1),
        ({"loss": "ipo:beta=0.3 + 0.2*nll"}, 0.1),
        ({"loss": "0.5*dpo:beta=0.2 + nll"}, 0.2),
    ],
)
def test_the_cell_that_draws_dpo_runs_for_any_loss(
    study: dict[str, Any], beta: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    (cell,) = (cell for cell in main_cells.CELLS if "np.logaddexp" in cell)
    namespace: dict[str, Any] = {"study": study}
    exec(cell, namespace)
    namespace["plt"].close("all")
    assert namespace["beta"] == beta


def test_with_one_cell_changed_the_study_is_the_exercises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = settings_of(main_cells.EXERCISE_SETTINGS, monkeypatch)["study"]
    assert (found["pairs"], found["model"]) == (["Anthropic/hh-rlhf"], "qwenzoo/utn-llm-assign2-gpt2-SFT")
    splits = {}
    for split, file in (("train", "pairs"), ("test", "heldout")):
        rows = [json.loads(line) for line in (DEMO / f"{file}.jsonl").read_text(encoding="utf-8").splitlines()[:500]]
        splits[split] = str(write_rows(tmp_path / f"{split}.jsonl", hh_rows(rows)))
    here = {"pairs": [splits["train"]], "heldout": [splits["test"]], "model": str(DEMO / "model"), "aligned": None}
    sizes = {"sizes": [64, 32]}  # of 500 pairs there are no 1,250
    planned = smidgen.minimize(out=tmp_path / "run", **{**found, **here, **sizes}, dry_run=True)
    capsys.readouterr()
    flags = ["--preset", "exercise", "--course", str(HERE.parent / "recipes" / "exercise"), "--set", "aligned=null"]
    flags += ["--pairs", splits["train"], "--heldout", splits["test"], "--model", here["model"]]
    flags += ["--set", "sizes=[64, 32]", "--out", str(tmp_path / "run"), "--dry-run", "--json"]
    assert main(["minimize", *flags]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {**planned, "seconds": 0} == {**told, "seconds": 0} and planned["trials"] > 0


def test_the_flags_own_name_is_a_setting_too_but_not_both(tmp_path: Path) -> None:
    pairs, model = DEMO / "pairs.jsonl", DEMO / "model"
    both: dict[str, Any] = {"selector": ["random"], "selectors": ["random"]}
    with pytest.raises(smidgen.UsageError, match="unknown setting 'selector'"):
        smidgen.minimize(pairs, model=model, out=tmp_path / "run", dry_run=True, **both)


# Executed, with settings for a look.


def few_prompts(folder: Path, n: int) -> str:
    """Code that makes dictionaries of prompt files: the first prompts of each of the demo's."""
    names = ("harmful", "harmless", "confirm_harmful", "confirm_harmless")
    for name in names:
        lines = (DEMO / f"{name}.txt").read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / f"{name}.txt").write_text("".join(lines[:n]), encoding="utf-8")
    return repr({name: f"{name}.txt" for name in names})


def with_settings(cells: Sequence[str], demo: str, more: str) -> list[str]:
    return [f"{cell}\n{more}" if cell == demo else cell for cell in cells]


@pytest.fixture(autouse=True)
def _one_thread_in_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.slow
def test_main_runs_and_is_only_read_the_second_time(tmp_path: Path) -> None:
    quick = {
        "first": 160,
        "sizes": [32, 16],
        "selectors": ["contrast", "random"],
        "confirm_seeds": 2,
        "swap_steps": 2,
        "max_new_tokens": 8,
        "workers": 0,
    }
    recipe = {"steps": 6, "learning_rate": 1e-3, "dtype": "float32"}
    course = HERE.parent / "recipes" / "exercise" / "data.py"
    public = {f"public_{kind}": f"{course}#{kind}_prompts" for kind in ("harmful", "harmless")}
    more = f"study |= {quick | public | {'recipe': recipe}!r} | {few_prompts(tmp_path, 24)}"
    cells = with_settings(main_cells.CELLS, main_cells.DEMO_SETTINGS, more)
    first = executed(cells, tmp_path)
    store = (tmp_path / "runs" / "main" / "study.sqlite").read_bytes()
    certificate = json.loads((tmp_path / "runs" / "main" / "certificate.json").read_text(encoding="utf-8"))
    assert certificate["claim"] in " ".join(printed(first).split()) and "compatible" in printed(first)
    assert all(cell.outputs for cell in first.cells[3::2] if cell.source != cells[3])
    again = executed(cells, tmp_path)
    assert (tmp_path / "runs" / "main" / "study.sqlite").read_bytes() == store
    assert printed(again) == printed(first)


@pytest.mark.slow
def test_benchmark_runs_on_the_demo(tmp_path: Path) -> None:
    prompts = few_prompts(tmp_path, 12)
    more = f"prompts = {prompts}\nharmful, harmless = prompts['confirm_harmful'], prompts['confirm_harmless']\n"
    more += "judges['does as asked'] = f'refusal:harmful={harmful}'"
    cells = with_settings(benchmark_cells.CELLS, benchmark_cells.DEMO_SETTINGS, more)
    found = executed([cell.replace("epochs=2", "steps=4") for cell in cells], tmp_path)
    assert "12 harmful and 12 harmless prompts" in printed(found) and "reward model" in printed(found)
    assert {path.name for path in (tmp_path / "runs" / "benchmark").iterdir()} >= {"all", "subset", "reward"}


@pytest.mark.slow
def test_benchmark_runs_on_other_models_by_one_cell(tmp_path: Path) -> None:
    exercise = benchmark_cells.EXERCISE_SETTINGS.replace("../recipes", str(HERE.parent / "recipes"))
    for name in ("SFT", "DPO"):
        exercise = exercise.replace(f"qwenzoo/utn-llm-assign2-gpt2-{name}", str(DEMO / "model"))
    cells = [exercise if cell == benchmark_cells.DEMO_SETTINGS else cell for cell in benchmark_cells.CELLS]
    found = executed(cells, tmp_path)
    assert "21 harmful and 20 harmless prompts" in printed(found)
    assert "SFT and DPO tie on every verdict" in printed(found)


@pytest.mark.slow
def test_a_cell_that_fails_or_warns_is_no_notebook(tmp_path: Path) -> None:
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        executed(("words", "1 / 0"), tmp_path)
    with pytest.raises(ValueError, match="does not warn"):
        executed(("words", "import warnings\nwarnings.warn('hot')"), tmp_path)
    found = executed(("words", "import sys\nprint('out')\nprint('in 3 minutes', file=sys.stderr)"), tmp_path)
    assert printed(found) == "out\n"
