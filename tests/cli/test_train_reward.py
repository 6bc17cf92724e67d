"""`smidgen train reward` as a user calls it: what it writes, what it says, what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from smidgen.cli import main
from smidgen.models.load import save_language_model
from smidgen.models.reward_model import load_reward_model
from smidgen.training.sft import new_language_model

Run = Callable[..., tuple[int, str, str]]
TREES = ["oak", "pine", "elm", "ash", "fir", "yew", "beech", "lime", "larch", "holly", "willow", "alder"]
SUBJECTS = ["roof", "garden", "boat", "street"]
ROWS = [
    {"prompt": f"{tree.title()} {what}?", "chosen": f"Take {tree}, it lasts.", "rejected": f"No {tree}."}
    for tree in TREES
    for what in SUBJECTS
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pairs.jsonl and a tiny causal model."""
    folder = tmp_path_factory.mktemp("reward")
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    texts = [f"{row['prompt']} {row['chosen']} {row['rejected']}" for row in ROWS]
    save_language_model(new_language_model(texts, shape="nano", vocabulary=300, positions=64), folder / "lm", card="")
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def call(*argv: object, pairs: Path | None = None, into: str = "rm") -> tuple[int, str, str]:
        data = ("--pairs", pairs or folder / "pairs.jsonl", "--model", folder / "lm", "--out", into)
        code = main([str(word) for word in ("train", "reward", *data, *argv)])
        out, err = capsys.readouterr()
        return code, out, err

    return call


FAST = ("--steps", 12, "--learning-rate", "1e-3", "--heldout-share", "0.3")


def test_a_reward_model_with_its_accuracy_and_calibration_everywhere(run: Run, tmp_path: Path) -> None:
    code, out, _ = run(*FAST, "--json")
    assert code == 0
    told = json.loads(out)
    assert told["heldout_accuracy"] > 0.9
    assert told["heldout_accuracy_low"] < told["heldout_accuracy"] <= told["heldout_accuracy_high"]
    last = json.loads((tmp_path / "rm" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last.items() <= told.items()
    written = json.loads((tmp_path / "rm" / "heldout.json").read_text())
    assert written["n"] == told["heldout_pairs"] == sum(part["n"] for part in written["bins"])
    card = (tmp_path / "rm" / "model" / "README.md").read_text()
    assert f"Accuracy on {written['n']} held-out pairs: {written['accuracy']['mean']:.3f}" in card
    assert "| said to win |" in card
    assert load_reward_model(tmp_path / "rm" / "model").lm.model.config.num_labels == 1
    code, again, _ = run(*FAST)
    assert code == 0
    assert "nothing to do" in again
    assert f"held-out accuracy {told['heldout_accuracy']:.3f}" in again


def test_pairs_of_one_prompt_are_never_on_both_sides(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("--steps", 1, "--heldout-share", "0.5", "--dry-run", "--json")
    n_training = json.loads(out)["examples"]
    assert code == 0
    assert 10 < n_training < 38
    assert not (tmp_path / "rm").exists()


def test_held_out_pairs_may_be_given_and_need_not_be(run: Run, folder: Path, tmp_path: Path) -> None:
    held = tmp_path / "held.jsonl"
    rows = [{**row, "prompt": f"My neighbour asks what {i} cats eat."} for i, row in enumerate(ROWS[:5])]
    held.write_text("".join(json.dumps(row) + "\n" for row in [*rows, ROWS[0]]))
    code, out, _ = run("--steps", 1, "--heldout", held, "--json")
    assert (code, json.loads(out)["heldout_pairs"]) == (0, 5), "a prompt that is trained on is no held-out one"
    code, out, _ = run("--steps", 1, "--heldout-share", 0, "--json", into="none")
    assert code == 0
    assert "heldout_accuracy" not in json.loads(out)
    assert not (tmp_path / "none" / "heldout.json").exists()


def test_what_is_left_out_is_listed(run: Run, tmp_path: Path) -> None:
    long = {"prompt": "Why?", "chosen": "because " * 60, "rejected": "No."}
    pairs = tmp_path / "long.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in [*ROWS, long]))
    code, out, _ = run("--steps", 1, "--heldout-share", "0.3", pairs=pairs)
    assert code == 4
    assert "1 rows left out" in out
    assert '"over_long"' in (tmp_path / "rm" / "quarantine.jsonl").read_text()


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (("--answer-head", 4), 2, "no --answer-head, got 4"),
        (("--heldout-share", 1.5), 2, "--heldout-share from 0 to below 1, got 1.5"),
        (("--heldout-share", 0.001), 3, "at least one held-out pair"),
        (("--margin-scale", 1), 3, "column chosen_score"),
        (("--centring", -1), 2, "centring of at least 0"),
        (("--lora-rank", 4), 2, "lora_rank 0"),
        (("--max-length", 2), 3, "at least one pair to train on"),
    ],
)
def test_what_can_not_be_is_said_and_leaves_nothing(
    run: Run, tmp_path: Path, argv: tuple[object, ...], code: int, said: str
) -> None:
    found, out, err = run(*argv)
    assert (found, out) == (code, "")
    assert said in err
    assert not (tmp_path / "rm" / "run.json").exists()


def test_an_empty_file_is_explained(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    code, _, err = run(pairs=tmp_path / "empty.jsonl")
    assert code == 3
    assert "empty" in err
