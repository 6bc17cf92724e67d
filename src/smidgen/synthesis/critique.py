"""Preference pairs without annotators: a teacher answers, criticises its answer, and revises it.

Each prompt, inside a frame of the task, opens one growing conversation with the teacher. The revision becomes the
chosen answer of a pair, the original the rejected one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from smidgen.data.checks import BadRow, check_characters
from smidgen.errors import UsageError
from smidgen.models.chat.asking import ask_each
from smidgen.models.chat.base import Chat, NoReply, Reply, Sampling
from smidgen.pairs import Message, Messages, random_key
from smidgen.synthesis.task import Frame, Task

# The teacher's three turns, in their order.
STEPS = ("original", "critique", "revision")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """A prompt in a frame, to be asked.

    Attributes:
        idx: Position among the draws, from 0.
        row: Zero-based position of the prompt in its list.
        prompt: As given.
        frame: What stands around it.
    """

    idx: int
    row: int
    prompt: str
    frame: Frame

    @property
    def asked(self) -> str:
        """The user's first turn."""
        return self.frame.around(self.prompt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A conversation that came to its end; replies stand in the order of `STEPS`."""

    draw: Draw
    replies: tuple[Reply, Reply, Reply]

    @property
    def original(self) -> str:
        """The first answer, without white space around it."""
        return self.replies[0].text.strip()

    @property
    def critique(self) -> str:
        """What the teacher finds wrong with it."""
        return self.replies[1].text.strip()

    @property
    def revision(self) -> str:
        """The answer written anew, without white space around it."""
        return self.replies[2].text.strip()


@dataclass(frozen=True, slots=True)
class Failed:
    """A conversation that broke off.

    Attributes:
        replies: Those before it did; they were paid for.
        step: The one of `STEPS` that has no usable reply.
        reason: A short name, to count by.
        detail: One line.
        unanswered: Whether no reply came and none is stored as the answer; asked again, one might.
    """

    draw: Draw
    replies: tuple[Reply, ...]
    step: str
    reason: str
    detail: str
    unanswered: bool


def draw_prompts(prompts: Sequence[str], frames: Sequence[Frame], *, n: int | None = None, seed: int = 0) -> list[Draw]:
    """Draw prompts and frames for them: no prompt twice before each was used once, nothing twice in the same frame.

    Draws depend on the seed, a prompt's position and the frames' names alone. Fewer draws are the first of more. A
    prompt that stands in the list again is used as if it stood there once.

    Args:
        n: How many; without it, every prompt once.

    Raises:
        UsageError: Fewer than `n` exist.
    """
    rows = list({prompt: row for row, prompt in reversed(list(enumerate(prompts)))}.values())
    n_all = len(rows) * len(frames)
    n = len(rows) if n is None else n
    if n > n_all:
        raise UsageError(
            f"expected --n of at most {n_all:,} ({len(rows):,} different prompts in {len(frames)} frames each), "
            f"got {n:,}; give more prompts, more frames, or a smaller --n."
        )
    found = [
        (row, sorted(frames, key=lambda frame: random_key(f"{seed}:{frame.name}", row))[turn])
        for turn in range(-(-n // len(rows)))
        for row in sorted(rows, key=lambda row: random_key(f"{seed}:turn {turn}", row))
    ]
    return [Draw(idx=i, row=row, prompt=prompts[row], frame=frame) for i, (row, frame) in enumerate(found[:n])]


def opening(task: Task, asked: str) -> Messages:
    """A conversation up to its first answer: the task's system turn, if it has one, and what is asked."""
    system = (Message("system", task.system),) if task.system else ()
    return (*system, Message("user", asked))


async def revise(chat: Chat, task: Task, draw: Draw, sampling: Sampling) -> Revision | Failed:
    """Have the teacher answer, criticise and revise, in one growing conversation.

    Every reply goes back to the teacher as it came, as a turn of the assistant: nothing in it opens another turn.

    Raises:
        SmidgenError: Of a kind that no conversation would survive, such as a spent budget.

    Source: Gallego 2024, arXiv:2402.08005, how its pairs are made.
    """
    conversation = opening(task, draw.asked)
    replies: list[Reply] = []
    for step, turn in zip(STEPS, (None, task.critique, task.revise), strict=True):
        conversation += () if turn is None else (Message("user", turn),)
        try:
            reply = await chat(conversation, sampling)
        except NoReply as none:
            return Failed(draw, tuple(replies), step, none.reason, none.detail, unanswered=not none.final)
        replies.append(reply)
        if problem := _problem(reply.text):
            return Failed(draw, tuple(replies), step, *problem, unanswered=False)
        conversation += (Message("assistant", reply.text),)
    original, critique, revision = replies
    return Revision(draw=draw, replies=(original, critique, revision))


def _problem(text: str) -> tuple[str, str] | None:
    """Reason and detail where a reply cannot be used as an answer or as a turn."""
    if not text.strip():
        return "empty_reply", "only white space" if text else "no text"
    try:
        check_characters(text, "the reply")
    except BadRow as bad:
        return bad.reason, bad.detail
    return None


async def revise_all(
    chat: Chat,
    task: Task,
    draws: Sequence[Draw],
    sampling: Sampling,
    *,
    concurrency: int = 8,
    on_done: Callable[[int, object], None] | None = None,
) -> list[Revision | Failed | None]:
    """What became of each draw, in the order of draws; None for those that the budget did not reach.

    Args:
        concurrency: Most conversations at once; the results do not depend on it.
        on_done: Called with the position and the outcome of each as it ends.

    Raises:
        SmidgenError: The teacher would answer nobody: a wrong key, an unknown model.
    """

    async def work(draw: Draw) -> Revision | Failed:
        return await revise(chat, task, draw, sampling)

    results = await ask_each(draws, work, concurrency=concurrency, on_done=on_done)
    # A conversation that gets no reply is a Failed already.
    return cast("list[Revision | Failed | None]", results)
