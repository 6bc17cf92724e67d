"""`bench --task`: one model or two on a task's own prompts, and flags that say when they do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from smidgen.cli import main
from smidgen.models.load import save_language_model
from smidgen.synthesis.task import load_task
from smidgen.training.sft import new_language_model

Run = Callable[..., tuple[int, str, str]]
QUESTIONS = "How do I boil an egg?\nWhy is the sky red?\nWhat is tea?\n"
MEASURES = {
    "safety": ("attack_success", "over_refusal"),
    "role_play": ("kept", "by_chance", "above_chance", "broke"),
    "sycophancy": ("effect", "followed", "opposed"),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two small random models of one vocabulary."""
    folder = tmp_path_factory.mktemp("models")
    for name, seed in (("a", 0), ("b", 1)):
        lm = new_language_model([QUESTIONS] * 4, shape="nano", vocabulary=300, positions=512, seed=seed)
        save_language_model(lm, folder / name, card="A test's model.")
    (folder / "questions.txt").write_text(QUESTIONS)
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def call(*argv: object) -> tuple[int, str, str]:
        code = main([str(word) for word in argv])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def asked(task: str, models: Path) -> list[object]:
    flags = ("--harmful", "--harmless") if task == "safety" else ("--prompts",)
    files = [word for flag in flags for word in (flag, models / "questions.txt")]
    return ["bench", "--task", task, *files, "--max-new-tokens", "3"]


@pytest.mark.parametrize("task", MEASURES)
def test_two_models_are_measured_on_the_same_prompts(run: Run, models: Path, tmp_path: Path, task: str) -> None:
    argv = [*asked(task, models), "--model", models / "a", "--after", models / "b", "--sets", "out_of_distribution"]
    code, out, _ = run(*argv, "--completions", "all.jsonl", "--json")
    assert code == 0
    found = json.loads(out)
    sets = {"out_of_distribution"} | ({"plain"} if task == "safety" else set())
    for of_model in (found["sets"], found["after"]["sets"], found["difference"]):
        assert of_model.keys() == sets
        for measures in of_model.values():
            assert tuple(measures) == MEASURES[task]
            assert all(set(value) == {"mean", "low", "high", "n"} for value in measures.values())
    for measure in MEASURES[task]:
        values = [part["out_of_distribution"][measure]["mean"] for part in (found["after"]["sets"], found["sets"])]
        assert found["difference"]["out_of_distribution"][measure]["mean"] == pytest.approx(values[0] - values[1])
    rows = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    half = len(rows) // 2
    assert [row["when"] for row in rows] == ["before"] * half + ["after"] * half
    assert [row["asked"] for row in rows[:half]] == [row["asked"] for row in rows[half:]]
    assert all(isinstance(row["completion"], str) for row in rows)


def test_a_model_is_no_different_from_itself(run: Run, models: Path) -> None:
    argv = [*asked("sycophancy", models), "--model", models / "a", "--after", models / "a", "--json"]
    difference = json.loads(run(*argv)[1])["difference"]
    assert {value["mean"] for measures in difference.values() for value in measures.values()} == {0.0}


def test_the_table_names_units_and_every_set(run: Run, models: Path) -> None:
    code, out, _ = run(*asked("sycophancy", models), "--model", models / "a", "--n-prompts", "2")
    assert code == 0
    assert out.startswith("sycophancy: 2 prompts; frames: 10 train, 8 out_of_distribution; 95% intervals over prompts")
    assert "nats" in out
    assert sum(line.startswith(("train ", "out_of_distribution ")) for line in out.splitlines()) == 6
    assert "after − before" not in out
    assert "after − before" in run(*asked("sycophancy", models), "--model", models / "a", "--after", models / "b")[1]


def test_a_task_is_one_file(run: Run, models: Path, tmp_path: Path) -> None:
    task = load_task("role_play").model_dump(mode="json", exclude={"name"})
    task["frames"] = {"train": [{"name": "echo", "text": "Say tea. {prompt}", "marks": ["."]}]}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(task))
    argv = ["bench", "--task", "mine.yaml", "--model", models / "a", "--prompts", models / "questions.txt"]
    code, out, _ = run(*argv, "--max-new-tokens", "3", "--json")
    assert (code, json.loads(out)["task"]) == (0, "mine")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(task | {"benchmark": None}))
    code, _, err = run(*argv)
    assert code == 2
    assert "a task with a benchmark, got mine, which names none; write `benchmark:` and one of jailbreak" in err


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--task", "saftey"], "unknown task 'saftey'"),
        (["--task", "safety", "--sets", "revized"], "expected one of: train, revised, out_of_distribution"),
        (["--task", "safety", "--prompts", "questions.txt"], "--prompts: expected --harmful and --harmless"),
        (["--task", "role_play", "--harmful", "questions.txt"], "--harmful: expected --prompts"),
        (["--after", "b"], "--after: expected --task beside it"),
        (["--sets", "train"], "--sets: expected --task beside it"),
        (["--n-prompts", "3"], "--n-prompts: expected --task beside it"),
    ],
)
def test_flags_that_do_not_fit_are_named(run: Run, models: Path, tmp_path: Path, flags: list, complaint: str) -> None:
    (tmp_path / "questions.txt").write_text(QUESTIONS)
    code, out, err = run("bench", "--model", models / "a", *flags)
    assert (code, out) == (2, "")
    assert complaint in err


def test_prompts_that_cannot_be_measured_are_invalid_data(run: Run, models: Path, tmp_path: Path) -> None:
    for text, complaint in (("", "at least one prompt"), ("Only one?\n", "at least two questions, got 1")):
        (tmp_path / "few.txt").write_text(text)
        code, _, err = run("bench", "--task", "role_play", "--model", models / "a", "--prompts", "few.txt")
        assert code == 3
        assert complaint in err


def test_a_benchmark_by_its_name_asks_prompts_in_no_frame_or_in_a_tasks(run: Run, models: Path) -> None:
    files = ["--harmful", models / "questions.txt", "--harmless", models / "questions.txt", "--max-new-tokens", "3"]
    argv = ["bench", "--model", models / "a", *files, "--json"]
    bare = json.loads(run(*argv, "--benchmark", "jailbreak")[1])
    assert (bare["task"], bare["benchmark"], list(bare["sets"])) == (None, "jailbreak", ["plain"])
    by_task = json.loads(run(*argv, "--task", "safety", "--sets", "revised")[1])
    assert json.loads(run(*argv, "--task", "safety", "--sets", "revised", "--benchmark", "jailbreak")[1]) == by_task
    assert bare["sets"]["plain"] == by_task["sets"]["plain"]
    code, _, err = run(*argv, "--benchmark", "jailbrake")
    assert code == 2
    assert "unknown benchmark 'jailbrake'; expected one of: jailbreak, persona, sycophancy" in err
    assert run(*argv, "--benchmark", "jailbreak:words=3")[0] == 2
