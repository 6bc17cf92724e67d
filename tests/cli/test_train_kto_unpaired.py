"""`smidgen train kto_unpaired` trains on marked answers, advises on weights, and explains what it cannot read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smidgen.cli import main

ROWS = [
    {"prompt": f"Question {i}?", "completion": f"{'Good' if i % 2 else 'Bad'} answer {i}.", "label": bool(i % 2)}
    for i in range(8)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """answers.jsonl with one bad row, and sft/model, a tiny model."""
    folder = tmp_path_factory.mktemp("unpaired")
    bad = {"prompt": "Question 9?", "completion": "An answer.", "label": "perhaps"}
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*ROWS, bad]))
    (folder / "text.txt").write_text("".join(f"user: {r['prompt']} assistant: {r['completion']}\n" for r in ROWS))
    size = ("--shape", "nano", "--vocabulary", "300", "--steps", "1")
    argv = ["train", "sft", "--text", folder / "text.txt", "--out", folder / "sft", *size]
    assert main([str(word) for word in argv]) == 0
    return folder


def train(folder: Path, out: Path, answers: Path, *more: object) -> int:
    argv = ["train", "kto_unpaired", "--answers", answers, "--model", folder / "sft" / "model", "--out", out]
    return main([str(word) for word in (*argv, "--steps", "1", *more)])


def test_marked_answers_train_a_model(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert train(folder, out, folder / "answers.jsonl", "--beta", "0.5", "--json") == 4
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["loss"] == pytest.approx(0.5, abs=1e-3)
    assert "expected desirable_weight" not in captured.err
    (row,) = map(json.loads, (out / "quarantine.jsonl").read_text().splitlines())
    assert (row["line"], row["reason"]) == (9, "bad_label")
    assert (out / "model" / "model.safetensors").exists()
    assert "beta: 0.5" in (out / "model" / "README.md").read_text()


def test_uneven_labels_are_advised_on(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "uneven.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*ROWS[::2], ROWS[1]]))
    assert train(folder, tmp_path / "run", tmp_path / "uneven.jsonl", "--dry-run") == 0
    assert "take a desirable_weight from 4 to 5.33" in capsys.readouterr().err
    assert train(folder, tmp_path / "run", tmp_path / "uneven.jsonl", "--dry-run", "--desirable-weight", "4.5") == 0
    assert "desirable_weight" not in capsys.readouterr().err


def test_what_cannot_be_read_is_explained(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty, pairs = tmp_path / "empty.jsonl", tmp_path / "pairs.jsonl"
    empty.write_text("")
    pairs.write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}) + "\n")
    for answers, code, complaint in (
        (empty, 3, "at least one record"),
        (pairs, 3, "missing_column"),
        (tmp_path / "nothing.jsonl", 2, "expected a file, a folder"),
    ):
        assert train(folder, tmp_path / "run", answers) == code
        assert complaint in capsys.readouterr().err
    assert train(folder, tmp_path / "run", folder / "answers.jsonl", "--beta", "0") == 2
    assert train(folder, tmp_path / "run", folder / "answers.jsonl", "--batch-size", "1") == 2
    assert "batch_size of at least 2" in capsys.readouterr().err
    assert not (tmp_path / "run" / "model").exists()
