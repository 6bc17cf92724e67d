"""What comes in stays in its place: links and names lead nowhere, terminals obey nothing, files are private."""

from __future__ import annotations

import ast
import json
import os
import re
import stat
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from tests.hostile.readers import OTHER, PAIR
from tests.report.conftest import build_run

import smidgen
from smidgen.cli import main
from smidgen.cli.app import finish
from smidgen.cli.outcome import Outcome
from smidgen.cli.shown import say, shown, warnings_shown
from smidgen.data.export.card import Origin, dataset_card
from smidgen.data.tables import neutralise
from smidgen.errors import UsageError
from smidgen.report.artefacts import read_run
from smidgen.runs import atomic_folder, atomic_write
from smidgen.selection.feature_store import ColumnGroup, FeatureStore
from smidgen.selection.features import WORK
from smidgen.web.material import read_material
from smidgen.web.serve import _leading_to  # pyright: ignore[reportPrivateUsage]

Run = Callable[..., tuple[int, str, str]]
ESCAPES = "\x1b[2J\x1b]0;owned\x07\x9b31m\r\b\u061c\u2028\u202e\u2066\ud800\x7f"
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*argv: object) -> tuple[int, str, str]:
        code = main([str(word) for word in argv])
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.mark.parametrize(
    "name", ["certificate.json", "subset.csv", "study.sqlite", "features.parquet", "settings.yaml"]
)
def test_a_link_out_of_a_runs_folder_is_not_followed(name: str, tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", n_kept=3)
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    for read in (read_run, read_material):
        with pytest.raises(UsageError, match=f"a link {name} that leads to"):
            read(folder)


def test_a_shared_store_of_features_may_stand_elsewhere_for_all_who_look_at_a_run(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", n_kept=2)
    (tmp_path / "shared").mkdir()
    (folder / WORK).symlink_to(tmp_path / "shared")
    assert len(read_run(folder).kept) == len(read_material(folder).kept) == 2


def test_a_link_within_the_folder_is_an_ordinary_file(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", n_kept=3)
    (folder / "subset.csv").rename(folder / "kept.csv")
    (folder / "subset.csv").symlink_to("kept.csv")
    assert len(read_run(folder).kept) == 3


@pytest.mark.parametrize("name", ["certificate.json", "subset.csv", "study.sqlite", "model/config.json"])
def test_a_pipe_in_a_runs_folder_is_not_waited_for(name: str, tmp_path: Path) -> None:
    """Whoever opens a pipe that nobody writes to waits for ever."""
    folder = build_run(tmp_path / "run", n_kept=3)
    (folder / "model").mkdir(exist_ok=True)
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    for read in (read_run, read_material):
        with pytest.raises(UsageError, match=f"got {name}, which is neither a file nor a folder"):
            read(folder)


def test_a_link_deep_in_a_runs_folder_is_not_followed_either(run: Run, tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text(f"{json.dumps(PAIR)}\n{json.dumps(OTHER)}\n")
    (tmp_path / "made" / "checkpoints").mkdir(parents=True)
    (tmp_path / "made" / "checkpoints" / "step-1").symlink_to(tmp_path)
    code, _, err = run("prepare", "--pairs", "pairs.jsonl", "--out", "made")
    assert code == 2 and "a link checkpoints/step-1 that leads to" in err


def test_what_stands_hidden_beside_a_run_is_not_its_own(tmp_path: Path) -> None:
    """A virtual environment's python is a link out of wherever it stands."""
    folder = build_run(tmp_path / "run", n_kept=2)
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").symlink_to(sys.executable)
    assert len(read_run(folder).kept) == len(read_material(folder).kept) == 2


@pytest.mark.parametrize("unseen", [".hidden", WORK])
def test_no_link_leads_through_what_is_not_looked_at(unseen: str, tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", n_kept=2)
    (folder / unseen).mkdir()
    (folder / unseen / "config.json").symlink_to(tmp_path / "secret.json")
    (folder / "other").symlink_to(unseen)
    for read in (read_run, read_material):
        with pytest.raises(UsageError, match="a link other that leads to"):
            read(folder)


def test_a_command_writes_nothing_through_a_link(run: Run, tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text(f"{json.dumps(PAIR)}\n{json.dumps(OTHER)}\n")
    (tmp_path / "precious").write_text("keep me")
    assert run("prepare", "--pairs", "pairs.jsonl", "--out", "made")[0] == 0
    (tmp_path / "made" / "settings.yaml").unlink()
    (tmp_path / "made" / "settings.yaml").symlink_to(tmp_path / "precious")
    code, _, err = run("prepare", "--pairs", "pairs.jsonl", "--out", "made")
    assert code == 2 and "a link settings.yaml" in err
    assert (tmp_path / "precious").read_text() == "keep me"


def test_features_are_written_through_no_link(tmp_path: Path) -> None:
    """Whoever hands on a folder knows how a column's file will be called."""
    columns = {"_n": np.arange(3)}
    group = ColumnGroup(
        name="g", columns=("_n",), decides=dict, prepare=lambda _: lambda rows: {"_n": columns["_n"][rows]}
    )
    work, precious = tmp_path / "work", tmp_path / "precious.npy"

    def measured() -> np.ndarray:
        return FeatureStore(work, [group], n_rows=3, pairs="x").read("_n")

    assert measured().tolist() == [0, 1, 2]
    (folder,) = work.iterdir()
    np.save(precious, np.arange(10, 13))
    (folder / "filled.json").unlink()
    (folder / "_n.npy").unlink()
    (folder / "_n.npy").symlink_to(precious)
    with pytest.raises(UsageError, match=r"a link g-\w+/_n\.npy that leads to"):
        measured()
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=r"a link g-.* that leads to"):
        measured()
    assert np.load(precious).tolist() == [10, 11, 12]


def test_writing_replaces_a_link_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("keep me")
    (tmp_path / "x").symlink_to(tmp_path / "precious")
    with atomic_write(tmp_path / "x") as file:
        file.write("new")
    assert (tmp_path / "precious").read_text() == "keep me" and not (tmp_path / "x").is_symlink()


@pytest.mark.parametrize("name", ["../up", "a/../../up", "/tmp/up", "..", "con\0"])
def test_no_name_of_a_preset_task_or_pattern_list_leads_to_a_file_of_the_program(name: str, run: Run) -> None:
    for flags in (["--preset", name], ["--task", name], ["--patterns", name]):
        code, out, err = run("bench", "--model", "m", "--harmful", "h", *flags)
        assert code == 2 and not out and "Traceback" not in err


@pytest.mark.parametrize(
    "argv",
    [
        ["prepare", "--pairs", f"no{ESCAPES[:20]}.jsonl", "--out", "o"],
        [f"x{ESCAPES[:9]}"],
        ["prepare", "--pairs", "pairs.csv", "--out", "o"],
        ["prepare", "--pairs", "pairs.jsonl", "--out", "o"],
        ["select", "--set", f"a{ESCAPES[:9]}", "--out", "o"],
        ["train", "dpo", "--config", "settings.yaml", "--out", "o"],
    ],
)
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_no_error_moves_the_terminal(argv: list[str], more: list[str], run: Run, tmp_path: Path) -> None:
    name = ESCAPES.replace("\ud800", "").replace("\r", "")
    (tmp_path / "pairs.csv").write_text(f"{name},b\n1,2\n", encoding="utf-8")
    (tmp_path / "pairs.jsonl").write_text("\n".join(json.dumps({ESCAPES: ESCAPES}) for _ in range(3)))
    (tmp_path / "settings.yaml").write_text(f'"{json.dumps(name)[1:-1]}": 1\n', encoding="utf-8")
    code, out, err = run(*argv, *more)
    assert code in (1, 2, 3) and err
    assert not _OBEYED.search(out + err)


def test_what_is_printed_moves_no_terminal_and_json_means_what_it_meant(capsys: pytest.CaptureFixture[str]) -> None:
    data = {ESCAPES: [ESCAPES, "🧨 ünï\n\t"]}
    finish(Outcome(data, ""), as_json=True)
    out = capsys.readouterr().out
    assert json.loads(out) == data and not _OBEYED.search(out) and "🧨" in out
    finish(Outcome(data, f"a {ESCAPES}"), as_json=False)
    assert not _OBEYED.search(capsys.readouterr().out)
    assert shown("שלום 日本 👩‍👩‍👧 é\n") == "שלום 日本 👩‍👩‍👧 é\n"


def test_all_that_is_said_on_the_way_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"the pages of {ESCAPES}")
    with warnings_shown(), warnings.catch_warnings(action="default"):
        sys.stderr.write(warnings.formatwarning(UserWarning(f"{ESCAPES} is passed over"), UserWarning, ESCAPES, 1))
    said = capsys.readouterr().err
    assert "is passed over" in said and not _OBEYED.search(said)


# The first two print what is shown, the third its own help; the last, before anything is imported.
_PRINT = {"cli/shown.py", "cli/ending.py", "cli/help.py", "cli/__init__.py"}
_PACKAGE = Path(smidgen.__file__).parent


def _prints(source: str) -> bool:
    """Whether a module writes to its process's output by itself."""
    calls = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    written = {"print", "sys.stderr.write", "sys.stdout.write", "console.print"}
    return any(ast.unparse(function) in written for function in calls)


def test_nothing_prints_but_what_shows() -> None:
    found = {p.relative_to(_PACKAGE).as_posix() for p in _PACKAGE.rglob("*.py") if _prints(p.read_text("utf-8"))}
    assert found == _PRINT and not _prints("'print(1)'") and _prints("def f():\n    print(1)")


_FORMULAS = ("=1+1", "+1+cmd|' /C calc'!A0", "-1+1", "@SUM(1)", "\t=1", "\r=1", "\n=1", "＝1", "＋1", "－1", "＠1")


@pytest.mark.parametrize("text", _FORMULAS)
def test_no_cell_starts_a_formula(text: str) -> None:
    assert neutralise(text) == f"'{text}"


@pytest.mark.parametrize(
    "text",
    [
        "---\nlicense: mit\n---",
        "<script>alert(1)</script>",
        "a | b",
        "`x`",
        "![x](http://x)",
        "a\n# heading",
        ESCAPES[:-2],
    ],
)
def test_a_datasets_card_is_its_own_text_whatever_the_names(text: str) -> None:
    import pyarrow as pa

    origin = Origin(sources=[text], how=text, facts={text: text}, limits=[text])
    schema = pa.table({"prompt": ["a"]}).schema
    card = dataset_card(
        text,
        origin,
        schema,
        n_pairs=1,
        table_bytes=1,
        file_bytes=1,
        path="x.jsonl",
        usage="Use it.\n",
        remarks=[text],
    )
    head, body = card.removeprefix("---\n").split("\n---\n", 1)
    assert yaml.safe_load(head)["pretty_name"] == text
    # A code span shows everything as it is; outside of one nothing may be markup.
    bare = re.sub(r"`[^`\n]*`", "", body)
    assert "<script" not in bare and not re.search(r"(?<!\\)[!]?(?<!\\)\[x\]", bare)
    assert [line for line in body.splitlines() if line.startswith("# ")] == body.splitlines()[:1]


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_files_are_for_others_to_read_only_where_the_user_lets_them(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        with atomic_write(tmp_path / "x") as file:
            assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077 & umask == 0
            file.write("x")
        with atomic_folder(tmp_path / "folder") as part:
            assert stat.S_IMODE(part.stat().st_mode) & 0o022 == 0
            (part / "y").write_text("y")
    finally:
        os.umask(before)
    for path in (tmp_path / "x", tmp_path / "folder", tmp_path / "folder" / "y"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & umask == 0 and mode & 0o022 == 0, f"{path.name} {mode:o}"


def test_the_page_that_holds_the_token_is_the_users_alone() -> None:
    with _leading_to("http://127.0.0.1:1/?token=x") as page:
        assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert not page.exists()


@pytest.mark.slow
def test_nothing_stays_in_the_folder_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = build_run(tmp_path / "run", n_kept=3)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    assert main(["report", str(folder)]) == 0
    assert list(scratch.iterdir()) == []
