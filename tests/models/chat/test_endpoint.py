"""Against a real server with faults: nothing is lost or paid twice, and what cannot get better is not tried again."""

from __future__ import annotations

import asyncio
import email.utils
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.models.chat.conftest import OpenChat, ask, ask_once
from tests.servers.faulty import (
    Fault,
    FaultyServer,
    broken,
    changed,
    cut_connection,
    dripping,
    large,
    no_quota,
    plain_reply,
    rate_limited,
    redirected,
    refused,
    slow,
    without_content,
    without_usage,
    wrong_json,
)

from smidgen.errors import SmidgenError
from smidgen.models.chat import endpoint
from smidgen.models.chat.asking import ask_each
from smidgen.models.chat.base import BudgetSpent, NoReply, Reply, Sampling
from smidgen.models.chat.budget import Budget, Limit, Prices
from smidgen.models.chat.limits import Limits
from smidgen.models.chat.once import Retries
from smidgen.pairs import Message

PASSING = {
    "429": rate_limited(),
    "429 with seconds": rate_limited("0.05"),
    "408": refused(408),
    "409": refused(409),
    "500": broken(),
    "502": broken(502),
    "503": refused(503, "loading"),
    "cut before the body": cut_connection(0.0),
    "cut in the body": cut_connection(0.5),
    "slow": slow(1.5),
    "dripping": dripping(0.1),
    "not JSON": wrong_json(),
    "empty": wrong_json(b""),
    "a list": wrong_json(b"[1]"),
    "deep": wrong_json(b"[" * 100_000),
    "not UTF-8": wrong_json(b"\xff\xfe{}"),
    "no choices": changed(lambda answer: answer.pop("choices")),
    "empty choices": changed(lambda answer: answer.update(choices=[])),
    "choices of text": changed(lambda answer: answer.update(choices=["hello"])),
    "null content": without_content(),
    "content in parts": changed(lambda answer: answer["choices"][0]["message"].update(content=[{"type": "text"}])),
    "gzip that is none": Fault(headers={"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())
def test_what_may_pass_is_tried_again_and_billed_once(opened: OpenChat, fault: Fault) -> None:
    with FaultyServer(plan=[fault, None]) as server:
        reply = ask_once(opened, server, timeout_seconds=0.5)
        assert reply.text == plain_reply([{"role": "user", "content": "Why?"}])
        assert len(server.asked) == 2 and len(server.bills) == 1
        assert len({asked.key for asked in server.asked}) == 1 and server.asked[0].key
        assert ask_once(opened, server).cached
        assert len(server.asked) == 2


ENDING = {
    "wrong key": (refused(401, "wrong key"), "Set the right key"),
    "no money": (refused(402, "pay"), "Pay, then run the same command again"),
    "forbidden": (refused(403, "no access"), "Ask for access"),
    "unknown model": (refused(404, "no such model"), "got 'teacher' .* Check --model"),
    "quota": (no_quota(), "Pay or wait"),
    "model named in a 400": (refused(400, "pinned to other; requested 'teacher'"), "Check --model"),
    "method": (refused(405), "expected a chat endpoint at http"),
    "redirect": (redirected("http://127.0.0.1:9/v1"), "got status 307"),
}


@pytest.mark.parametrize(("fault", "words"), ENDING.values(), ids=ENDING.keys())
def test_what_concerns_everybody_ends_everything_at_the_first_try(opened: OpenChat, fault: Fault, words: str) -> None:
    with FaultyServer(plan=[fault] * 50) as server:
        with pytest.raises(SmidgenError, match=words) as raised:
            ask_once(opened, server)
        assert not isinstance(raised.value, NoReply)
        assert len(server.asked) == 1 and not server.bills


ALONE = {
    "bad request": (refused(400, "no such role"), "bad_request"),
    "too long": (refused(400, "at most 4096 tokens", code="context_length_exceeded"), "too_long"),
    "filter": (refused(400, "no", code="content_filter"), "content_filter"),
    "too long for the model it names": (
        refused(400, "teacher takes 4096 tokens", code="context_length_exceeded"),
        "too_long",
    ),
    "the model's letters in other words": (refused(400, "two teachers, and teacher-2, are no role"), "bad_request"),
    "413": (refused(413), "too_long"),
    "422": (refused(422), "bad_request"),
    "withheld": (without_content("content_filter"), "content_filter"),
    "too large": (large(300_000), "too_large"),
}


@pytest.mark.parametrize(("fault", "reason"), ALONE.values(), ids=ALONE.keys())
def test_what_concerns_one_conversation_leaves_the_others_alone(
    opened: OpenChat, fault: Fault, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "MOST_REPLY_BYTES", 200_000)
    with FaultyServer(plan=[None, fault, None]) as server:

        async def main() -> list[Reply | NoReply | None]:
            async with opened(server.url) as chat:
                return await ask_each("abc", lambda text: ask(chat, text), concurrency=1)

        first, second, third = asyncio.run(main())
        assert isinstance(first, Reply) and isinstance(third, Reply)
        assert isinstance(second, NoReply) and second.reason == reason
        assert len(server.asked) == 3
        # What was billed, although it is no answer, is not asked again.
        asyncio.run(main())
        assert len(server.asked) == (3 if second.final else 4)
        assert second.final == (fault.status == 200)


def test_after_the_last_try_the_conversation_gets_no_answer_and_the_rest_go_on(opened: OpenChat) -> None:
    with FaultyServer(plan=lambda asked: broken() if "bad" in str(asked.body) else None) as server:

        async def main() -> list[Reply | NoReply | None]:
            async with opened(server.url) as chat:
                return await ask_each(["bad", "good", "bad too"], lambda text: ask(chat, text), concurrency=1)

        bad, good, worse = asyncio.run(main())
        assert isinstance(good, Reply)
        assert isinstance(bad, NoReply) and (bad.reason, bad.detail[:7]) == ("no_answer", "5 tries")
        assert isinstance(worse, NoReply)
        assert len(server.asked) == 11


def test_when_nobody_gets_an_answer_the_work_stops_and_says_so(opened: OpenChat) -> None:
    with FaultyServer(plan=lambda asked: broken()) as server:

        async def main(url: str) -> object:
            async with opened(url) as chat:
                return await ask_each(range(1000), lambda i: ask(chat, str(i)), concurrency=4)

        with pytest.raises(SmidgenError, match=r"none to 3 questions in a row, 5 tries each; the last: status 500"):
            asyncio.run(main(server.url))
        assert len(server.asked) <= 5 * 7
    start = time.monotonic()
    with pytest.raises(SmidgenError, match="expected a server to ask, got none after 3 tries"):
        asyncio.run(main(server.url))
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("dated", [False, True])
def test_retry_after_holds_for_all_callers(opened: OpenChat, dated: bool) -> None:
    wait = 2.2 if dated else 0.6
    answered = []

    def plan(asked: Any) -> Fault | None:
        if answered:
            return None
        answered.append(asked.at_seconds)
        return rate_limited(email.utils.formatdate(time.time() + wait, usegmt=True) if dated else str(wait))

    with FaultyServer(plan=plan) as server:

        async def main() -> None:
            async with opened(server.url) as chat:
                first = asyncio.create_task(ask(chat, "first"))
                while not answered:
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.1)
                await asyncio.gather(first, *(ask(chat, str(i)) for i in range(4)))

        asyncio.run(main())
        # A date has whole seconds only.
        assert min(asked.at_seconds for asked in server.asked[1:]) - answered[0] >= wait - 1.2 * dated - 0.05
        assert len(server.asked) == 6


def test_a_retry_after_beyond_sense_is_bounded() -> None:
    from smidgen.models.chat.failures import retry_after

    assert retry_after("86400", now=0.0) == 120
    assert retry_after("-5", now=0.0) == 0
    assert retry_after("nan", now=0.0) is None
    assert retry_after("Thu, 01 Jan 1970 00:00:30 GMT", now=60.0) == 0


FAULTS = st.sampled_from(
    [None, None, None, rate_limited("0"), broken(), cut_connection(), wrong_json(), without_content()]
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    plan=st.lists(FAULTS, max_size=40), at_once=st.integers(1, 6), budget=st.integers(300, 4000), honours=st.booleans()
)
def test_nothing_is_lost_nothing_is_paid_twice_and_no_budget_is_exceeded(
    opened: OpenChat, tmp_path: Path, plan: list[Fault | None], at_once: int, budget: int, honours: bool
) -> None:
    (tmp_path / "replies.sqlite").unlink(missing_ok=True)
    # Questions are asked twice over, as prompts of a data set are.
    questions = [f"Question {i % 12}?" for i in range(18)]
    with FaultyServer(plan=plan, honours_keys=honours) as server:

        async def main(limit: Limit | None) -> list[Reply | NoReply | None]:
            calm = Retries(tries=60, first_wait_seconds=0.001, longest_wait_seconds=0.002, jitter_seconds=0.001)
            async with opened(server.url, budget=Budget(limit), retries=calm) as chat:
                found = await ask_each(questions, lambda text: ask(chat, text), concurrency=at_once)
                account = chat.store.account()
                assert chat.budget.spent == account.settled + account.unsure
                assert server.tokens_billed <= chat.budget.spent.tokens
                return found

        first = asyncio.run(main(Limit(budget)))
        assert server.tokens_billed <= budget
        n_first = sum(isinstance(reply, Reply) for reply in first)
        assert n_first < len(questions) or all(first)
        second = asyncio.run(main(None))
        for question, before, reply in zip(questions, first, second, strict=True):
            assert isinstance(reply, Reply)
            assert reply.text == plain_reply([{"role": "user", "content": question}])
            assert before is None or (isinstance(before, Reply) and before.text == reply.text)
        if honours:
            assert set(server.times_billed().values()) == {1} and len(server.bills) == 12


def test_what_a_server_without_idempotency_may_have_billed_counts_against_the_budget(opened: OpenChat) -> None:
    with FaultyServer(plan=lambda asked: cut_connection(), honours_keys=False) as server:

        async def main() -> None:
            patient = Retries(tries=100, first_wait_seconds=0.001, longest_wait_seconds=0.002, jitter_seconds=0.001)
            async with opened(server.url, budget=Budget(Limit(1000)), retries=patient) as chat:
                await ask(chat)

        with pytest.raises(BudgetSpent, match="within the budget of 1,000 tokens"):
            asyncio.run(main())
        assert 5 <= len(server.bills) <= 20 and server.tokens_billed <= 1000


def test_the_same_question_asked_at_once_is_asked_once(opened: OpenChat) -> None:
    with FaultyServer(plan=lambda asked: slow(0.1)) as server:

        async def main() -> list[Reply]:
            async with opened(server.url) as chat:
                found = await asyncio.gather(*(ask(chat) for _ in range(5)))
                assert (chat.spending.calls, chat.spending.cached) == (1, 4)
                return found

        replies = asyncio.run(main())
        assert len(server.asked) == 1 and len({reply.text for reply in replies}) == 1
        assert [reply.cached for reply in replies].count(False) == 1


def test_only_the_conversation_and_its_sampling_are_sent(opened: OpenChat) -> None:
    with FaultyServer() as server:

        async def main() -> None:
            async with opened(server.url) as chat:
                turns = (Message("system", "Be kind."), Message("user", "Hi"), Message("assistant", "Hello"))
                await chat((*turns, Message("user", "Why?")), Sampling(max_new_tokens=7, temperature=0.5))
                await ask(chat, "Why?", Sampling(max_new_tokens=7, top_p=0.9, number=3))

        asyncio.run(main())
        first, second = (asked.body for asked in server.asked)
        assert first.keys() == {"model", "messages", "max_tokens", "temperature"}
        assert [turn["role"] for turn in first["messages"]] == ["system", "user", "assistant", "user"]
        assert first["temperature"] == 0.5 and first["max_tokens"] == 7
        assert second.keys() == {*first, "top_p"} and second["temperature"] == 0
        assert "authorization" not in server.asked[0].headers


def test_a_server_that_calls_the_token_limit_otherwise_is_asked_its_way(opened: OpenChat) -> None:
    said = "Unsupported parameter: use 'max_completion_tokens' instead, teacher."
    no = refused(400, said, param="max_tokens", code="unsupported_parameter")
    with FaultyServer(plan=lambda asked: no if "max_tokens" in asked.body else None) as server:

        async def main() -> list[Reply | NoReply | None]:
            async with opened(server.url) as chat:
                return await ask_each("abcdef", lambda text: ask(chat, text), concurrency=3)

        assert all(isinstance(reply, Reply) for reply in asyncio.run(main()))
        assert "max_completion_tokens" in server.asked[-1].body and len(server.asked) <= 9


def test_replies_that_are_cut_empty_or_not_counted(opened: OpenChat) -> None:
    plan = [
        None,
        changed(lambda a: a["choices"][0]["message"].update(content="")),
        without_content("length"),
        without_usage(),
    ]
    plan += [changed(lambda a: a["usage"].update(prompt_tokens=-5, completion_tokens="many"))]
    with FaultyServer(lambda turns: "a b c d e f", plan=plan) as server:

        async def main() -> list[Reply]:
            async with opened(server.url, budget=Budget(prices=Prices(1e6, 2e6))) as chat:
                found = [await ask(chat, text, Sampling(max_new_tokens=4)) for text in "vwxyz"]
                assert chat.spending.estimated == 2 and chat.spending.unsure.tokens > 0
                assert chat.spending.cost == pytest.approx(sum(reply.cost for reply in found))
                return found

        cut, empty, thought, uncounted, miscounted = asyncio.run(main())
        assert (cut.text, cut.cut, cut.completion_tokens, cut.cost) == ("a b c d", True, 4, 4 + 2 * 4)
        assert empty.text == "" and not empty.estimated
        assert thought.text == "" and thought.cut
        assert uncounted.estimated and miscounted.estimated and 0 < miscounted.completion_tokens <= 4


def test_no_more_than_the_limits_are_sent(opened: OpenChat) -> None:
    with FaultyServer() as server:

        async def main() -> None:
            async with opened(server.url, limits=Limits(requests_per_minute=600)) as chat:
                await ask_each(range(75), lambda i: ask(chat, str(i)), concurrency=10)

        asyncio.run(main())
        times = [asked.at_seconds for asked in server.asked]
        # Sixty at once, and then nine a second.
        assert times[74] - times[0] > 14 / (541 / 60)
        assert server.most_at_once <= 10
