"""The log's rows, checkpoints, trackers and measurements come as the arguments ask, and a stopped training goes on."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Unpack

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import TrainingArguments

from smidgen.errors import UsageError
from smidgen.models.load import load_language_model
from smidgen.trainers import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, Trainer
from smidgen.training.loop import Around, TrainingLog
from smidgen.training.trackers import tracker

Quiet = Callable[..., dict[str, Any]]
trl: Any = importlib.import_module("trl")
WORDS = ["bread", "a lock", "the oak", "flour and water", "salt", "an hour"]
ROWS = [
    {"prompt": f"user: {w} assistant:", "chosen": f" take {w} and wait", "rejected": f" no{i}"}
    for i, w in enumerate(WORDS)
]
UNSEEN = [{"prompt": "user: a tree assistant:", "chosen": " wait an hour", "rejected": " no, salt"}] + [
    {"prompt": "user: water assistant:", "chosen": f" take {i}", "rejected": f" oak {i}"} for i in range(3)
]


def made(folder: str, arguments: dict[str, Any], **given: Any) -> Trainer:
    return DPOTrainer(model=folder, args=DPOConfig(**arguments), train_dataset=ROWS, **given)


def steps(trainer: Trainer, name: str = "loss") -> list[int]:
    return [int(row["step"]) for row in trainer.state.log_history if name in row]


@pytest.mark.parametrize(
    ("asked", "logged"),
    [
        ({"logging_steps": 2, "max_steps": 5}, [2, 4, 5]),
        ({"logging_steps": 0.3, "max_steps": 7}, [3, 6, 7]),
        ({"logging_strategy": "no", "max_steps": 5}, [5]),
        # Six rows in batches of four.
        ({"logging_strategy": "epoch", "num_train_epochs": 3, "per_device_train_batch_size": 2}, [2, 4, 6]),
    ],
    ids=["steps", "share", "no", "epoch"],
)
def test_rows_of_the_log_come_at_the_steps_asked_for(
    folder: str, quiet: Quiet, asked: dict[str, Any], logged: list[int]
) -> None:
    trainer, each = made(folder, quiet(**asked)), made(folder, quiet(**asked | {"logging_strategy": "steps"}))
    each.args.logging_steps = 1
    result = trainer.train()
    assert steps(trainer) == logged
    # The mean over steps, however they are logged.
    assert result.training_loss == pytest.approx(each.train().training_loss, rel=1e-6)


def test_the_log_is_as_long_as_with_trl_by_default(tmp_path: Path) -> None:
    ours, theirs = DPOConfig(str(tmp_path), use_cpu=True), trl.DPOConfig(str(tmp_path), use_cpu=True)
    assert ours.logging_steps == theirs.logging_steps
    assert ours.save_steps == theirs.save_steps


@contextmanager
def interrupted(step: int, trainer: Trainer) -> Iterator[None]:
    """Inside, a training is interrupted where the row of this step is logged."""
    run = trainer.run

    def stopped(**around: Unpack[Around]) -> TrainingLog:
        on_log = around.get("on_log")
        assert on_log

        def tell(row: dict[str, float]) -> None:
            on_log(row)
            if row["step"] == step:
                raise KeyboardInterrupt

        around["on_log"] = tell
        return run(**around)

    trainer.run = stopped
    with pytest.raises(KeyboardInterrupt):
        yield
    trainer.run = run


def trainer_of(kind: str, folder: str, arguments: dict[str, Any]) -> Trainer:
    if kind == "kto":
        return KTOTrainer(model=folder, args=KTOConfig(**arguments), train_dataset=ROWS)
    lora = LoraConfig(r=2, lora_alpha=4, target_modules="all-linear") if kind == "adapter" else None
    return made(folder, arguments, peft_config=lora)


@pytest.mark.parametrize("kind", ["dpo", "adapter", "kto"])
@pytest.mark.parametrize("anew", [True, False], ids=["another-process", "the-same-trainer"])
def test_stopped_and_resumed_is_never_stopped(folder: str, quiet: Quiet, tmp_path: Path, kind: str, anew: bool) -> None:
    settings = {"save_strategy": "steps", "save_steps": 2, "max_steps": 6, "per_device_train_batch_size": 1}
    whole = trainer_of(kind, folder, quiet(**settings | {"save_strategy": "no"}))
    whole.train()
    trainer = trainer_of(kind, folder, quiet(**settings))
    with interrupted(5, trainer):
        trainer.train()
    assert {path.name for path in (tmp_path / "out" / "checkpoints").iterdir()} == {"step-2", "step-4"}
    if anew:
        trainer = trainer_of(kind, folder, quiet(**settings))
    assert trainer.train(resume_from_checkpoint=True).global_step == 6
    assert steps(trainer) == [1, 2, 3, 4, 5, 6]
    assert [row["loss"] for row in trainer.state.log_history] == [row["loss"] for row in whole.state.log_history]
    theirs = whole.model.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in trainer.model.state_dict().items())


def test_checkpoints_stay_as_many_as_asked_and_an_earlier_training_is_moved_aside(
    folder: str, quiet: Quiet, tmp_path: Path
) -> None:
    settings = quiet(save_strategy="steps", save_steps=1, save_total_limit=1, max_steps=3)
    trainer = made(folder, settings)
    trainer.train()
    out = tmp_path / "out"
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-3"]
    trainer.save_model()
    assert (out / "model.safetensors").is_file()
    assert (out / "checkpoints" / "step-3").is_dir()
    assert not list(out.glob(".model.*"))
    with pytest.warns(UserWarning, match=r"moved to .*checkpoints\.1.*resume_from_checkpoint=True"):
        made(folder, settings).train()
    assert (out / "checkpoints.1" / "step-3").is_dir()


@pytest.mark.filterwarnings("ignore:these arguments")
def test_what_cannot_be_gone_on_from_says_so(folder: str, quiet: Quiet) -> None:
    with pytest.raises(UsageError, match="expected a checkpoint to go on from, found none with save_strategy 'no'"):
        made(folder, quiet()).train(resume_from_checkpoint=True)
    with pytest.raises(UsageError, match=r"found none in .*checkpoints"):
        made(folder, quiet(save_strategy="steps")).train(resume_from_checkpoint=True)
    with pytest.raises(UsageError, match="resume_from_checkpoint True or False, got 'out/step-2'"):
        made(folder, quiet()).train(resume_from_checkpoint="out/step-2")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="unknown save_strategy 'best'; expected one of: no, steps, epoch"):
        made(folder, quiet(save_strategy="best", metric_for_best_model="eval_loss"))
    with pytest.raises(UsageError, match="expected most of at least 1, got 0"):
        made(folder, quiet(save_strategy="steps", save_total_limit=0))


@pytest.mark.filterwarnings("ignore")
def test_what_is_measured_is_what_trl_measures(folder: str, quiet: Quiet) -> None:
    found = []
    for library in (trl, None):
        config = library.DPOConfig if library else DPOConfig
        trainer = (library.DPOTrainer if library else DPOTrainer)(
            model=load_language_model(folder).model,
            args=config(**quiet(max_steps=2, eval_strategy="steps", eval_steps=1, per_device_eval_batch_size=4)),
            train_dataset=Dataset.from_list(ROWS),
            eval_dataset=Dataset.from_list(UNSEEN),
            processing_class=load_language_model(folder).tokenizer,
        )
        trainer.train()
        rows = [row for row in trainer.state.log_history if "eval_loss" in row]
        assert [row["step"] for row in rows] == [1, 2]
        found.append((rows, trainer.evaluate()))
    (theirs, their_end), (ours, our_end) = found
    for row, other in zip([*ours, our_end], [*theirs, their_end], strict=True):
        assert row["eval_loss"] == pytest.approx(other["eval_loss"], rel=1e-4)
        assert row["eval_accuracy"] == other["eval_rewards/accuracies"]
        assert 0.1 * row["eval_margin_nats"] == pytest.approx(other["eval_rewards/margins"], rel=1e-3)
    assert ours[0]["eval_loss"] != ours[1]["eval_loss"]


def test_what_is_measured_after_training_still_compares_with_the_start(folder: str, quiet: Quiet) -> None:
    """The reference's values of the held-out pairs are those of the model before it was trained."""
    trained = made(folder, quiet(max_steps=4), eval_dataset=UNSEEN)
    trained.train()
    watched = made(folder, quiet(max_steps=4, eval_strategy="epoch"), eval_dataset=UNSEEN)
    watched.train()
    found = trained.evaluate()
    assert found["eval_margin_nats"] != 0
    assert found == {name: value for name, value in watched.state.log_history[-1].items() if name in found}
    assert trained.state.log_history[-1] == {"step": 4, **found}
    with pytest.raises(UsageError, match="expected an eval_dataset to measure on"):
        made(folder, quiet()).evaluate()
    with pytest.raises(UsageError, match="expected an eval_dataset with this eval_strategy"):
        made(folder, quiet(eval_strategy="epoch"))
    with pytest.raises(UsageError, match="expected one dataset, got a dict of easy, hard"):
        made(folder, quiet(), eval_dataset={"easy": UNSEEN, "hard": UNSEEN})


def test_rows_reach_the_trackers_that_are_asked_for(folder: str, quiet: Quiet, tmp_path: Path) -> None:
    told: list[Any] = []

    @tracker
    @contextmanager
    def notebook(folder: Path, settings: Mapping[str, Any]) -> Iterator[Callable[[dict[str, float]], None]]:
        told.append((folder, settings["beta"]))
        yield lambda row: told.append(int(row["step"]))

    try:
        made(folder, quiet(report_to=["notebook"], max_steps=3)).train()
    finally:
        del tracker._functions["notebook"]
    assert told == [(tmp_path / "out", 0.1), 1, 2, 3]
    with pytest.warns(UserWarning, match="no effect here: report_to=mlflow"):
        made(folder, quiet(report_to=["mlflow"]))
    if not find_spec("trackio"):
        with pytest.raises(UsageError, match="expected the package trackio for this tracker"):
            made(folder, quiet(report_to="trackio")).train()


def test_plain_arguments_of_transformers_will_do(folder: str, quiet: Quiet) -> None:
    args = TrainingArguments(**quiet(max_steps=3, logging_steps=2))
    trainer = DPOTrainer(model=folder, args=args, train_dataset=ROWS)
    trainer.train()
    assert steps(trainer) == [2, 3]
