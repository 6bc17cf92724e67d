"""Supervised fine-tuning, reward models and marked answers: TRL's own trainers end with the same weights."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification

import smidgen.trainers
from smidgen.data.templates import load_template
from smidgen.errors import InvalidData, UsageError
from smidgen.models.load import load_language_model
from smidgen.models.reward_model import load_reward_model, new_reward_model, save_reward_model
from smidgen.pairs import messages_from
from smidgen.trainers import KTOConfig, KTOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

Quiet = Callable[..., dict[str, Any]]
trl: Any = importlib.import_module("trl")
Loss = tuple[dict[str, torch.Tensor], float]
WORDS = ["bread", "a lock", "the oak", "flour and water", "salt", "an hour"]
PAIRS = [
    {"prompt": f"user: {w} assistant:", "chosen": f" take {w} and wait", "rejected": f" no{i}"}
    for i, w in enumerate(WORDS)
]
COMPLETIONS = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in PAIRS]
TEXTS = [{"text": row["prompt"] + row["chosen"]} for row in PAIRS]
CHAT = (
    "{% for m in messages %}{{ m.role }}:\n{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}assistant:\n{% endif %}"
)
MESSAGES = [
    {"messages": [{"role": "user", "content": f"Name {w}."}, {"role": "assistant", "content": f"The {w}."}]}
    for w in WORDS
]


def both(
    kind: str,
    folder: str,
    rows: list[dict[str, Any]],
    arguments: dict[str, Any],
    *,
    chat_template: str | None = None,
    whole_texts: bool = False,
) -> None:
    """Train with TRL's trainer of this kind and with ours; weights and losses agree, and have moved.

    Of whole texts, TRL's loss is a sum over the tokens with something before them, divided by the number of all.
    """
    ends: list[Loss] = []
    start: dict[str, torch.Tensor] = {}
    for library in (trl, smidgen.trainers):
        lm = load_reward_model(folder).lm if kind == "Reward" else load_language_model(folder)
        if chat_template:
            lm.tokenizer.chat_template = chat_template
        start = {name: value.clone() for name, value in lm.model.state_dict().items()}
        trainer = getattr(library, f"{kind}Trainer")(
            model=lm.model,
            args=getattr(library, f"{kind}Config")(max_length=64, **arguments),
            train_dataset=Dataset.from_list(rows),
            processing_class=lm.tokenizer,
        )
        result = trainer.train()
        assert result.global_step == 6
        share = 1 - len(rows) / n_tokens(trainer) if whole_texts and library is trl else 1.0
        ends.append((trainer.model.state_dict(), result.training_loss / share))
    (theirs, their_loss), (ours, our_loss) = ends
    # A key's bias has no gradient but rounding, which Adam blows up to whole steps.
    names = [name for name in start if not name.endswith("c_attn.bias")]
    moved = max((theirs[name] - start[name]).abs().max().item() for name in names)
    apart = max((theirs[name] - ours[name]).abs().max().item() for name in names)
    assert moved > 2e-3
    assert apart < moved / 20
    assert our_loss == pytest.approx(their_loss, rel=2e-3)


def n_tokens(trainer: Any) -> int:
    return sum(map(len, trainer.train_dataset["input_ids"]))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("rows", "settings"),
    [
        (COMPLETIONS, {}),
        (COMPLETIONS, {"completion_only_loss": False}),
        (TEXTS, {}),
        ([{"story": row["text"]} for row in TEXTS], {"dataset_text_field": "story"}),
    ],
    ids=["completions", "prompts-too", "text", "named-text"],
)
def test_fine_tuning_is_trls(folder: str, quiet: Quiet, rows: list[dict[str, Any]], settings: dict[str, Any]) -> None:
    both("SFT", folder, rows, quiet(**settings), whole_texts=rows is not COMPLETIONS or bool(settings))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", ["messages", "prompt-and-completion"])
def test_fine_tuning_on_conversations_is_trls(folder: str, quiet: Quiet, shape: str) -> None:
    rows: list[dict[str, Any]] = list(MESSAGES)
    if shape != "messages":
        rows = [{"prompt": row["messages"][:1], "completion": row["messages"][1:]} for row in MESSAGES]
    both("SFT", folder, rows, quiet(), chat_template=CHAT, whole_texts=shape == "messages")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("settings", [{}, {"center_rewards_coefficient": 0.05}], ids=["plain", "centred"])
@pytest.mark.parametrize("margins", [False, True], ids=["", "margins"])
def test_reward_models_are_trls(folder: str, quiet: Quiet, settings: dict[str, Any], margins: bool) -> None:
    save_reward_model(new_reward_model(folder), f"{folder}-reward", card="")
    rows: list[dict[str, Any]] = [row | {"margin": 0.5 * i} for i, row in enumerate(PAIRS)] if margins else list(PAIRS)
    both("Reward", f"{folder}-reward", rows, quiet(**settings))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "settings",
    [
        {"beta": 0.3},
        {"beta": 0.3, "desirable_weight": 1.5, "undesirable_weight": 0.5},
        {"beta": 0.3, "loss_type": "apo_zero_unpaired", "desirable_weight": 1.5},
    ],
    ids=["kto", "weights", "apo-zero"],
)
def test_marked_answers_are_trls(folder: str, quiet: Quiet, settings: dict[str, Any]) -> None:
    """KTO compares each prompt with the answer before, so with one prompt for all, order does not matter."""
    one = "apo" not in str(settings)
    rows = [
        {
            "prompt": PAIRS[0]["prompt"] if one else row["prompt"],
            "completion": row["chosen"] if i % 2 else row["rejected"],
            "label": bool(i % 2),
        }
        for i, row in enumerate(PAIRS)
    ]
    # TRL measures KTO's reference point a device's batch at a time.
    both("KTO", folder, rows, quiet(per_device_train_batch_size=6, gradient_accumulation_steps=1, **settings))


def test_pairs_are_two_marked_answers_each(folder: str, quiet: Quiet) -> None:
    marked = [
        {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
        for row in PAIRS
        for side in ("chosen", "rejected")
    ]
    logs = []
    for rows in (PAIRS, marked):
        trainer = KTOTrainer(model=folder, args=KTOConfig(**quiet(max_steps=3)), train_dataset=rows)
        trainer.train()
        logs.append([row["loss"] for row in trainer.state.log_history])
    assert logs[0] == logs[1]


def test_another_reference_is_another_training(folder: str, quiet: Quiet) -> None:
    other = load_language_model(folder)
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.mul_(1.05)
    losses = []
    references: list[dict[str, Any]] = [{}, {"ref_model": other.model}, {"model_ref": other.model}]
    for reference in references:
        args = KTOConfig(**quiet(max_steps=3))
        trainer = KTOTrainer(
            model=folder, args=args, train_dataset=PAIRS, processing_class=other.tokenizer, **reference
        )
        trainer.train()
        losses.append([row["loss"] for row in trainer.state.log_history])
    assert losses[0][0] == pytest.approx(0.5, abs=1e-6)
    assert losses[1] == losses[2] != losses[0]


@pytest.mark.parametrize("kind", ["SFT", "Reward", "KTO"])
def test_training_on_what_is_measured_lowers_its_loss(folder: str, quiet: Quiet, kind: str) -> None:
    rows = COMPLETIONS if kind == "SFT" else PAIRS
    args = getattr(smidgen.trainers, f"{kind}Config")(
        **quiet(eval_strategy="steps", eval_steps=3, max_steps=6, per_device_train_batch_size=6)
    )
    trainer = getattr(smidgen.trainers, f"{kind}Trainer")(
        model=folder, args=args, train_dataset=rows, eval_dataset=rows
    )
    before = trainer.evaluate()
    trainer.train()
    measured = [row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row]
    assert before["eval_loss"] > measured[0] > measured[1]
    assert trainer.evaluate()["eval_loss"] == pytest.approx(measured[1], rel=1e-6)
    # All rows are one batch, so the first step's loss is the one before it.
    assert before["eval_loss"] == pytest.approx(trainer.state.log_history[0]["loss"], rel=1e-5)


def test_a_trained_reward_model_is_saved_as_one(folder: str, quiet: Quiet, tmp_path: Path) -> None:
    trainer = RewardTrainer(model=folder, args=RewardConfig(**quiet(max_steps=3)), train_dataset=PAIRS)
    trainer.train()
    trainer.save_model()
    saved = load_reward_model(tmp_path / "out")
    prompts = [messages_from(row["prompt"], "user") for row in PAIRS]
    rewards = saved.score(prompts, [row["chosen"] for row in PAIRS], load_template("verbatim"))
    assert np.isfinite(rewards).all()
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in trainer.model.state_dict().items())


@pytest.mark.filterwarnings("ignore:these arguments")
def test_what_cannot_be_done_says_what_to_do(folder: str, quiet: Quiet) -> None:
    args = SFTConfig(**quiet())
    with pytest.raises(UsageError, match="expected train_dataset, the examples to train on, got None"):
        SFTTrainer(model=folder, args=args)
    with pytest.raises(InvalidData, match="at least one row, got none"):
        SFTTrainer(model=folder, args=args, train_dataset=[])
    with pytest.raises(UsageError, match="rows of prompt and completion with completion_only_loss"):
        SFTTrainer(model=folder, args=SFTConfig(**quiet(completion_only_loss=True)), train_dataset=TEXTS)
    with pytest.raises(UsageError, match="expected assistant_only_loss False, got True"):
        SFTTrainer(model=folder, args=trl.SFTConfig(**quiet(assistant_only_loss=True)), train_dataset=MESSAGES)
    with pytest.raises(UsageError, match="unknown loss_type 'dft'; expected one of: nll"):
        SFTTrainer(model=folder, args=trl.SFTConfig(**quiet(loss_type="dft")), train_dataset=TEXTS)
    with pytest.raises(UsageError, match="expected a tokenizer with a chat template"):
        SFTTrainer(model=folder, args=args, train_dataset=MESSAGES)
    with pytest.warns(UserWarning, match="1 missing_column"), pytest.raises(InvalidData, match="no completion among"):
        SFTTrainer(model=folder, args=args, train_dataset=[{"prompt": "Hi"}])
    with pytest.raises(UsageError, match="unknown loss_type 'bco'; expected one of: kto, apo_zero_unpaired"):
        KTOTrainer(model=folder, args=KTOConfig(**quiet(loss_type="bco")), train_dataset=PAIRS)
    with pytest.raises(UsageError, match="beta"):
        KTOTrainer(model=folder, args=KTOConfig(**quiet(beta=-1.0)), train_dataset=PAIRS).train()
    with pytest.raises(UsageError, match="expected a sequence classifier with one label, got GPT2LMHeadModel"):
        RewardTrainer(model=load_language_model(folder).model, train_dataset=PAIRS)
    with pytest.raises(UsageError, match="expected centring of at least 0, got -1"):
        bad = RewardConfig(**quiet(center_rewards_coefficient=-1.0))
        RewardTrainer(model=folder, args=bad, train_dataset=PAIRS).train()
    with pytest.raises(InvalidData, match="expected a number in the column margin of every pair, got 5 of 6"):
        rows = [row | ({"margin": 1.0} if i == 0 else {}) for i, row in enumerate(PAIRS)]
        RewardTrainer(model=folder, args=RewardConfig(**quiet()), train_dataset=rows)


def test_rows_that_cannot_be_used_are_counted(folder: str, quiet: Quiet) -> None:
    bad = [{"prompt": "user: hi assistant:", "completion": " word" * 200}, {"prompt": "user:", "completion": " "}]
    with pytest.warns(UserWarning, match=r"2 of 8 rows left out: 1 empty_field, 1 over_long \(train_dataset\)"):
        trainer = SFTTrainer(model=folder, args=SFTConfig(**quiet()), train_dataset=[*COMPLETIONS, *bad])
    assert (trainer.left_out, trainer.n_examples) == ({"empty_field": 1, "over_long": 1}, 6)
    marked = [row | {"label": i % 2 == 0} for i, row in enumerate(COMPLETIONS)]
    with pytest.warns(UserWarning, match=r"1 of 7 rows left out: 1 bad_label"):
        KTOTrainer(
            model=folder, args=KTOConfig(**quiet()), train_dataset=[*marked, COMPLETIONS[0] | {"label": "maybe"}]
        )
    with pytest.warns(UserWarning, match="expected desirable and undesirable answers, got no undesirable ones of 6"):
        good = [row | {"label": True} for row in COMPLETIONS]
        KTOTrainer(model=folder, args=KTOConfig(**quiet()), train_dataset=good)


def test_end_of_text_in_the_data_stands_once(folder: str, quiet: Quiet) -> None:
    end = str(load_language_model(folder).tokenizer.eos_token)
    for rows, column in ((COMPLETIONS, "completion"), (TEXTS, "text")):
        logs = []
        for given in (rows, [row | {column: row[column] + end} for row in rows]):
            trainer = SFTTrainer(model=folder, args=SFTConfig(**quiet(max_steps=2)), train_dataset=given)
            trainer.train()
            logs.append([row["loss"] for row in trainer.state.log_history])
        assert logs[0] == logs[1]
