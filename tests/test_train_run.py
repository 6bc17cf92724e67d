"""What surrounds a training on the command line: checkpoints, held-out pairs, trackers; the page on it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from smidgen.cli import main
from smidgen.models.load import LanguageModel, save_language_model


@pytest.fixture
def arguments(tiny: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    save_language_model(tiny, tmp_path / "model", card="")
    for name in ("pairs", "heldout"):
        rows = [{"prompt": f"Is {name} {i}?", "chosen": f"Yes {i}.", "rejected": f"No {i}."} for i in range(12)]
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["train", "dpo", "--pairs", "pairs.jsonl", "--model", "model", "--steps", "4", "--out", "run"]


def metrics() -> list[dict[str, float]]:
    return [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]


def test_checkpoints_are_gone_when_all_is_done_unless_kept(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--checkpoint-every", "2"]) == 0
    assert "trained on 12 examples: step 4" in capsys.readouterr().out
    assert not Path("run/checkpoints").exists()
    # None of this makes it another work.
    assert main([*arguments, "--checkpoint-every", "1", "--keep-checkpoints", "--shard"]) == 0
    Path("run/DONE").unlink()
    assert main([*arguments, "--checkpoint-every", "1", "--keep-checkpoints"]) == 0
    assert {path.name for path in Path("run/checkpoints").iterdir()} == {"step-3", "step-4"}
    assert "checkpoint_every" not in Path("run/model/README.md").read_text()
    capsys.readouterr()
    for undone in (Path("run/DONE"), Path("run/checkpoints/step-4/complete.json")):
        undone.unlink()
    with pytest.warns(UserWarning, match="step-4 is passed over"):
        assert main([*arguments, "--checkpoint-every", "1", "--keep-checkpoints"]) == 0
    assert "trained on 12 examples, going on after step 3: step 4" in capsys.readouterr().out


def test_a_training_that_fails_keeps_its_checkpoints_and_says_so(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    steep = ["--learning-rate", "1e30", "--warmup-steps", "2", "--checkpoint-every", "1"]
    assert main([*arguments, *steep]) == 1
    said = capsys.readouterr().err
    named = re.search(
        r"at step (\d), on the examples with idx [\d, ]+\. .* checkpoint is run/checkpoints/step-(\d)\.", said
    )
    assert named, said
    assert int(named[2]) == int(named[1]) - 1
    assert Path(f"run/checkpoints/step-{named[2]}/complete.json").exists()


def test_held_out_pairs_are_measured_on_the_way(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("heldout.jsonl").write_text(
        Path("heldout.jsonl").read_text() + '{"prompt": "?", "chosen": "", "rejected": "b"}\n'
    )
    assert main([*arguments, "--heldout", "heldout.jsonl", "--evaluate-every", "2", "--json"]) == 4
    found = json.loads(capsys.readouterr().out)
    assert found["quarantined"] == 1
    assert [row["step"] for row in metrics()] == [2, 4]
    assert main([*arguments, "--heldout", "heldout.jsonl", "--evaluate-every", "2"]) == 4
    measured = metrics()[-1]
    said = f"held out: loss {measured['heldout_loss']:.4f}, accuracy {measured['heldout_accuracy']:.3f}"
    assert said in capsys.readouterr().out
    assert all({"heldout_loss", "heldout_accuracy", "heldout_margin_nats", "loss"} <= set(row) for row in metrics())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--track", "mlflow"], "unknown tracker 'mlflow'; expected one of: tensorboard, trackio, wandb"),
        (["--checkpoint-every", "-1"], "--checkpoint-every"),
        (["--heldout", "heldout.jsonl", "--evaluate-every", "0"], "--evaluate-every"),
    ],
)
def test_wrong_flags_leave_no_folder(
    arguments: list[str], flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, *flags]) == 2
    assert message in capsys.readouterr().err
    assert not Path("run").exists()


def test_an_empty_held_out_file_is_invalid_data(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("heldout.jsonl").write_text("")
    assert main([*arguments, "--heldout", "heldout.jsonl"]) == 3
    assert "heldout.jsonl" in capsys.readouterr().err
