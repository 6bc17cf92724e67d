"""The exercise's SFT: gpt2 on the single-turn exchanges of smol-smoltalk that fit 128 tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from data import MAX_LEN
from smidgen.data.checks import BadRow
from smidgen.data.rows import answer_messages, prompt_messages
from smidgen.data.sources import RawRow, load_rows
from smidgen.data.templates import load_template
from smidgen.data.tokens import end_of_text, tokenise
from smidgen.errors import InvalidData
from smidgen.models.load import language_model, load_language_model
from smidgen.pairs import messages_from
from smidgen.training.loop import Recipe
from smidgen.training.record import Row
from smidgen.training.sft import train_on_answers

BASE_MODEL = "openai-community/gpt2"
SMOL_SMOLTALK = "HuggingFaceTB/smol-smoltalk"

Exchange = tuple[tuple[int, ...], tuple[int, ...]]


def prepare_sft_data(
    tokenizer: PreTrainedTokenizerBase, *, source: str = SMOL_SMOLTALK, split: str = "train"
) -> Dataset:
    """Exchanges of one user turn and one answer within 128 tokens: `prompt` and `response`, in the data's order.

    Args:
        source: A hub dataset, a file or a folder, with a column `messages`.
        split: Of a hub dataset; a slice such as `train[:50000]` takes less time and memory.

    Raises:
        InvalidData: No such exchange.
    """
    found = load_rows(source, split=split, columns=("messages",))
    texts = [exchange for row in found.rows if (exchange := _exchange(row))]
    encoded = encode(texts, tokenizer)
    kept = [
        text for text, (prompt, answer) in zip(texts, encoded, strict=True) if len(prompt) + len(answer) <= MAX_LEN + 1
    ]
    print(f"{source}: {found.n_rows} rows, {len(texts)} of a single turn, {len(kept)} within {MAX_LEN} tokens")
    if not kept:
        raise InvalidData(f"{source}: expected an exchange within {MAX_LEN} tokens, got none. Look at its messages.")
    return Dataset.from_list([{"prompt": prompt, "response": response} for prompt, response in kept])


def _exchange(row: RawRow) -> tuple[str, str] | None:
    messages = row.columns.get("messages") if isinstance(row.columns, dict) else None
    if not isinstance(messages, list) or len(messages) != 2:
        return None
    try:
        (prompt,), (answer,) = prompt_messages(messages[:1]), answer_messages(messages[1:], "the answer")
    except BadRow:
        return None
    return prompt.content, answer.content


def encode(exchanges: Sequence[tuple[str, str]], tokenizer: PreTrainedTokenizerBase) -> list[Exchange]:
    """Prompts and answers as token ids; answers end in end of text, so that the model learns to stop."""
    template, end = load_template("plain"), end_of_text(tokenizer)
    prompts = tokenise(
        [template.prompt(messages_from(prompt, "user")) for prompt, _ in exchanges], template, tokenizer, opens=True
    )
    answers = tokenise(
        [template.response(messages_from(answer, "assistant")) for _, answer in exchanges], template, tokenizer
    )
    return [(prompt, (*answer, end)) for prompt, answer in zip(prompts, answers, strict=True)]


def train_sft(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    exchanges: Sequence[tuple[str, str]],
    num_epochs: int = 5,
    batch_size: int = 16,
    lr: float = 5e-5,
    seed: int = 42,
) -> PreTrainedModel:
    """Train `model` in place on answers, never on prompts; `model` itself.

    Args:
        exchanges: Prompts with their answers.
        seed: Of the order of the exchanges.

    Raises:
        InvalidData: No exchange, or one longer than the model's positions.
    """
    encoded = encode(exchanges, tokenizer)
    prompts, answers = [prompt for prompt, _ in encoded], [answer for _, answer in encoded]
    recipe = Recipe(learning_rate=lr, epochs=num_epochs, batch_size=batch_size)
    train_on_answers(
        language_model(model, tokenizer), prompts, answers, recipe=recipe, seed=seed, log_every=100, on_log=_print
    )
    return model


def train_sft_smol_smoltalk(
    num_epochs: int = 5,
    batch_size: int = 16,
    lr: float = 5e-5,
    seed: int = 42,
    *,
    model_name: str = BASE_MODEL,
    source: str = SMOL_SMOLTALK,
    split: str = "train",
) -> PreTrainedModel:
    """Download model and data, filter, and train; the trained model."""
    lm = load_language_model(model_name, device="cuda" if torch.cuda.is_available() else "cpu")
    found = prepare_sft_data(lm.tokenizer, source=source, split=split)
    exchanges = list(zip(found["prompt"], found["response"], strict=True))
    return train_sft(lm.model, lm.tokenizer, exchanges, num_epochs, batch_size, lr, seed)


def _print(row: Row) -> None:
    print(f"step {row['step']:.0f}: mean loss {row['loss']:.4f}")
