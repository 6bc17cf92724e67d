"""A model in this process as one to chat with: conversations that wait at the same time are answered together."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass

from smidgen.data.templates import Template, load_template
from smidgen.data.tokens import TokenIds, tokenise
from smidgen.errors import UsageError
from smidgen.models.chat.base import NoReply, Sampling
from smidgen.models.chat.source import Answer, Source
from smidgen.models.generate import generate, sample
from smidgen.models.load import LanguageModel
from smidgen.pairs import Message, Messages

# How long the first conversation of a batch waits for company.
_GATHER_SECONDS = 0.005


def own_template(lm: LanguageModel, name: str | None = None) -> Template:
    """The template named, or else the tokenizer's own, or plain where it has none."""
    has_one = bool(getattr(lm.tokenizer, "chat_template", None))
    return load_template(name or ("chat" if has_one else "plain"), lm.tokenizer)


@dataclass(slots=True)
class _Waiting:
    prompt: TokenIds
    sampling: Sampling
    # Of the conversation and of which reply to it is wanted: decides the luck of its draws.
    row_id: int
    answer: asyncio.Future[Answer]


@asynccontextmanager
async def open_local(
    lm: LanguageModel, template: Template, *, model: str = "local", batch_size: int = 16, seed: int = 0
) -> AsyncIterator[Source]:
    """A model of this process, which answers on a thread of its own.

    A reply follows from the weights, the conversation, its sampling and the seed; the conversations that happen to be
    answered with it do not change it.

    Args:
        lm: The model.
        template: How a conversation becomes text.
        model: What replies say they come from.
        batch_size: Most conversations at once.
        seed: Of all draws.
    """
    waiting: asyncio.Queue[_Waiting] = asyncio.Queue()

    async def answer(messages: Messages, sampling: Sampling, key: str) -> Answer:
        one = _Waiting(
            _prompt(lm, template, messages),
            sampling,
            _row_id(messages, sampling.number),
            asyncio.get_running_loop().create_future(),
        )
        await waiting.put(one)
        return await one.answer

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="local-model") as thread:
        worker = asyncio.create_task(_serve(waiting, thread, lm, template, model, batch_size, seed))
        try:
            yield Source(name=f"local {lm.fingerprint} {template.name} {seed}", model=model, answer=answer)
        finally:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)


def _row_id(messages: Messages, number: int) -> int:
    text = json.dumps([number, *([m.role, m.content] for m in messages)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _prompt(lm: LanguageModel, template: Template, messages: Messages) -> TokenIds:
    """A conversation's tokens.

    Raises:
        NoReply: Roles that the template does not take, or more tokens than the model has positions.
    """
    try:
        (prompt,) = tokenise([template.prompt(messages)], template, lm.tokenizer, opens=True)
    except UsageError as error:
        raise NoReply("bad_request", str(error)) from None
    if not 0 < len(prompt) < lm.max_positions:
        raise NoReply(
            "too_long" if prompt else "empty",
            f"{len(prompt)} tokens; expected at least 1 and fewer than the model's {lm.max_positions} positions",
        )
    return prompt


async def _serve(
    waiting: asyncio.Queue[_Waiting],
    thread: ThreadPoolExecutor,
    lm: LanguageModel,
    template: Template,
    model: str,
    batch_size: int,
    seed: int,
) -> None:
    """Answer what waits, again and again."""
    loop = asyncio.get_running_loop()
    while True:
        batch = [await waiting.get()]
        await asyncio.sleep(_GATHER_SECONDS)
        while len(batch) < batch_size and not waiting.empty():
            batch.append(waiting.get_nowait())
        for sampling, group in _alike(batch).items():
            try:
                answers = await loop.run_in_executor(thread, _answers, lm, template, model, seed, sampling, group)
            except Exception as error:
                for one in group:
                    if not one.answer.done():
                        one.answer.set_exception(error)
                continue
            for one, found in zip(group, answers, strict=True):
                if not one.answer.done():  # who asked may be gone
                    one.answer.set_result(found)


def _alike(batch: Sequence[_Waiting]) -> dict[Sampling, list[_Waiting]]:
    """Conversations by how they are answered, whichever reply to them is wanted."""
    groups: dict[Sampling, list[_Waiting]] = {}
    for one in batch:
        s = one.sampling
        alike = Sampling(max_new_tokens=s.max_new_tokens, temperature=s.temperature, top_p=s.top_p)
        groups.setdefault(alike, []).append(one)
    return groups


def _answers(
    lm: LanguageModel, template: Template, model: str, seed: int, sampling: Sampling, group: Sequence[_Waiting]
) -> list[Answer]:
    prompts = [one.prompt for one in group]
    if sampling.temperature == 0:
        written = generate(lm, prompts, max_new_tokens=sampling.max_new_tokens)
    else:
        drawn = sample(
            lm,
            prompts,
            seed=seed,
            row_ids=[one.row_id for one in group],
            max_new_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
        )
        written = [completions[0].tokens for completions in drawn]
    # The space that opens an answer is the template's, and is not part of it.
    space = " " if template.response((Message("assistant", "x"),)).startswith(" ") else ""
    answers = []
    for prompt, tokens in zip(prompts, written, strict=True):
        text = lm.tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        most = min(sampling.max_new_tokens, lm.max_positions - len(prompt))
        # End of text is not among the tokens, so that an answer which reached it is shorter than the most.
        cut = len(tokens) >= most
        answers.append(
            Answer(
                text=str(text).removeprefix(space),
                model=model,
                cut=cut,
                prompt_tokens=len(prompt),
                completion_tokens=len(tokens) + (not cut),
            )
        )
    return answers
