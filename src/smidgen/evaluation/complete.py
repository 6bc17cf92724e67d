"""Completions of prompts by a model in this process: several a prompt, drawn by chance, or one decoded greedily."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Sequence

from smidgen.data.templates import Template
from smidgen.data.tokens import encode_prompts
from smidgen.errors import InvalidData
from smidgen.evaluation.completions import Completed, Completions
from smidgen.evaluation.drawing import Drawing, until
from smidgen.models.generate import generate, sample
from smidgen.models.load import LanguageModel
from smidgen.pairs import Message


def complete(
    lm: LanguageModel,
    template: Template,
    prompts: Sequence[str],
    *,
    model: str = "model",
    label: str = "COMPLETION",
    n: int = 3,
    seed: int = 0,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    max_new_tokens: int = 64,
    stop: Sequence[str] = (),
    batch_size: int = 32,
) -> Completions:
    """Completions of every prompt.

    A completion's luck follows from the seed, its prompt and its letter alone: other prompts, their order and the batch
    size do not change it, and a prompt that comes twice is completed twice alike.

    Args:
        prompts: Single turns, as they stand in their file. At least one.
        model: The model's name, for people.
        label: What a completion is called.
        n: Completions a prompt, and so on: see `Drawing`.
        batch_size: Completions at once.

    Raises:
        UsageError: A setting out of its range.
        InvalidData: A prompt that leaves the model no position to write at; says which.
    """
    drawing = Drawing(
        n=n,
        seed=seed,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        max_new_tokens=max_new_tokens,
        stop=tuple(stop),
    )
    asked = as_read(lm, template, prompts, drawing, truncate=False)
    rows = completed(lm, template, prompts, drawing, asked=asked, batch_size=batch_size)
    return Completions(model=model, rows=tuple(rows), label=label, meta=drawing.meta())


def completed(
    lm: LanguageModel,
    template: Template,
    prompts: Sequence[str],
    drawing: Drawing,
    *,
    asked: Sequence[str] | None = None,
    batch_size: int = 32,
) -> list[Completed]:
    """The rows of `complete`.

    Args:
        asked: What the model reads in place of the prompts, such as their ends; they decide the luck all the same.
    """
    ids = encode_prompts(prompts if asked is None else asked, template, lm.tokenizer)
    written = _written(lm, ids, [_row_id(prompt) for prompt in prompts], drawing, batch_size)
    # The space that opens an answer is the template's, and is not part of it.
    space = " " if template.response((Message("assistant", "x"),)).startswith(" ") else ""
    rows = []
    for prompt, prompt_ids, answers in zip(prompts, ids, written, strict=True):
        most = min(drawing.max_new_tokens, lm.max_positions - len(prompt_ids))
        texts, cut = [], []
        for tokens in answers:
            whole = lm.tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
            whole = str(whole).removeprefix(space)
            texts.append(until(whole, drawing.stop))
            # End of text is not among the tokens: a completion that reached it is shorter than the most.
            cut.append(len(tokens) >= most and texts[-1] == whole)
        rows.append(Completed(prompt, tuple(texts), tuple(cut)))
    return rows


def as_read(
    lm: LanguageModel, template: Template, prompts: Sequence[str], drawing: Drawing, *, truncate: bool
) -> list[str]:
    """What a model reads of prompts: all, or where they are too long, and may be truncated, their ends.

    Args:
        truncate: Whether to cut prompts that leave less room than `max_new_tokens`.

    Raises:
        InvalidData: A prompt that leaves no position to write at; says which.
    """
    texts = list(prompts)
    room = lm.max_positions - (min(drawing.max_new_tokens, lm.max_positions - 1) if truncate else 1)
    for i, ids in enumerate(encode_prompts(prompts, template, lm.tokenizer)):
        if len(ids) > room:
            texts[i] = end_that_fits(lm, template, prompts[i], room) if truncate else ""
            if not texts[i].strip():
                advice = "give fewer --max-new-tokens" if truncate else "give --truncate-prompt, which keeps its end"
                raise InvalidData(
                    f"prompt {i + 1} ({prompts[i][:40]!r}…): expected at most {room} tokens, which leaves the model's "
                    f"{lm.max_positions} positions room to write, got {len(ids)}. Shorten it, or {advice}."
                )
    return texts


def end_that_fits(lm: LanguageModel, template: Template, prompt: str, room: int) -> str:
    """The longest end of a prompt that has at most `room` tokens in its template; empty where none has."""

    def fits(start: int) -> bool:
        return len(encode_prompts([prompt[start:]], template, lm.tokenizer)[0]) <= room

    return prompt[bisect_left(range(len(prompt)), True, key=fits) :]


def _row_id(prompt: str) -> int:
    return int.from_bytes(hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def _written(
    lm: LanguageModel, ids: Sequence[Sequence[int]], row_ids: Sequence[int], drawing: Drawing, batch_size: int
) -> list[list[tuple[int, ...]]]:
    """The tokens of every completion."""
    if drawing.temperature == 0:
        greedy = generate(lm, ids, max_new_tokens=drawing.max_new_tokens, batch_size=batch_size)
        return [[tokens] for tokens in greedy]
    drawn = sample(
        lm,
        ids,
        seed=drawing.seed,
        n_answers=drawing.n,
        max_new_tokens=drawing.max_new_tokens,
        temperature=drawing.temperature,
        top_p=drawing.top_p,
        top_k=drawing.top_k,
        row_ids=row_ids,
        batch_size=batch_size,
    )
    return [[completion.tokens for completion in answers] for answers in drawn]
