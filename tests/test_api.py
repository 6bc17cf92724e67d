"""`import smidgen`: quick, complete, the same as the command line; and the page about it runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import smidgen
from smidgen.assets import DEMO
from smidgen.cli import main
from smidgen.errors import InvalidData, UsageError

PAGE = (Path(__file__).parents[1] / "docs" / "python.md").read_text(encoding="utf-8")


def test_every_name_is_there_and_nothing_is_imported_for_it() -> None:
    script = (
        "import sys, smidgen; assert not {'torch', 'datasets', 'numpy', 'pydantic'} & sys.modules.keys(), sys.modules; "
        "assert {*smidgen.__all__} <= {*dir(smidgen)}; smidgen.PreferencePair; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert all(getattr(smidgen, name).__doc__ for name in smidgen.__all__)
    with pytest.raises(AttributeError, match=r"has no attribute 'minimise'; its API: .*minimize"):
        smidgen.minimise  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


def test_the_page_names_every_name() -> None:
    assert all(f"`{name}" in PAGE for name in smidgen.__all__)


def test_pairs_come_from_files_and_from_memory(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{i}", "chosen": "a", "rejected": "b"} for i in range(3)]
    here = smidgen.load_pairs(rows).pairs
    smidgen.write_pairs(here, tmp_path / "pairs.jsonl")
    assert list(smidgen.load_pairs(tmp_path / "pairs.jsonl").pairs) == list(here)
    assert list(smidgen.load_pairs([str(tmp_path / "pairs.jsonl")]).pairs) == list(here)
    for source in ([], [{"a": 1}]):
        with pytest.raises(InvalidData):
            smidgen.load_pairs(source)


def small_data(folder: Path) -> None:
    """What the page's example reads, small."""
    (folder / "my-sft-model").symlink_to(DEMO / "model")
    lines = (DEMO / "pairs.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "pairs.jsonl").write_text("".join(lines[:160]), encoding="utf-8")
    for name in ("harmful", "harmless"):
        prompts = (DEMO / f"{name}.txt").read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / f"{name}.txt").write_text("".join(prompts[:24]), encoding="utf-8")


@pytest.mark.slow
def test_the_page_runs_and_the_command_line_knows_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small_data(tmp_path)
    (script,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert sum(map(bool, script.split("\n"))) <= 12
    names: dict = {}
    start = time.monotonic()
    exec(script, names)
    assert time.monotonic() - start < 300
    certificate = json.loads((tmp_path / "runs" / "mine" / "certificate.json").read_text())
    assert names["certificate"] == certificate
    assert certificate["claim"] in capsys.readouterr().out
    assert (tmp_path / "runs" / "mine" / "report.html").is_file()
    subset = smidgen.load_pairs("runs/mine/subset.csv").pairs
    assert list(smidgen.load_pairs("exported").pairs.idxs) == list(subset.idxs)
    card = (tmp_path / "exported" / "README.md").read_text(encoding="utf-8")
    assert f"| of | {certificate['full_size']} |" in card
    flags = ["--pairs", "pairs.jsonl", "--model", "my-sft-model", "--out", "runs/mine", "--harmful", "harmful.txt"]
    flags += ["--harmless", "harmless.txt", "--recipe.steps", "8", "--recipe.learning-rate", "1e-3"]
    flags += ["--sizes", "32", "--sizes", "16", "--selector", "contrast", "--swap-rounds", "0", "--refine-groups", "0"]
    main(["--json", "minimize", *flags, "--confirm-seeds", "2"])
    out, err = capsys.readouterr()
    assert json.loads(out) == certificate
    assert "is done already" in err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"confirm_seed": 2}, "unknown setting 'confirm_seed'.*Did you mean confirm_seeds"),
        ({"recipe": {"epoch": 1}}, "unknown setting recipe.epoch; expected one of: .*epochs"),
        ({"confirm_seeds": "many"}, "confirm_seeds"),
        ({"confirm_seeds": 1}, "confirm_seeds: .*greater than or equal to 2"),
        ({"watch": print}, "unknown setting 'watch'"),
    ],
)
def test_settings_are_checked_before_anything_is_done(tmp_path: Path, settings: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        smidgen.minimize("pairs.jsonl", model="none", out=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_export_takes_the_commands_settings(tmp_path: Path) -> None:
    smidgen.write_pairs(
        smidgen.load_pairs([{"prompt": "q", "chosen": "a", "rejected": "b"}]).pairs, tmp_path / "p.jsonl"
    )
    found = smidgen.export(tmp_path / "p.jsonl", "trl", out=tmp_path / "out", dry_run=True)
    assert (found["pairs"], found["out"]) == (1, None)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="unknown setting 'licence'; expected one of: dry_run, license"):
        smidgen.export(tmp_path / "p.jsonl", "trl", out=tmp_path / "out", licence="mit")
