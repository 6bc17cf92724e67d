"""The judge that is a chat model with a rubric: asked in both orders, and a disagreement of the two is a tie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import PositiveInt

from smidgen.errors import UsageError
from smidgen.evaluation.judges.base import Desk, Judge, judge, no_verdict
from smidgen.evaluation.judges.pairwise import DEFAULT_RUBRIC, conversation
from smidgen.evaluation.matches import Match
from smidgen.evaluation.samples import Sample, read_samples
from smidgen.evaluation.verdict_parsing import FIRST, NEITHER, SECOND, read_choice
from smidgen.evaluation.verdicts import LOSS, TIE, WIN, Verdict
from smidgen.models.chat.asking import ask_each
from smidgen.models.chat.base import NoReply, Sampling
from smidgen.models.chat.estimate import Call, Estimate, estimate
from smidgen.models.chat.spending import Spending
from smidgen.models.chat.teacher import Teacher, open_chat
from smidgen.models.chat.whole import Asking, whole_reply
from smidgen.pairs import Messages
from smidgen.runs import run_async


@dataclass(frozen=True, slots=True)
class _Said:
    """What one conversation brought."""

    choice: str | None
    problem: str = ""
    reply: str = ""


@judge
def chat(
    desk: Desk,
    *,
    rubric: str = "",
    samples: str = "",
    most_samples: PositiveInt = 20,
    max_new_tokens: PositiveInt = 512,
    most_new_tokens: PositiveInt = 4096,
    one_turn: bool = False,
) -> Judge:
    """A chat model prefers one of two answers by a rubric, asked once with each of them first.

    Equal answers tie without a question. A reply that does not end in a verdict, in either order, leaves the match
    without one.

    Args:
        rubric: What "better" means; --rubric where empty.
        samples: A file of sample preferences that are shown to it; --samples where empty.
        most_samples: Of them, the first so many.
        max_new_tokens: Of a reply, at first; one that is cut is asked for again with twice as many.
        most_new_tokens: Where that ends.
        one_turn: Put the rubric into the user's turn, for models that take no system turn.
    """
    if desk.teacher is None or desk.folder is None:
        raise UsageError(
            "expected a chat model to ask, got none. Give --teacher with an address such as http://localhost:8000/v1 "
            "and --model with a name that it knows, or --teacher local and --model with a folder."
        )
    file = samples or desk.samples
    found = read_samples(file) if file else []
    if most_samples < 1:
        raise UsageError(f"expected most_samples of at least 1, got {most_samples}; leave --samples out for none.")
    asking = Asking(
        max_new_tokens=max_new_tokens, most_new_tokens=most_new_tokens, one_turn=one_turn, concurrency=desk.concurrency
    )
    said = f"{min(len(found), most_samples)} of {len(found)} sample preferences shown to the judge" if found else ""
    return ChatJudge(
        teacher=desk.teacher,
        desk=desk,
        folder=desk.folder,
        asking=asking,
        rubric=rubric or desk.rubric or DEFAULT_RUBRIC,
        samples=tuple(found[:most_samples]),
        notes=(said,) if said else (),
    )


@dataclass(slots=True, kw_only=True)
class ChatJudge:
    """A chat model ready to judge; what it cost stands in `spending` once it has."""

    teacher: Teacher
    desk: Desk
    folder: Path
    asking: Asking
    rubric: str
    samples: tuple[Sample, ...] = ()
    notes: tuple[str, ...] = ()
    spending: Spending | None = field(default=None)

    def __call__(self, matches: Sequence[Match]) -> list[Verdict]:
        asked = [(m, *self._orders(m)) for m in matches]
        distinct = list(dict.fromkeys(turns for _, *orders in asked for turns in orders))
        said = run_async(self._ask(distinct))
        return [
            _verdict(m, *(said[turns] for turns in orders)) if orders else no_verdict(m, "chat", outcome=TIE)
            for m, *orders in asked
        ]

    def plan(self, matches: Sequence[Match]) -> Estimate:
        """What asking will take; replies that are cut are asked for again, on top of it."""
        distinct = dict.fromkeys(turns for m in matches for turns in self._orders(m))
        sampling = Sampling(max_new_tokens=self.asking.max_new_tokens)
        return estimate((Call(turns, sampling) for turns in distinct), prices=self.teacher.prices)

    def _orders(self, m: Match) -> list[Messages]:
        """The two conversations on a match; none where its answers are equal."""
        if m.a == m.b:
            return []
        orders = ((m.a, m.b), (m.b, m.a))
        one_turn = self.asking.one_turn
        return [conversation(self.rubric, m.prompt, *o, samples=self.samples, one_turn=one_turn) for o in orders]

    async def _ask(self, conversations: Sequence[Messages]) -> Mapping[Messages, _Said]:
        async with open_chat(self.teacher, self.folder) as (ask, spending):
            self.spending = spending

            async def work(turns: Messages) -> _Said:
                reply = await whole_reply(ask, turns, self.asking)
                if reply.cut:
                    return _Said(None, "cut", reply.text)
                found = read_choice(reply.text)
                return _Said(found.choice, found.problem, reply.text)

            with self.desk.progress(len(conversations), spending, "judging") as show:
                results = await ask_each(conversations, work, concurrency=self.asking.concurrency, on_done=show)
        return {turns: _settled(result) for turns, result in zip(conversations, results, strict=True)}


def _settled(result: _Said | NoReply | None) -> _Said:
    if result is None:
        return _Said(None, "waiting")
    return _Said(None, result.reason) if isinstance(result, NoReply) else result


def _verdict(m: Match, a_first: _Said, b_first: _Said) -> Verdict:
    """What both orders come to."""
    orders = " ".join(said.choice or said.problem for said in (a_first, b_first))
    # By the models' own names and sorted: whoever turns the verdict round leaves its words as they are.
    replies = sorted(((m.model_a, a_first.reply), (m.model_b, b_first.reply)))
    why = "\n\n".join(f"[{name} first] {reply}" for name, reply in replies if reply)
    # Not the first one found: which order failed must not depend on who is called a.
    problems = sorted({said.problem for said in (a_first, b_first) if said.choice is None})
    if problems:
        return no_verdict(m, "chat", problem=problems[0], orders=orders, why=why)
    one = {FIRST: WIN, NEITHER: TIE, SECOND: LOSS}[a_first.choice or ""]
    other = {FIRST: LOSS, NEITHER: TIE, SECOND: WIN}[b_first.choice or ""]
    outcome = one if one == other else TIE
    return no_verdict(m, "chat", outcome=outcome, flipped=one != other, orders=orders, why=why)
