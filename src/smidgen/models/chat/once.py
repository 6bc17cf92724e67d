"""Ask once, pay once: a chat model whose replies are kept, within a budget, and tried again where a try fails."""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

import stamina

from smidgen.errors import SmidgenError
from smidgen.models.chat.base import NoReply, Reply, Sampling
from smidgen.models.chat.budget import Budget, Reservation, Usage, worst_case
from smidgen.models.chat.limits import Limits
from smidgen.models.chat.replies import ReplyStore, reply_key
from smidgen.models.chat.source import Answer, Source, TryFailed
from smidgen.models.chat.spending import Spending
from smidgen.pairs import Messages

# Rules of thumb for servers that count no tokens, in text of the Latin alphabet.
_BYTES_A_TOKEN = 4
_TEMPLATE_TOKENS = 4
_REFUSED = {
    "content_filter": "the server withheld its answer",
    "too_large": "the reply was larger than any answer can be",
}
# Without this, each retry would be a line on the terminal.
logging.getLogger("stamina").addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often to try, and how long to wait in between: twice as long each time, and some luck.

    Attributes:
        tries: Of one question. Positive.
        first_wait_seconds: After the first try.
        longest_wait_seconds: Between two tries, unless the server asks for more.
        jitter_seconds: Most luck on top of a wait.
        tries_for_a_sign: Where nobody has ever answered at that address.
        failed_in_a_row: So many questions in a row that used up their tries end the work for all.
    """

    tries: int = 8
    first_wait_seconds: float = 0.5
    longest_wait_seconds: float = 60.0
    jitter_seconds: float = 1.0
    tries_for_a_sign: int = 3
    failed_in_a_row: int = 3


@dataclass(slots=True, kw_only=True)
class AskOnce:
    """A `Chat` that asks a source, and never twice for what it has.

    Attributes:
        source: Whom to ask.
        store: Replies that are there already, and where new ones go.
        budget: What may be spent.
        spending: Counts along.
        limits: How fast to ask.
        retries: How often.
    """

    source: Source
    store: ReplyStore
    budget: Budget = field(default_factory=Budget)
    spending: Spending = field(default_factory=Spending)
    limits: Limits = field(default_factory=Limits)
    retries: Retries = field(default_factory=Retries)
    _asked: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)
    _heard: bool = False
    _failed: int = 0

    async def __call__(self, messages: Messages, sampling: Sampling) -> Reply:
        """See `Chat`."""
        key = reply_key(self.source.name, self.source.model, messages, sampling)
        # Who asks the same while it is asked waits for that reply.
        lock = self._asked.setdefault(key, asyncio.Lock())
        async with lock:
            found = self.store.find(key)
            if found is not None:
                self.spending.cached += 1
            else:
                found = await self._ask(key, messages, sampling)
        if isinstance(found, NoReply):
            raise found
        return found

    async def _ask(self, key: str, messages: Messages, sampling: Sampling) -> Reply | NoReply:
        waits, n_tries = self.retries, 0

        def goes_on(error: Exception) -> bool | float:
            if not isinstance(error, TryFailed) or (not self._heard and n_tries >= waits.tries_for_a_sign):
                return False
            # Who waits as long as told comes back with all others, but for some luck.
            return True if error.wait is None else error.wait + random.uniform(0, waits.jitter_seconds)

        try:
            async for attempt in stamina.retry_context(
                on=goes_on,
                attempts=waits.tries,
                timeout=None,
                wait_initial=waits.first_wait_seconds,
                wait_max=waits.longest_wait_seconds,
                wait_jitter=waits.jitter_seconds,
            ):
                n_tries = attempt.num
                self.spending.retries += n_tries > 1
                with attempt:
                    found = await self._try(key, messages, sampling, n_tries)
                    self._failed = 0
                    return found
        except TryFailed as failure:
            raise self._given_up(failure, n_tries) from None
        except NoReply:
            self._failed = 0
            self.spending.no_replies += 1
            raise
        raise AssertionError("the last try either answers or raises")

    async def _try(self, key: str, messages: Messages, sampling: Sampling, n_tries: int) -> Reply | NoReply:
        most = worst_case(messages, sampling)
        async with self.budget.reserved(most) as reservation:
            await self.limits.enter(most.tokens)
            self.store.begin(key, most)
            reservation.sent()
            billed = True
            try:
                answer = await self.source.answer(messages, sampling, key)
            except TryFailed as failure:
                billed = failure.unsure
                self._heard |= not failure.unreachable
                self._slow_down(failure, n_tries)
                raise
            except SmidgenError:
                billed, self._heard = False, True
                raise
            else:
                self._heard = True
                return self._keep(key, answer, messages, most, reservation)
            finally:
                if reservation.is_open:
                    self._end_without(key, most, reservation, billed=billed)

    def _slow_down(self, failure: TryFailed, n_tries: int) -> None:
        if failure.wait is not None:
            self.limits.pause(failure.wait)
        elif failure.crowded:
            wait = self.retries.first_wait_seconds * 2.0 ** (n_tries - 1)
            self.limits.pause(min(wait, self.retries.longest_wait_seconds))

    def _end_without(self, key: str, most: Usage, reservation: Reservation, *, billed: bool) -> None:
        """A try ends without an answer; also where it is cancelled, as by Ctrl-C."""
        if billed:
            self.store.end_unsure(key)
            self.spending.unsure += most
            self.spending.n_unsure += 1
        else:
            self.store.end_free(key)
            reservation.settle(Usage())
            self.limits.leave(most.tokens, 0)

    def _keep(
        self, key: str, answer: Answer, messages: Messages, most: Usage, reservation: Reservation
    ) -> Reply | NoReply:
        """Settle what was set aside, and keep the answer for good."""
        told, atop = _usage(answer, messages, most)
        reply = _reply(answer, told, estimated=atop.tokens > 0, cost=self.budget.prices.cost(told))
        forgiven = self.store.settle(key, reply, told, atop=atop, forgive=answer.replayed)
        reservation.settle(told + atop)
        self.budget.forgive(forgiven.usage)
        self.limits.leave(most.tokens, told.tokens)
        self.spending.calls += 1
        self.spending.no_replies += isinstance(reply, NoReply)
        self.spending.estimated += atop.tokens > 0
        self.spending.used += told
        self.spending.unsure += atop
        self.spending.unsure -= forgiven.usage
        self.spending.n_unsure -= forgiven.n_tries
        return reply

    def _given_up(self, failure: TryFailed, n_tries: int) -> SmidgenError:
        self.spending.no_replies += 1
        if failure.unreachable:
            return SmidgenError(
                f"expected a server to ask, got none after {n_tries} tries; {failure.detail}. Start it, or check "
                "--teacher; what is done is kept, and the same command goes on from there."
            )
        self._failed += 1
        if self._failed >= self.retries.failed_in_a_row:
            return SmidgenError(
                f"expected answers, got none to {self._failed} questions in a row, {n_tries} tries each; the last: "
                f"{failure.detail}. Check --teacher and --model, and the server's own log; what is done is kept, and "
                "the same command goes on from there."
            )
        return NoReply("no_answer", f"{n_tries} tries; the last: {failure.detail}")


def _usage(answer: Answer, messages: Messages, most: Usage) -> tuple[Usage, Usage]:
    """Tokens of a call, estimated where the server does not tell, and how many more they may be then."""
    prompt, completion = answer.prompt_tokens, answer.completion_tokens
    most_prompt, most_completion = prompt, completion
    if prompt is None or most_prompt is None:
        text = sum(len(m.content.encode("utf-8", "surrogatepass")) for m in messages)
        prompt, most_prompt = text // _BYTES_A_TOKEN + _TEMPLATE_TOKENS * len(messages), most.prompt
    if completion is None or most_completion is None:
        text = len(answer.text.encode())
        most_completion = most.completion if answer.refused else min(most.completion, text + 1)
        completion = min(most_completion, text // _BYTES_A_TOKEN + 1)
    told = Usage(prompt, completion)
    return told, Usage(most_prompt, most_completion) - told


def _reply(answer: Answer, used: Usage, *, estimated: bool, cost: float) -> Reply | NoReply:
    if answer.refused:
        return NoReply(answer.refused, _REFUSED[answer.refused], final=True)
    return Reply(
        text=answer.text,
        model=answer.model,
        cut=answer.cut,
        prompt_tokens=used.prompt,
        completion_tokens=used.completion,
        estimated=estimated,
        cost=cost,
    )
