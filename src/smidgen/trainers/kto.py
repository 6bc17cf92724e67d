"""`KTOTrainer` under TRL's name: single answers that are marked good or bad."""

from __future__ import annotations

import warnings
from functools import cache, partial
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments

from smidgen.data.answers import EncodedAnswer, prepare_answers
from smidgen.data.sources import rows_in_memory
from smidgen.data.templates import load_template
from smidgen.errors import UsageError
from smidgen.models.logprobs import AnswerLogps, MarkedLogps, find_layout
from smidgen.trainers.arguments import recipe_of, seed_of, warn_of_the_rest
from smidgen.trainers.configs import KTOConfig
from smidgen.trainers.preference import reference_model
from smidgen.trainers.rows import Row, Rows, counted, listed, most_tokens, scratch_store, template_of
from smidgen.trainers.trainer import HeldOut, Measure, Trainer, default_folder, evaluated, language_model_of, one_of
from smidgen.training.loop import Around, TrainingLog
from smidgen.training.losses.marked import UnpairedLoss, apo_zero_unpaired, balance_advice, kto_unpaired
from smidgen.training.unpaired import heldout_answers, train_unpaired

_FIELDS = (
    "beta",
    "desirable_weight",
    "loss_type",
    "max_length",
    "precompute_ref_log_probs",
    "undesirable_weight",
)


def KTOTrainer(
    model: str | Path | PreTrainedModel,
    ref_model: PreTrainedModel | str | None = None,
    args: TrainingArguments | None = None,
    train_dataset: Rows | None = None,
    eval_dataset: Rows | None = None,
    processing_class: PreTrainedTokenizerBase | None = None,
    *,
    model_ref: PreTrainedModel | str | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    peft_config: Any = None,
    template: str | None = None,
    **others: Any,
) -> Trainer:
    """Train on marked answers; called as TRL's class of this name.

    Args:
        model: As for `DPOTrainer`, and so are `ref_model`, `processing_class`, `peft_config`, `template` and `others`.
        args: A `KTOConfig` or TRL's own; of plain TrainingArguments, everything about the loss is at its default.
        train_dataset: Rows with prompt, completion and label; or with prompt, chosen and rejected, each of which is
            two answers. A column `weight` says how often an answer counts.
        eval_dataset: Rows of the same kind, to measure on.

    Raises:
        UsageError: A setting that cannot be taken.
        InvalidData: No usable answers.
    """
    args = args or KTOConfig(output_dir=default_folder(model, "KTO"))
    warn_of_the_rest(args, _FIELDS, **others)
    tokenizer = one_of(processing_class=processing_class, tokenizer=tokenizer)
    lm = language_model_of(model, tokenizer)
    ref_lm = reference_model(one_of(ref_model=ref_model, model_ref=model_ref), lm, tokenizer)
    objective, store = _objective(args), scratch_store()

    def read(rows: Rows | None, name: str) -> tuple[list[EncodedAnswer], dict[str, int]]:
        known = _unpaired(listed(rows, lm.tokenizer, what="the answers to train on"))
        prepared = prepare_answers(
            rows_in_memory(known, name=name),
            template=load_template(template_of(known, "completion", template), lm.tokenizer),
            tokenizer=lm.tokenizer,
            max_length=most_tokens(lm, getattr(args, "max_length", None)),
            max_bad_fraction=1.0,
        )
        return prepared.encoded, counted([q.reason for q in prepared.quarantine], len(known), name=name)

    answers, left_out = read(train_dataset, "train_dataset")
    unseen = None if eval_dataset is None else read(eval_dataset, "eval_dataset")[0]
    recipe = recipe_of(args, len(answers), peft_config=peft_config)
    if advice := balance_advice(answers, **_weights(args)):
        warnings.warn(advice, UserWarning, stacklevel=2)

    def run(**around: Unpack[Around]) -> TrainingLog:
        return train_unpaired(
            lm, answers, store, objective=objective, recipe=recipe, seed=seed_of(args), ref_lm=ref_lm, **around
        )

    def measure(unseen: list[EncodedAnswer]) -> Measure:
        found = heldout_answers(lm, unseen, store, objective=objective, recipe=recipe, ref_lm=ref_lm)
        return lambda scorer: evaluated(found(scorer))

    held_out = None
    if unseen is not None:
        held_out = HeldOut(AnswerLogps(lm.model, find_layout(lm.model)), cache(partial(measure, unseen)))
    return Trainer(lm, args, recipe, run, len(answers), left_out, held_out)


def _weights(args: Any) -> dict[str, float]:
    return {name: getattr(args, name, 1.0) for name in ("desirable_weight", "undesirable_weight")}


def _objective(args: Any) -> UnpairedLoss:
    losses = {"kto": kto_unpaired, "apo_zero_unpaired": _weighted_apo_zero}
    name = getattr(args, "loss_type", "kto")
    if name not in losses:
        raise UsageError(f"unknown loss_type {name!r}; expected one of: {', '.join(losses)}")
    return partial(losses[name], beta=getattr(args, "beta", 0.1), **_weights(args))


def _weighted_apo_zero(
    logps: MarkedLogps, *, beta: float, desirable_weight: float, undesirable_weight: float
) -> Tensor:
    """`apo_zero_unpaired`, whose answers count as KTO's do."""
    values = apo_zero_unpaired(logps, beta=beta)
    return torch.where(logps.desirable, desirable_weight * values, undesirable_weight * values)


def _unpaired(rows: list[dict[str, Any]]) -> list[Row]:
    """Rows with chosen and rejected as two rows each; any others as they are."""
    return [
        one
        for row in rows
        for one in (
            [row | {"completion": row["chosen"], "label": True}, row | {"completion": row["rejected"], "label": False}]
            if {"chosen", "rejected"} <= row.keys()
            else [row]
        )
    ]
