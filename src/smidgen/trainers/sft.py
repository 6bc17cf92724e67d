"""`SFTTrainer` under TRL's name: supervised fine-tuning on completions, conversations or running text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments

from smidgen.data.checks import BadRow, check_text, excerpt
from smidgen.data.rows import answer_messages, prompt_messages, split_dialogue
from smidgen.data.sources import rows_in_memory
from smidgen.data.templates import load_template
from smidgen.data.tokens import TokenIds, end_of_text, tokenise
from smidgen.errors import InvalidData, UsageError
from smidgen.models.load import LanguageModel
from smidgen.models.logprobs import AnswerLogps, find_layout
from smidgen.pairs import Messages
from smidgen.trainers.arguments import recipe_of, seed_of, warn_of_the_rest
from smidgen.trainers.configs import SFTConfig
from smidgen.trainers.rows import Row, Rows, counted, listed, most_tokens, template_of
from smidgen.trainers.trainer import HeldOut, Trainer, default_folder, evaluated, language_model_of, one_of
from smidgen.training.loop import Around, TrainingLog
from smidgen.training.sft import heldout_nll, train_on_answers


def SFTTrainer(
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
    """Train on what is to be said; called as TRL's class of this name.

    Args:
        model: As for `DPOTrainer`, and so are `processing_class`, `peft_config`, `template` and `others`.
        args: An `SFTConfig` or TRL's own, or plain TrainingArguments.
        train_dataset: Rows with prompt and completion, of which the completion is learned; or with messages, or with
            text, all of which is learned.
        eval_dataset: Rows of the same kind, to measure on.

    Raises:
        UsageError: A setting that cannot be taken.
        InvalidData: No usable rows.
    """
    args = args or SFTConfig(output_dir=default_folder(model, "SFT"))
    known = ("assistant_only_loss", "completion_only_loss", "dataset_text_field", "loss_type", "max_length")
    warn_of_the_rest(args, known, **others)
    _check(args)
    lm = language_model_of(model, one_of(processing_class=processing_class, tokenizer=tokenizer))

    def read(rows: Rows | None, name: str) -> Examples:
        known = listed(rows, lm.tokenizer, what="the examples to train on")
        return _read(known, lm, args, template=template, name=name)

    learnt = read(train_dataset, "train_dataset")
    recipe = recipe_of(args, len(learnt.idxs), peft_config=peft_config)

    def run(**around: Unpack[Around]) -> TrainingLog:
        return train_on_answers(
            lm, learnt.prompts, learnt.answers, recipe=recipe, seed=seed_of(args), idxs=learnt.idxs, **around
        )

    held_out = None
    if eval_dataset is not None:
        unseen = read(eval_dataset, "eval_dataset")
        found = heldout_nll(lm, unseen.prompts, unseen.answers, recipe=recipe)
        scorer = AnswerLogps(lm.model, find_layout(lm.model))
        held_out = HeldOut(scorer, lambda: lambda scorer: evaluated(found(scorer)))
    return Trainer(lm, args, recipe, run, len(learnt.idxs), learnt.left_out, held_out)


@dataclass(frozen=True, slots=True)
class Examples:
    """What is given and what is learned, as token ids, one of each an example; and the rows left out, by reason."""

    prompts: list[TokenIds]
    answers: list[TokenIds]
    idxs: list[int]
    left_out: dict[str, int]


def _check(args: Any) -> None:
    if getattr(args, "assistant_only_loss", False):
        raise UsageError(
            "expected assistant_only_loss False, got True: of a conversation, all turns are learned. Give rows of "
            "prompt and completion, of which only the completion is."
        )
    if (kind := getattr(args, "loss_type", "nll")) != "nll":
        raise UsageError(f"unknown loss_type {kind!r}; expected one of: nll")


def _read(rows: list[dict[str, Any]], lm: LanguageModel, args: Any, *, template: str | None, name: str) -> Examples:
    loaded, text_field = rows_in_memory(rows, name=name), getattr(args, "dataset_text_field", "text")
    only = getattr(args, "completion_only_loss", None)
    is_text = text_field in rows[0] and "completion" not in rows[0]
    is_dialogue = "messages" in rows[0] and "completion" not in rows[0]
    if only and (is_text or is_dialogue):
        raise UsageError("expected rows of prompt and completion with completion_only_loss, got others; leave it out.")
    take: Callable[[Row], Any] = _completion
    if is_dialogue:
        take = _dialogue
    elif is_text:
        take = lambda row: check_text(row.get(text_field), text_field)  # noqa: E731
    kept, idxs = [], []
    reasons, details = [q.reason for q in loaded.quarantine], [q.detail for q in loaded.quarantine]
    for row in loaded.rows:
        try:
            kept.append(take(row.columns))
            idxs.append(row.idx)
        except BadRow as bad:
            reasons.append(bad.reason)
            details.append(bad.detail)
    if is_text:
        pairs = _from_first(_text_ids(kept, lm))
    else:
        column = "messages" if is_dialogue else "completion"
        pairs = _message_ids(kept, lm, template_of(rows, column, template))
        if is_dialogue or only is False:
            pairs = _from_first([prompt + answer for prompt, answer in pairs])
    most = most_tokens(lm, getattr(args, "max_length", None))
    short = [(idx, pair) for idx, pair in zip(idxs, pairs, strict=True) if sum(map(len, pair)) <= most]
    left_out = counted([*reasons, *["over_long"] * (len(pairs) - len(short))], len(rows), name=name)
    if not short:
        why = details[0] if details else f"all have more than {most} tokens"
        raise InvalidData(f"{name}: expected at least one usable row, got none of {len(rows)}: {why}. Mend the rows.")
    return Examples([p for _, (p, _) in short], [a for _, (_, a) in short], [idx for idx, _ in short], left_out)


def _completion(row: Row) -> tuple[Messages, Messages]:
    if missing := [name for name in ("prompt", "completion") if name not in row]:
        raise BadRow("missing_column", f"no {' and no '.join(missing)} among {excerpt(list(row), 80)}")
    return prompt_messages(row["prompt"]), answer_messages(row["completion"], "completion")


def _dialogue(row: Mapping[str, Any]) -> tuple[Messages, Messages]:
    messages = row.get("messages")
    if not isinstance(messages, list):
        raise BadRow("bad_messages", f"messages is {type(messages).__name__}; expected a list of them")
    return split_dialogue(messages, "messages")


def _message_ids(
    pairs: Sequence[tuple[Messages, Messages]], lm: LanguageModel, template: str
) -> list[tuple[TokenIds, TokenIds]]:
    loaded, end = load_template(template, lm.tokenizer), end_of_text(lm.tokenizer)
    prompts = tokenise([loaded.prompt(prompt) for prompt, _ in pairs], loaded, lm.tokenizer, opens=True)
    answers = tokenise([loaded.response(answer) for _, answer in pairs], loaded, lm.tokenizer)
    return [(prompt, (*answer, end)) for prompt, answer in zip(prompts, answers, strict=True)]


def _text_ids(texts: Sequence[str], lm: LanguageModel) -> list[TokenIds]:
    """As the tokenizer reads them, special tokens too, since such texts often have a chat template's marks in them."""
    if not texts:
        return []
    end = str(lm.tokenizer.eos_token)
    ids: Any = lm.tokenizer([text + end for text in texts], verbose=False)["input_ids"]
    return [tuple(row) for row in ids]


def _from_first(wholes: Sequence[TokenIds]) -> list[tuple[TokenIds, TokenIds]]:
    """All of it is learned but the first token, which nothing comes before."""
    return [(whole[:1], whole[1:]) for whole in wholes]
