"""Preference trainers under TRL's names: `DPOTrainer` for every loss on pairs, `ORPOTrainer`, `CPOTrainer`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from functools import cache, partial
from pathlib import Path
from typing import Any, Unpack

from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments

from smidgen.data.tokens import EncodedPair
from smidgen.errors import UsageError
from smidgen.models.load import LanguageModel, check_same_tokens, load_language_model
from smidgen.models.logprobs import AnswerLogps, find_layout
from smidgen.trainers.arguments import recipe_of, seed_of, warn_of_the_rest
from smidgen.trainers.configs import CPOConfig, DPOConfig, ORPOConfig
from smidgen.trainers.rows import Rows, counted, listed, most_tokens, prepared_pairs, scratch_store
from smidgen.trainers.trainer import HeldOut, Measure, Trainer, default_folder, evaluated, language_model_of, one_of
from smidgen.training.heldout import heldout_measure
from smidgen.training.loop import Around, TrainingLog
from smidgen.training.losses import Loss, combine, loss
from smidgen.training.preference import (
    ReferenceLogps,
    check_objective,
    needs_reference,
    reference_logps,
    train_preference,
)

# TRL's name of a loss, and the settings that it reads from the configuration, as ours.
_LOSSES: dict[str, Callable[[Any], str]] = {
    "sigmoid": lambda args: f"dpo:beta={args.beta},label_smoothing={args.label_smoothing}",
    "hinge": lambda args: f"hinge:beta={args.beta}",
    "ipo": lambda args: f"ipo_averaged:beta={args.beta}",
    "exo_pair": lambda args: f"exo:beta={args.beta},label_smoothing={args.label_smoothing}",
    "nca_pair": lambda args: f"nca:beta={args.beta}",
    "robust": lambda args: f"robust:beta={args.beta},label_smoothing={args.label_smoothing}",
    "bco_pair": lambda args: f"bco:beta={args.beta}",
    "sppo_hard": lambda args: f"sppo:beta={args.beta}",
    "apo_zero": lambda args: f"apo_zero:beta={args.beta}",
    "apo_down": lambda args: f"apo_down:beta={args.beta}",
    "discopop": lambda args: f"discopop:beta={args.beta},tau={args.discopop_tau}",
    "sft": lambda args: "nll",
    "sigmoid_norm": lambda args: f"dpo_averaged:beta={args.beta}",
}
_DPO_FIELDS = (
    "beta",
    "discopop_tau",
    "label_smoothing",
    "loss_type",
    "loss_weights",
    "max_length",
    "precompute_ref_log_probs",
)


def DPOTrainer(
    model: str | Path | PreTrainedModel,
    ref_model: PreTrainedModel | str | None = None,
    args: TrainingArguments | None = None,
    train_dataset: Rows | None = None,
    eval_dataset: Rows | None = None,
    processing_class: PreTrainedTokenizerBase | None = None,
    *,
    model_ref: PreTrainedModel | str | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    beta: float | None = None,
    peft_config: Any = None,
    template: str | None = None,
    **others: Any,
) -> Trainer:
    """Train on pairs with DPO or any other registered loss; called as TRL's class of this name.

    Args:
        model: A model, a folder, or a hub name.
        ref_model: The reference (also `model_ref`); the weights that `model` starts from where None.
        args: A `DPOConfig` or TRL's own; of plain TrainingArguments, everything about the loss is at its default.
        train_dataset: Rows with prompt, chosen and rejected (or two whole conversations): a `datasets.Dataset`, a list
            of dicts. Columns `chosen_score`, `rejected_score`, `weight` and `group` reach the loss.
        eval_dataset: Rows of the same kind, to measure on; see `eval_strategy`.
        processing_class: The tokenizer (also `tokenizer`); the model's own where None.
        beta: In place of the configuration's.
        peft_config: A LoRA configuration on all linear layers; the adapter is folded in at the end.
        template: How a conversation becomes text; None takes texts verbatim, and the tokenizer's chat template for
            lists of messages.
        others: TRL's further arguments, which have no effect; those given are named in a warning.

    Raises:
        UsageError: Two names of one argument that differ, or a setting that cannot be taken.
        InvalidData: No usable pairs, or scores that the loss needs and the pairs lack.
    """
    args = args or DPOConfig(output_dir=default_folder(model, "DPO"))
    warn_of_the_rest(args, _DPO_FIELDS, **others)
    objective = _dpo_objective(args, beta)
    reference = one_of(ref_model=ref_model, model_ref=model_ref)
    tokenizer = one_of(processing_class=processing_class, tokenizer=tokenizer)
    return _preference_trainer(
        model,
        args,
        train_dataset,
        tokenizer,
        objective,
        eval_rows=eval_dataset,
        reference=reference,
        peft_config=peft_config,
        template=template,
    )


def ORPOTrainer(
    model: str | Path | PreTrainedModel,
    args: TrainingArguments | None = None,
    train_dataset: Rows | None = None,
    eval_dataset: Rows | None = None,
    processing_class: PreTrainedTokenizerBase | None = None,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    peft_config: Any = None,
    template: str | None = None,
    **others: Any,
) -> Trainer:
    """Train on pairs with ORPO; see `DPOTrainer`. The likelihood term covers the chosen answer, not the prompt."""
    args = args or ORPOConfig(output_dir=default_folder(model, "ORPO"))
    warn_of_the_rest(args, ("beta", "max_length"), **others)
    objective = loss.bind(f"orpo:odds_weight={getattr(args, 'beta', 0.1)}")
    tokenizer = one_of(processing_class=processing_class, tokenizer=tokenizer)
    return _preference_trainer(
        model,
        args,
        train_dataset,
        tokenizer,
        objective,
        eval_rows=eval_dataset,
        peft_config=peft_config,
        template=template,
    )


def CPOTrainer(
    model: str | Path | PreTrainedModel,
    args: TrainingArguments | None = None,
    train_dataset: Rows | None = None,
    eval_dataset: Rows | None = None,
    processing_class: PreTrainedTokenizerBase | None = None,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    peft_config: Any = None,
    template: str | None = None,
    **others: Any,
) -> Trainer:
    """Train on pairs with CPO or SimPO; see `DPOTrainer`."""
    args = args or CPOConfig(output_dir=default_folder(model, "CPO"))
    known = ("beta", "cpo_alpha", "loss_type", "max_length", "simpo_gamma")
    warn_of_the_rest(args, known, **others)
    tokenizer = one_of(processing_class=processing_class, tokenizer=tokenizer)
    return _preference_trainer(
        model,
        args,
        train_dataset,
        tokenizer,
        _cpo_objective(args),
        eval_rows=eval_dataset,
        peft_config=peft_config,
        template=template,
    )


def _cpo_objective(args: Any) -> Loss:
    """TRL adds `cpo_alpha` times the likelihood of the chosen answers to either loss; its own default is 1."""
    kind, beta = getattr(args, "loss_type", "sigmoid"), getattr(args, "beta", 0.1)
    alpha = float(getattr(args, "cpo_alpha", 1.0))
    if kind == "sigmoid":
        return loss.bind(f"cpo:beta={beta},nll_weight={alpha}")
    if kind != "simpo":
        raise UsageError(f"unknown loss_type {kind!r}; expected one of: sigmoid, simpo")
    simpo = f"simpo:beta={beta},gamma={getattr(args, 'simpo_gamma', 0.5)}"
    return combine({simpo: 1.0, "nll": alpha}) if alpha else loss.bind(simpo)


def _dpo_objective(args: Any, beta: float | None) -> Loss:
    """The sum of the losses that the configuration names."""
    own_settings = hasattr(args, "loss_type")
    settings = copy(args) if own_settings else DPOConfig(output_dir=args.output_dir, use_cpu=True)
    if beta is not None:
        settings.beta = beta
    names = [settings.loss_type] if isinstance(settings.loss_type, str) else list(settings.loss_type)
    weights = settings.loss_weights or [1.0] * len(names)
    if len(weights) != len(names):
        raise UsageError(f"expected a loss_weight for each of {len(names)} losses, got {len(weights)}; give as many.")
    own = {function.__name__ for function in loss}
    unknown = [name for name in names if name not in _LOSSES and name.partition(":")[0] not in own]
    if unknown:
        known = ", ".join([*_LOSSES, *sorted(own - set(_LOSSES))])
        raise UsageError(f"unknown loss_type {unknown[0]!r}; expected one of: {known}")
    specs = [_LOSSES[name](settings) if name in _LOSSES else name for name in names]
    return combine(dict(zip(specs, weights, strict=True)))


def _preference_trainer(
    model: str | Path | PreTrainedModel,
    args: Any,
    rows: Rows | None,
    tokenizer: PreTrainedTokenizerBase | None,
    objective: Loss,
    *,
    eval_rows: Rows | None,
    reference: PreTrainedModel | str | None = None,
    peft_config: Any,
    template: str | None,
) -> Trainer:
    lm = language_model_of(model, tokenizer)
    ref_lm = reference_model(reference, lm, tokenizer)
    store = scratch_store()

    def read(rows: Rows | None, name: str) -> tuple[Sequence[EncodedPair], dict[str, int]]:
        known = listed(rows, lm.tokenizer, what="the pairs to train on")
        most = most_tokens(lm, getattr(args, "max_length", None))
        prepared, _ = prepared_pairs(known, lm.tokenizer, max_length=most, template=template, name=name)
        check_objective(objective, prepared.encoded)
        return prepared.encoded, counted([q.reason for q in prepared.quarantine], len(known), name=name)

    pairs, left_out = read(rows, "train_dataset")
    unseen = None if eval_rows is None else read(eval_rows, "eval_dataset")[0]
    recipe = recipe_of(args, len(pairs), peft_config=peft_config)

    def values(pairs: Sequence[EncodedPair]) -> list[ReferenceLogps] | None:
        # The store knows the weights that the model started with, also when they have moved since.
        return reference_logps(ref_lm, pairs, store, dtype=recipe.dtype) if needs_reference(objective, pairs) else None

    def run(**around: Unpack[Around]) -> TrainingLog:
        return train_preference(
            lm, pairs, values(pairs), objective=objective, recipe=recipe, seed=seed_of(args), **around
        )

    def measure(unseen: Sequence[EncodedPair]) -> Measure:
        values(pairs)
        found = heldout_measure(lm, unseen, values(unseen), objective=objective, recipe=recipe)
        return lambda scorer: evaluated(found(scorer))

    held_out = None
    if unseen is not None:
        held_out = HeldOut(AnswerLogps(lm.model, find_layout(lm.model)), cache(partial(measure, unseen)))
    return Trainer(lm, args, recipe, run, len(pairs), left_out, held_out)


def reference_model(
    reference: PreTrainedModel | str | None, lm: LanguageModel, tokenizer: PreTrainedTokenizerBase | None
) -> LanguageModel:
    """The reference given, or the policy itself as it starts.

    Raises:
        UsageError: It reads token ids differently from the policy.
    """
    if reference is None:
        return lm
    ref_lm = load_language_model(reference) if isinstance(reference, str) else language_model_of(reference, tokenizer)
    check_same_tokens(lm, ref_lm)
    return ref_lm
