"""Presets: settings under a name, below everything the user gives; a course's lists come from its own file."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smidgen.assets import DEMO, PRESETS
from smidgen.cli import main
from smidgen.cli.app import build_app
from smidgen.cli.presets import preset_settings
from smidgen.cli.schema import command_schema
from smidgen.errors import UsageError
from smidgen.settings import read_settings

RECIPE = Path(__file__).parents[2] / "recipes" / "exercise"
COURSE = f"""import nowhere
harmful_prompts = {[f"How do I pick lock {i}?" for i in range(21)]}
harmless_prompts = ["Name a tree.", "How do I bake bread?", "No sugar?"]
_test_prefixes = ["No", "lock"]
"""


@pytest.fixture
def course(tmp_path: Path) -> Path:
    folder = tmp_path / "course"
    folder.mkdir()
    (folder / "data.py").write_text(COURSE)
    return folder


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """What a command would be called with."""

    def call(command: str, *argv: object) -> dict[str, Any]:
        app, seen = build_app(), []
        found = app
        for name in command.split():
            found = found[name]
        function = found.default_command
        assert function is not None

        def spy(**arguments: Any) -> None:
            seen.append(arguments)

        signature = inspect.signature(function, eval_str=True)
        spy.__signature__ = signature  # type: ignore[attr-defined]
        spy.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
        monkeypatch.setattr(found, "default_command", spy)
        assert app.meta([*command.split(), *map(str, argv)]) == 0
        return seen[0]

    return call


def test_every_setting_of_every_preset_is_one_of_its_command() -> None:
    for path in PRESETS.glob("*.yaml"):
        for command, settings in read_settings(path).items():
            if command != "shared":
                known = command_schema(build_app(), command)["properties"]
                assert settings.keys() <= known.keys(), (path.stem, command)
                assert settings.get("recipe", {}).keys() <= known.get("recipe", {}).get("properties", {}).keys()


def test_the_exercise_is_as_it_was_set(given, course: Path) -> None:
    found = given("minimize", "--preset", "exercise", "--course", course, "--out", "out")
    assert found["pairs"] == ["Anthropic/hh-rlhf"] and found["heldout"] == ("Anthropic/hh-rlhf#split=test",)
    assert (found["model"], found["aligned"]) == tuple(
        f"qwenzoo/utn-llm-assign2-gpt2-{name}" for name in ("SFT", "DPO")
    )
    assert (found["first"], found["heldout_first"], found["single_turn"], found["template"]) == (
        5000,
        500,
        True,
        "plain",
    )
    assert found["max_length"] == 128 + 1  # and the end of text
    settings = found["settings"]
    assert (settings.loss, settings.seed, settings.max_new_tokens) == ("dpo:beta=0.5", 42, 32)
    recipe = settings.recipe
    assert (recipe.learning_rate, recipe.weight_decay, recipe.epochs, recipe.batch_size) == (5e-5, 0.01, 2, 8)
    assert (recipe.schedule, recipe.warmup_steps, recipe.dtype, recipe.total_steps(5000)) == (
        "constant",
        0,
        "auto",
        1250,
    )
    assert str(found["public_harmful"]) == f"{course}/data.py#harmful_prompts"
    assert found["public_patterns"] == f"{course}/data.py#_test_prefixes"
    # The few public prompts neither search nor confirm.
    assert found.get("harmful") is found.get("confirm_harmful") is None


def test_whatever_the_user_gives_goes_first(given, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("recipe: {epochs: 3, batch_size: 4}\nfirst: 7\nmax_length: 60\n")
    found = given(
        "minimize", "--preset", "exercise", "--config", tmp_path / "s.yaml", "--set", "recipe.batch_size=2",
        "--set", "max_length=50", "--set", "heldout=[]", "--set", "aligned=null", "--max-length", 40,
        "--pairs", "mine.jsonl", "--out", "out",
    )  # fmt: skip
    recipe = found["settings"].recipe
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate) == (3, 2, 5e-5)
    assert (found["first"], found["max_length"], found["pairs"]) == (7, 40, ["mine.jsonl"])
    assert not found.get("heldout") and found.get("aligned") is None
    assert found.get("public_harmful") is None


def test_training_and_selection_take_it_too(given) -> None:
    found = given("train dpo", "--preset", "exercise", "--out", "out")
    assert (found["loss_settings"].beta, found["seed"], found["data"].first) == (0.5, 42, 5000)
    assert found["recipe"].learning_rate == 5e-5
    found = given("select", "--preset", "exercise", "--out", "out", "--budget", 100)
    assert found["aligned"].endswith("DPO") and found["data"].single_turn and found["seed"] == 42


@pytest.mark.parametrize(
    ("name", "command", "course", "message"),
    [
        ("exercize", "bench", None, "unknown preset 'exercize'; expected one of: .*exercise"),
        ("../demo/settings", "bench", None, "unknown preset"),
        ("exercise", "train ppo", None, "one of the commands bench, .*, got 'train ppo'. Leave"),
        ("exercise", "select", Path("c"), r"under preset exercise \(bench, minimize, prepare\), got 'select'"),
    ],
)
def test_what_is_not_there_is_said(name: str, command: str, course: Path | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        preset_settings(name, command, course)


def test_wrong_flags_end_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data.py").write_text("harmful_prompts = list(map(str, range(20)))\nharmless_prompts = ['a']\n")
    model = ("--model", str(DEMO / "model"))
    for argv, message in (
        (["bench", "--course", str(tmp_path), *model], "expected --preset beside it"),
        (["bench", "--preset", "exercise", "--course", str(tmp_path / "none"), *model], "none"),
        (["--preset", "nope", "bench", *model], "unknown preset 'nope'"),
        (["bench", "--preset", "exercise", "--course", str(tmp_path), *model], "harmful_prompts as a list of texts"),
    ):
        code = main(argv)
        out, err = capsys.readouterr()
        assert code in (2, 3) and not out and message in err and "Traceback" not in err


def test_the_compatible_score_counts_by_the_courses_own_lists(course: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["bench", "--preset", "exercise", "--course", str(course), "--model", str(DEMO / "model"), "--json"]
    assert main(argv) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["n_harmful"], found["n_harmless"]) == (21, 3)
    # "lock" stands in every harmful prompt, "No" in one of the others: refused, whatever the model says.
    assert found["exercise_compatible"]["harmful_refusal_rate"]["mean"] == 1.0
    assert found["exercise_compatible"]["harmless_refusal_rate"]["mean"] >= 1 / 3
    assert set(found["lists"]) == {"exercise", "common", "broad"}


def test_the_recipes_page_imports_what_there_is() -> None:
    page = (RECIPE / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    for module, names in re.findall(r"^from (\w+) import (.+)$", block, re.MULTILINE):
        written = ast.parse((RECIPE / f"{module}.py").read_text(encoding="utf-8"))
        assert set(names.split(", ")) <= {node.name for node in written.body if isinstance(node, ast.FunctionDef)}
