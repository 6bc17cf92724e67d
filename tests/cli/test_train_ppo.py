"""`smidgen train ppo` as a user calls it: what it leaves behind, and what it says when it cannot."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from smidgen.cli import main
from smidgen.cli.trainings.ppo import load_reward
from smidgen.data.templates import load_template
from smidgen.models.load import LanguageModel, load_language_model, save_language_model
from smidgen.models.reward_model import new_reward_model, save_reward_model
from smidgen.pairs import messages_from

Run = Callable[..., tuple[int, str, str]]
GIVEN = {"--model": "sft", "--prompts": "prompts.txt", "--reward": "length:words=3", "--out": "run"}
QUICK = {"--rollout-size": 4, "--batch-size": 2, "--rollout-epochs": 1, "--max-new-tokens": 4, "--steps": 3}


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny: LanguageModel
) -> Run:
    """Run the command on a tiny model and three prompts: exit code, output, complaints."""
    monkeypatch.chdir(tmp_path)
    save_language_model(tiny, "sft", card="")
    Path("prompts.txt").write_text("Bake bread.\nPick a lock.\nName a tree.\n")

    def call(*argv: object) -> tuple[int, str, str]:
        words = [word for flag, value in (GIVEN | QUICK).items() if flag not in argv for word in (flag, value)]
        code = main(["train", "ppo", *map(str, (*words, *argv))])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_model_log_picture_and_answers_are_there(run: Run) -> None:
    code, out, _ = run()
    assert code == 0
    assert "last rollout: reward" in out
    names = {path.name for path in Path("run").iterdir()}
    assert {"model", "metrics.jsonl", "kl.png", "answers", "settings.yaml", "DONE"} <= names
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 3]
    assert rows[0]["kl"] == 0
    assert {"reward", "kl", "kl_coef", "entropy", "clip_fraction", "value_loss", "explained_variance"} <= set(rows[0])
    files = sorted(Path("run/answers").iterdir())
    assert [file.name for file in files] == ["rollout-0000.jsonl", "rollout-0001.jsonl"]
    answers = [json.loads(line) for line in files[0].read_text().splitlines()]
    assert len(answers) == 4
    assert set(answers[0]) == {"prompt", "answer", "reward", "ended"}
    assert load_language_model("run/model").fingerprint != load_language_model("sft").fingerprint
    assert "nothing to do" in run()[1]
    code, out, _ = run("--out", "same", "--json")
    assert json.loads(out)["reward"] == rows[-1]["reward"]
    assert Path("same/model/model.safetensors").read_bytes() == Path("run/model/model.safetensors").read_bytes()


def test_prompts_without_room_for_an_answer_are_left_out_and_counted(run: Run) -> None:
    Path("long.txt").write_text("Bake bread.\n" + "so " * 200 + "\n")
    code, out, _ = run("--prompts", "long.txt")
    assert code == 4
    assert "1 rows left out" in out
    (row,) = map(json.loads, Path("run/quarantine.jsonl").read_text().splitlines())
    assert (row["reason"], row["line"]) == ("over_long", 2)
    Path("long.txt").write_text("so " * 200 + "\n")
    code, _, err = run("--prompts", "long.txt", "--out", "other")
    assert code == 3
    assert "at least one prompt" in err


@pytest.mark.parametrize(
    ("wrong", "code", "message"),
    [
        (("--reward", "kindness"), 2, "keywords, length, refusal"),
        (("--reward", "length:words=0"), 2, "expected words"),
        (("--prompts", "empty.txt"), 3, "at least one prompt"),
        (("--prompts", "nowhere.txt"), 2, "nowhere.txt"),
        (("--clip", "-1"), 2, "expected --clip above 0"),
        (("--batch-size", "5"), 2, "batch_size of at most rollout_size 4"),
        (("--max-new-tokens", "96"), 2, "below the model's 96 positions"),
        (("--kl", "1"), 2, "--kl"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_left(run: Run, wrong: tuple[str, str], code: int, message: str) -> None:
    Path("empty.txt").write_text("")
    found, out, err = run(*wrong)
    assert (found, out) == (code, "")
    assert message in err
    assert not Path("run/run.json").exists()


def test_a_reward_model_scores_and_starts_the_value_head(run: Run) -> None:
    rm = new_reward_model("sft", seed=1)
    save_reward_model(rm, "rm", card="")
    scores, start = load_reward("rm", "plain")
    assert start is not None
    assert start.shape == (128,)
    prompts = [messages_from("Bake bread.", "user")] * 2
    assert (
        scores(prompts, ["Yes.", "No."]).tolist() == rm.score(prompts, ["Yes.", "No."], load_template("plain")).tolist()
    )
    code, _, _ = run("--reward", "rm")
    assert code == 0
    code, _, err = run("--reward", "sft", "--out", "other")
    assert code == 1
    assert "expected a reward model" in err


def test_a_dry_run_writes_nothing(run: Run) -> None:
    code, out, _ = run("--dry-run")
    assert code == 0
    assert "3 steps" in out
    assert not Path("run").exists()
