"""A script written for TRL does the same here: same losses step by step, same names, and what differs is said."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import TrainingArguments

from smidgen.errors import InvalidData, UsageError
from smidgen.models.load import load_language_model, save_language_model
from smidgen.trainers import CPOTrainer, DPOConfig, DPOTrainer, ORPOTrainer
from smidgen.training.sft import new_language_model

WORDS = ["bread", "a lock", "the oak", "flour and water", "salt", "an hour"]
ROWS = [
    {"prompt": f"user: {w} assistant:", "chosen": f" take {w} and wait", "rejected": f" no{i}"}
    for i, w in enumerate(WORDS)
]


Quiet = Callable[..., dict[str, Any]]

SETTINGS = [
    {"beta": 0.3},
    {"beta": 0.3, "loss_type": "ipo"},
    {"beta": 0.5, "loss_type": ["sigmoid", "bco_pair"], "loss_weights": [1.0, 0.3], "lr_scheduler_type": "cosine"},
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("settings", SETTINGS, ids=["dpo", "ipo", "sum"])
def test_a_script_for_trl_learns_the_same_here(folder: str, quiet: Quiet, settings: dict[str, Any]) -> None:
    """The text of the script is one, its import another; weights after training agree, and so do losses on the way."""
    ends = []
    for library in ("trl", "smidgen.trainers"):
        module = importlib.import_module(library)
        args = module.DPOConfig(**quiet(max_length=64, **settings))
        model = load_language_model(folder)
        trainer = module.DPOTrainer(
            model=model.model, args=args, train_dataset=Dataset.from_list(ROWS), processing_class=model.tokenizer
        )
        result = trainer.train()
        assert result.global_step == 6
        ends.append((trainer.model.state_dict(), result.training_loss))
    theirs, ours = ends
    start = load_language_model(folder).model.state_dict()
    moved = max((theirs[0][name] - start[name]).abs().max().item() for name in start)
    # A key's bias has no gradient but rounding, which Adam blows up to whole steps.
    apart = max((theirs[0][n] - ours[0][n]).abs().max().item() for n in start if not n.endswith("c_attn.bias"))
    assert moved > 3e-3
    assert apart < moved / 20
    assert ours[1] == pytest.approx(theirs[1], rel=2e-3)


def trained(folder: str, quiet: Quiet, trainer: Any = DPOTrainer, **given: Any) -> list[float]:
    args = given.pop("args", None) or DPOConfig(**quiet(max_steps=2, logging_steps=1))
    made = trainer(model=folder, args=args, train_dataset=given.pop("train_dataset", ROWS), **given)
    made.train()
    return [row["loss"] for row in made.state.log_history]


@pytest.mark.filterwarnings("ignore:these arguments")
def test_both_names_of_an_argument_mean_the_same(folder: str, quiet: Quiet, tmp_path: Path) -> None:
    other = load_language_model(folder)
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.mul_(1.05)
    plain = trained(folder, quiet)
    by_one = trained(folder, quiet, ref_model=other.model, processing_class=other.tokenizer)
    by_other = trained(folder, quiet, model_ref=other.model, tokenizer=other.tokenizer)
    assert by_one == by_other != plain
    stranger = new_language_model(["quite other words than those"] * 9, shape="nano", vocabulary=300, positions=32)
    save_language_model(stranger, tmp_path / "stranger", card="")
    with pytest.raises(UsageError, match="expected a reference with the policy's tokenizer"):
        trained(folder, quiet, ref_model=str(tmp_path / "stranger"))
    with pytest.raises(UsageError, match="ref_model, model_ref, which mean the same"):
        trained(folder, quiet, ref_model=other.model, model_ref=folder)


@pytest.mark.filterwarnings("ignore:these arguments")
def test_beta_may_be_given_by_itself_and_plain_arguments_will_do(folder: str, quiet: Quiet) -> None:
    args = TrainingArguments(**quiet(max_steps=3))
    by_argument = trained(folder, quiet, args=args, beta=0.7)
    by_config = trained(folder, quiet, args=DPOConfig(**quiet(max_steps=3, beta=0.7)))
    assert by_argument == by_config
    assert by_argument != trained(folder, quiet, args=args)


@pytest.mark.filterwarnings("ignore:these arguments")
@pytest.mark.parametrize("trainer", [ORPOTrainer, CPOTrainer])
def test_losses_without_a_reference_have_their_own_trainers(folder: str, quiet: Quiet, trainer: Any) -> None:
    losses = trained(folder, quiet, trainer, args=TrainingArguments(**quiet(num_train_epochs=20)))
    assert losses[-1] < losses[0]


def test_adapters_are_trained_and_folded_in(folder: str, quiet: Quiet) -> None:
    lora = LoraConfig(r=2, lora_alpha=4, target_modules="all-linear")
    args = DPOConfig(**quiet(logging_steps=500, save_strategy="steps"))
    trainer = DPOTrainer(model=folder, args=args, train_dataset=ROWS, peft_config=lora)
    assert (trainer.recipe.lora_rank, trainer.recipe.lora_alpha) == (2, 4.0)
    trainer.train()
    trainer.save_model()
    saved = load_language_model(args.output_dir or "")
    assert not any("lora" in name for name in saved.model.state_dict())
    assert saved.fingerprint != load_language_model(folder).fingerprint
    with pytest.raises(UsageError, match="on all linear layers"):
        DPOTrainer(model=folder, args=args, train_dataset=ROWS, peft_config=LoraConfig(target_modules=["c_attn"]))


def test_arguments_without_an_effect_are_named(folder: str, quiet: Quiet) -> None:
    args = DPOConfig(**quiet(), neftune_noise_alpha=5.0)
    with pytest.warns(UserWarning, match="no effect here: .*callbacks.*neftune_noise_alpha"):
        DPOTrainer(model=folder, args=args, train_dataset=ROWS, callbacks=[object()], eval_dataset=None)


@pytest.mark.filterwarnings("ignore:these arguments")
def test_what_cannot_be_done_says_what_to_do(folder: str, quiet: Quiet) -> None:
    def start(rows: Any = ROWS, **settings: Any) -> None:
        DPOTrainer(model=folder, args=DPOConfig(**quiet(**settings)), train_dataset=rows)

    with pytest.raises(UsageError, match="unknown loss_type 'aot'; expected one of: sigmoid, hinge"):
        start(loss_type="aot")
    with pytest.raises(UsageError, match="unknown lr_scheduler_type 'polynomial'"):
        start(lr_scheduler_type="polynomial")
    with pytest.raises(UsageError, match="expected optim to be one of"):
        start(optim="adafactor")
    with pytest.raises(UsageError, match="a loss_weight for each of 1 losses, got 2"):
        start(loss_weights=[1.0, 2.0])
    with pytest.raises(UsageError, match="beta above 0"):
        start(beta=0.0)
    with pytest.raises(UsageError, match="expected train_dataset"):
        start(rows=None)
    with pytest.raises(InvalidData, match="at least one row"):
        start(rows=[])
    with pytest.raises(InvalidData, match="expected a chosen_score"):
        start(loss_type="odpo")


@pytest.mark.filterwarnings("ignore:these arguments")
def test_rows_that_cannot_be_used_are_counted(folder: str, quiet: Quiet) -> None:
    long = {"prompt": "user: hi assistant:", "chosen": " word" * 200, "rejected": " no"}
    equal = {"prompt": "user: hi assistant:", "chosen": " no", "rejected": " no"}
    with pytest.warns(UserWarning, match=r"2 of 8 rows left out: 1 equal_answers, 1 over_long"):
        trainer = DPOTrainer(model=folder, args=DPOConfig(**quiet(max_length=64)), train_dataset=[*ROWS, long, equal])
    assert trainer.left_out == {"equal_answers": 1, "over_long": 1}
    assert trainer.n_examples == 6


def test_end_of_text_in_the_data_stands_once(folder: str, quiet: Quiet) -> None:
    end = str(load_language_model(folder).tokenizer.eos_token)
    written = [row | {"chosen": row["chosen"] + end, "rejected": row["rejected"] + end} for row in ROWS]
    args = DPOConfig(**quiet(logging_steps=500, save_strategy="steps", max_steps=2))
    assert trained(folder, quiet, args=args) == trained(folder, quiet, args=args, train_dataset=written)
