"""`smidgen train hindsight` leaves a model that says how to ask it, and explains what it cannot do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smidgen.cli import main
from smidgen.data.markers import Markers

ROWS = [{"prompt": f"Question {i}?", "chosen": f"Good answer {i}.", "rejected": f"Bad answer {i}."} for i in range(6)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pairs.jsonl, text.txt and sft/model, a tiny model."""
    folder = tmp_path_factory.mktemp("hindsight")
    long = {"prompt": "Question 9?", "chosen": "word " * 125, "rejected": "Bad " * 125}
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*ROWS, long]))
    (folder / "text.txt").write_text("The oak is a tree, and so is the pine.\n" * 5)
    size = ("--shape", "nano", "--vocabulary", "300", "--steps", "1")
    argv = ["train", "sft", "--pairs", folder / "pairs.jsonl", "--out", folder / "sft", *size]
    assert main([str(word) for word in argv]) == 0
    return folder


def train(folder: Path, out: Path, *more: object) -> int:
    argv = ["train", "hindsight", "--pairs", folder / "pairs.jsonl", "--model", folder / "sft" / "model"]
    return main([str(word) for word in (*argv, "--out", out, "--steps", "1", *more)])


def test_the_model_says_how_to_ask_it(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    # The chains of the long pair do not fit; its answers alone do.
    assert train(folder, out, "--general-text", folder / "text.txt", "--json") == 4
    assert json.loads(capsys.readouterr().out)["quarantined"] == 2
    quarantine = [json.loads(line) for line in (out / "quarantine.jsonl").read_text().splitlines()]
    assert [(row["line"], row["idx"], row["reason"]) for row in quarantine] == [(7, 6, "over_long")] * 2
    assert "its row good_bad has" in quarantine[0]["detail"]
    told = json.loads((out / "model" / "hindsight.json").read_text())
    assert told["good"]["template"] == f"plain:suffix={Markers().good[0]}"
    assert told["bad"]["prompt_suffix"] == f" {Markers().bad[0]}"
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("Question 1?\nQuestion 2?\n")
    lists = ["--harmful", prompts, "--harmless", prompts, "--max-new-tokens", 2, "--template", told["good"]["template"]]
    assert main([str(word) for word in ("bench", "--model", out / "model", *lists)]) == 0
    # Done is done, and what a crash may have kept from being written is written again.
    (out / "model" / "hindsight.json").unlink()
    assert train(folder, out, "--general-text", folder / "text.txt") == 4
    assert (out / "model" / "hindsight.json").exists()


def test_own_markers_take_the_place_of_the_shipped(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    markers = ("--good-marker", "Bien :", "--good-marker", "Bon :", "--bad-marker", "Mal :", "--mask-share", "0")
    assert train(folder, out, *markers) == 4
    told = json.loads((out / "model" / "hindsight.json").read_text())
    assert (told["good"]["marker"], told["bad"]["marker"]) == ("Bien :", "Mal :")
    assert "Bon :" in (out / "settings.yaml").read_text()


@pytest.mark.parametrize(
    ("flags", "code", "complaint"),
    [
        (("--general-weight", "0.1"), 2, "expected --general-text"),
        (("--general-text", "{text}", "--general-weight", "0"), 2, "--general-weight above 0"),
        (("--general-text", "{blank}"), 3, "white space"),
        (("--mask-share", "1"), 2, "--mask-share from 0"),
        (("--good-marker", " "), 2, "good marker"),
        (("--good-marker", "A bad answer:"), 2, "to differ"),
        (("--general-text", "missing.txt"), 2, "missing.txt"),
    ],
)
def test_settings_that_make_no_sense_are_explained(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[str, ...],
    code: int,
    complaint: str,
) -> None:
    blank = tmp_path / "blank.txt"
    blank.write_text(" \n")
    filled = [flag.format(text=folder / "text.txt", blank=blank) for flag in flags]
    assert train(folder, tmp_path / "run", *filled) == code
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "run" / "model").exists()


def test_a_dry_run_leaves_nothing(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(folder, tmp_path / "run", "--dry-run", "--json") == 4
    assert json.loads(capsys.readouterr().out)["examples"] == 4 * 7 - 2
    assert not (tmp_path / "run").exists()
