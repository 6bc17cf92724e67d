"""`smidgen train dpo` and its kin as a user calls them: the reference, weights from the data, going on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from smidgen.cli import main
from smidgen.models.load import load_language_model, save_language_model
from smidgen.training.sft import new_language_model

Run = Callable[..., tuple[int, str]]
ROWS = [
    {"prompt": f"{tree.title()} {what}?", "chosen": f"Take {tree}, it lasts.", "rejected": f"No {tree}."}
    for tree in ("oak", "pine", "elm", "ash")
    for what in ("roof", "boat")
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pairs.jsonl, a tiny model, the same one moved a little, and one of another family."""
    folder = tmp_path_factory.mktemp("preference")
    texts = [" ".join(row.values()) for row in ROWS]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    for seed, name in enumerate(("lm", "moved")):
        lm = new_language_model(texts, shape="nano", vocabulary=300, positions=64, seed=seed)
        save_language_model(lm, folder / name, card="")
    stranger = new_language_model(["quite other words"] * 9, shape="nano", vocabulary=280, positions=64)
    save_language_model(stranger, folder / "stranger", card="")
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(out: str, *argv: object, pairs: Path | None = None, loss: str = "dpo") -> tuple[int, str]:
        given = ("--pairs", pairs or folder / "pairs.jsonl", "--model", folder / "lm", "--out", out)
        fast = ("--steps", 3, "--learning-rate", "1e-3", "--batch-size", 4)
        code = main([str(word) for word in ("train", loss, *given, *fast, *argv)])
        return code, capsys.readouterr().err

    return call


def fingerprint(out: str) -> str:
    return load_language_model(Path(out) / "model").fingerprint


def test_the_reference_is_the_start_unless_another_is_given(run: Run, folder: Path) -> None:
    assert run("plain")[0] == run("same", "--reference", folder / "lm")[0] == 0
    assert run("other", "--reference", folder / "moved")[0] == 0
    assert fingerprint("plain") == fingerprint("same") != fingerprint("other")


def test_a_reference_of_another_family_is_refused(run: Run, folder: Path) -> None:
    code, err = run("refused", "--reference", folder / "stranger")
    assert code == 2
    assert "expected a reference with the policy's tokenizer" in err
    assert "Traceback" not in err


def test_weights_of_the_data_reach_the_loss(run: Run, tmp_path: Path) -> None:
    weighted = tmp_path / "weighted.jsonl"
    weighted.write_text("".join(json.dumps(row | {"weight": 1 + i % 3}) + "\n" for i, row in enumerate(ROWS)))
    half = tmp_path / "half.jsonl"
    half.write_text("".join(json.dumps(row | ({"weight": 1} if i % 2 else {})) + "\n" for i, row in enumerate(ROWS)))
    assert run("plain")[0] == run("weighted", pairs=weighted)[0] == 0
    assert fingerprint("plain") != fingerprint("weighted")
    code, err = run("half", pairs=half)
    assert code == 3
    assert "4 of 8 pairs have none or a negative one (idx 0, 2, 4, 6)" in err
