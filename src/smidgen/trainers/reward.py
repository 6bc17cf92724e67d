"""`RewardTrainer` under TRL's name: a reward model from pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any, Unpack

from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments

from smidgen.data.templates import load_template
from smidgen.errors import InvalidData, UsageError
from smidgen.models.load import LanguageModel, language_model
from smidgen.models.reward_model import RewardModel, RowRewards, new_reward_model
from smidgen.pairs import PreferencePair
from smidgen.trainers.arguments import recipe_of, seed_of, warn_of_the_rest
from smidgen.trainers.configs import RewardConfig
from smidgen.trainers.rows import Rows, counted, listed, prepared_pairs
from smidgen.trainers.trainer import HeldOut, Trainer, default_folder, evaluated, one_of, tokenizer_of
from smidgen.training.loop import Around, TrainingLog
from smidgen.training.reward import RewardPair, heldout_rewards, reward_pairs, train_reward


def RewardTrainer(
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
    """Train a reward model on pairs; called as TRL's class of this name.

    Args:
        model: A sequence classifier with one label; or the folder or name of one, or of a causal model, which gets a
            new head drawn from `args.seed`.
        args: A `RewardConfig` or TRL's own, or plain TrainingArguments.
        train_dataset: Rows with prompt, chosen and rejected, or two whole conversations. A column `margin` says by how
            much a chosen answer is to be above, a column `weight` how often a pair counts.
        eval_dataset: Rows of the same kind, to measure on.
        processing_class: The tokenizer (also `tokenizer`); the model's own where None.
        peft_config: Refused; a new head is learned as a whole.
        template: As for `DPOTrainer`.
        others: As for `DPOTrainer`.

    Raises:
        UsageError: A setting that cannot be taken, or a model with other than one label.
        InvalidData: No usable pairs, or margins that are no numbers.
    """
    args = args or RewardConfig(output_dir=default_folder(model, "Reward"))
    warn_of_the_rest(args, ("center_rewards_coefficient", "max_length"), **others)
    rm = _reward_model(model, one_of(processing_class=processing_class, tokenizer=tokenizer), seed=args.seed)
    centring = float(getattr(args, "center_rewards_coefficient", None) or 0.0)

    def read(rows: Rows | None, name: str) -> tuple[list[RewardPair], dict[str, int]]:
        known = listed(rows, rm.lm.tokenizer, what="the pairs to train on")
        prepared, used = prepared_pairs(
            known, rm.lm.tokenizer, max_length=None, template=template, name=name, encode=False
        )
        most = getattr(args, "max_length", None)
        pairs, bad = reward_pairs(rm, prepared.pairs, load_template(used, rm.lm.tokenizer), max_length=most)
        left_out = counted([q.reason for q in [*prepared.quarantine, *bad]], len(known), name=name)
        return _with_margins(pairs, prepared.pairs), left_out

    pairs, left_out = read(train_dataset, "train_dataset")
    recipe = recipe_of(args, len(pairs), peft_config=peft_config)

    def run(**around: Unpack[Around]) -> TrainingLog:
        return train_reward(rm, pairs, recipe=recipe, seed=seed_of(args), centring=centring, **around)

    held_out = None
    if eval_dataset is not None:
        found = heldout_rewards(rm, read(eval_dataset, "eval_dataset")[0], recipe=recipe, centring=centring)
        held_out = HeldOut(RowRewards(rm.lm.model), lambda: lambda scorer: evaluated(found(scorer)))
    return Trainer(rm.lm, args, recipe, run, len(pairs), left_out, held_out)


def _reward_model(
    model: str | Path | PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, *, seed: int
) -> RewardModel:
    if isinstance(model, str | Path):
        rm = new_reward_model(model, seed=seed)
        lm = LanguageModel(rm.lm.model, tokenizer or rm.lm.tokenizer, rm.lm.fingerprint)
        return RewardModel(lm)
    if model.config.num_labels != 1 or "SequenceClassification" not in type(model).__name__:
        raise UsageError(
            f"expected a sequence classifier with one label, got {type(model).__name__} with "
            f"{model.config.num_labels}; load it with num_labels=1, or give its folder or name."
        )
    return RewardModel(language_model(model, tokenizer_of(model, tokenizer)))


def _with_margins(encoded: Sequence[RewardPair], pairs: Sequence[PreferencePair]) -> list[RewardPair]:
    """The pairs with the data's own column `margin`, where it has one; InvalidData where only some have a number."""
    given = {pair.idx: pair.meta.get("margin") for pair in pairs if "margin" in pair.meta}
    if not given:
        return list(encoded)
    bad = [p.idx for p in encoded if not (isinstance(m := given.get(p.idx), int | float) and isfinite(m))]
    if bad:
        raise InvalidData(
            f"expected a number in the column margin of every pair, got {len(bad)} of {len(encoded)} pairs without, "
            f"the first with idx {bad[0]}. Correct or leave out these rows, or drop the column."
        )
    return [replace(pair, margin=float(given[pair.idx] or 0)) for pair in encoded]
