"""Completions of prompts by a chat model, be it behind HTTP: each prompt is what the user says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from smidgen.evaluation.completions import Completed
from smidgen.evaluation.drawing import Drawing, until
from smidgen.models.chat.asking import ask_each
from smidgen.models.chat.base import Chat, Reply, Sampling
from smidgen.models.chat.estimate import Call
from smidgen.pairs import messages_from


def calls(prompts: Sequence[str], drawing: Drawing) -> list[Call]:
    """What will be asked: each prompt's replies in the order of their letters."""
    return [
        Call(messages_from(prompt, "user"), _sampling(drawing, number))
        for prompt in prompts
        for number in range(drawing.n)
    ]


async def completed_by_chat(
    chat: Chat,
    prompts: Sequence[str],
    drawing: Drawing,
    *,
    concurrency: int,
    on_done: Callable[[int, object], None] | None = None,
) -> tuple[list[Completed], list[str]]:
    """The prompts whose completions are all there, and for each reply that is not, why.

    Args:
        drawing: Its seed and top_k play no part: such a server draws as it will.
        concurrency: Conversations at once. Positive.
        on_done: Called with the position of a call and what became of it.
    """
    wanted = calls(prompts, drawing)

    async def reply(call: Call) -> Reply:
        return await chat(call.messages, call.sampling)

    found = await ask_each(wanted, reply, concurrency=concurrency, on_done=on_done)
    missing = [
        "the budget is spent" if reply is None else str(reply) for reply in found if not isinstance(reply, Reply)
    ]
    rows = []
    for number, prompt in enumerate(prompts):
        replies = [reply for reply in found[number * drawing.n : (number + 1) * drawing.n] if isinstance(reply, Reply)]
        if len(replies) == drawing.n:
            texts = tuple(until(reply.text, drawing.stop) for reply in replies)
            cut = tuple(reply.cut and text == reply.text for reply, text in zip(replies, texts, strict=True))
            rows.append(Completed(prompt, texts, cut))
    return rows, missing


def _sampling(drawing: Drawing, number: int) -> Sampling:
    return Sampling(
        max_new_tokens=drawing.max_new_tokens, temperature=drawing.temperature, top_p=drawing.top_p, number=number
    )
