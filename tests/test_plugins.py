"""Plugins: a file outside the package, once named, stands beside what ships, in every process; a bad one says why."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from smidgen import plugins
from smidgen.cli import main
from smidgen.cli.train import app as train_app
from smidgen.errors import UsageError
from smidgen.evaluation.judges.base import judge, load_judge
from smidgen.evaluation.matches import Match
from smidgen.plugins import load_plugins, loaded_plugins
from smidgen.training.losses import loss

JUDGE = '''"""A judge that counts exclamation marks."""
from __future__ import annotations
from dataclasses import dataclass
from smidgen.evaluation.judges.base import Judge, judge
from smidgen.evaluation.judges.rules import text_judge

@dataclass(frozen=True)
class Mark:
    sign: str

@judge
def {name}(*, sign: str = "!") -> Judge:
    """The answer with more of a sign wins.

    Args:
        sign: What is counted.
    """
    return text_judge("{name}", lambda text: float(text.count(Mark(sign).sign)))
'''
MATCH = Match(number=1, letter="A", prompt="", model_a="m", model_b="n", a="Yes!", b="Yes.")
Write = Callable[..., Path]


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a plugin; what it registers is gone after the test."""
    monkeypatch.setattr(plugins, "_loaded", {})
    before = dict(judge._functions)

    def write(name: str = "louder", text: str = JUDGE) -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(text.replace("{name}", name), encoding="utf-8")
        return path

    yield write
    judge._functions.clear()
    judge._functions.update(before)


def test_what_a_plugin_decorates_is_known_by_name(plugin: Write) -> None:
    with pytest.raises(UsageError, match="unknown judge 'louder'"):
        load_judge("louder")
    load_plugins([plugin()])
    assert load_judge("louder")([MATCH])[0].outcome == 1.0
    assert load_judge("louder:sign=.")([MATCH])[0].outcome == 0.0


def test_a_plugin_runs_once_however_it_is_named(plugin: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = plugin()
    load_plugins([path, path])
    monkeypatch.chdir(path.parent)
    load_plugins(["louder.py"])
    assert loaded_plugins() == (str(path.resolve()),)


def judged_elsewhere(paths: tuple[str, ...]) -> float | None:
    load_plugins(paths)
    return load_judge("louder")([MATCH])[0].outcome


@pytest.mark.slow
def test_another_process_knows_it_too(plugin: Write) -> None:
    load_plugins([plugin()])
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(judged_elsewhere, loaded_plugins()).result() == 1.0


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("broken", "x = 1\ny = x / 0\n", r"ZeroDivisionError in .*broken\.py, line 2"),
        ("unclear", "def (:\n", "SyntaxError"),
        ("longer", JUDGE, "a judge named longer is registered already"),
        ("missing", "import no_such_module\n", "no_such_module"),
        ("script", "import sys\nsys.exit(0)\n", r"SystemExit in .*script\.py, line 2"),
    ],
)
def test_a_plugin_that_does_not_run_says_where_and_why(plugin: Write, name: str, text: str, said: str) -> None:
    path = plugin(name, text)
    with pytest.raises(UsageError, match=said):
        load_plugins([path])
    assert not loaded_plugins()


def test_a_mended_plugin_is_taken_by_the_process_that_refused_it(plugin: Write) -> None:
    path = plugin("half", JUDGE + "\ny = 1 / 0\n")
    with pytest.raises(UsageError, match="ZeroDivisionError"):
        load_plugins([path])
    with pytest.raises(UsageError, match="unknown judge 'half'"):
        load_judge("half")
    load_plugins([plugin("half")])
    assert load_judge("half")([MATCH])[0].outcome == 1.0


@pytest.mark.parametrize("name", ["absent.py", "folder.py", "notes.txt"])
def test_what_is_no_python_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UsageError, match="a Python file"):
        load_plugins([tmp_path / name])


def test_on_the_command_line_it_is_in_the_schema(plugin: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings", "schema", "judge", "--plugin", str(plugin())]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["louder"]["properties"]["sign"]["description"] == "What is counted."
    assert {"longer", "chat"} <= found.keys()


LOSS = """from smidgen.training.losses import log_ratio_difference, loss

@loss
def {name}(logps, *, slope: float = 1.0):
    \"\"\"Minus the log-ratio difference, times a slope.\"\"\"
    return -slope * log_ratio_difference(logps)
"""


def test_a_loss_is_a_command_however_late_it_comes(
    plugin: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "_functions", dict(loss._functions))
    argv = ["train", "linear_pull", "--help"]
    assert main(argv) == 2
    path = str(plugin("linear_pull", LOSS))
    for given in (["--plugin", path], [f"--plugin={path}"]):
        assert main([*argv, *given]) == 0
        assert "--slope FLOAT" in capsys.readouterr().out
    del train_app["linear_pull"]


def test_a_changed_plugin_is_other_work(plugin: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        row = {"number": 1, "model": name, "label": "A", "prompt": "Hi", "completions": ["Yes!", "Yes.", "No"]}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    path = plugin()
    files = [str(tmp_path / f"{name}.jsonl") for name in ("a", "b")]
    argv = ["compare", *files, "--judge", "louder", "--plugin", str(path), "--out", str(tmp_path / "run")]
    assert main(argv) == 0, capsys.readouterr().err
    path.write_text(path.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    assert main(argv) == 2
    assert "run" in capsys.readouterr().err


def test_plugins_of_one_name_count_both(plugin: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for n, place in enumerate(("one", "other")):
        (tmp_path / place).mkdir()
        (tmp_path / place / "mine.py").write_text(JUDGE.replace("{name}", f"louder{n}"), encoding="utf-8")
    row = {"prompt": "How?", "chosen": "So.", "rejected": "No."}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    files = [tmp_path / place / "mine.py" for place in ("one", "other")]
    argv = ["prepare", "--pairs", str(tmp_path / "pairs.jsonl"), "--out", str(tmp_path / "run")]
    argv += [word for file in files for word in ("--plugin", str(file))]
    assert main(argv) == 0, capsys.readouterr().err
    for file in files:
        with file.open("a", encoding="utf-8") as stream:
            stream.write("# changed\n")
        assert main(argv) == 2
        assert "other plugins" in capsys.readouterr().err
        file.write_text(file.read_text(encoding="utf-8").removesuffix("# changed\n"), encoding="utf-8")
    assert main(argv) == 0
