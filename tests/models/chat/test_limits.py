"""In no minute goes more than allowed, those who wait go in their order, and a pause holds for all."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.errors import UsageError
from smidgen.models.chat.limits import Limits


class Time:
    """A clock that stands still while anybody can run, and then jumps to the next who sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._order = itertools.count()

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._order), woken))
        await woken.wait()

    async def run(self, *work: Coroutine[Any, Any, None]) -> None:
        tasks = [asyncio.create_task(one) for one in work]
        while not all(task.done() for task in tasks):
            for _ in range(20):
                await asyncio.sleep(0)
            if self._sleepers:
                at, _, woken = heapq.heappop(self._sleepers)
                self.now = max(self.now, at)
                woken.set()
        await asyncio.gather(*tasks)


def sent(limits: Limits, time: Time, amounts: list[float]) -> list[tuple[float, int]]:
    """When each of these requests, all waiting from the start, was let go."""
    log: list[tuple[float, int]] = []

    async def one(i: int) -> None:
        await limits.enter(amounts[i])
        log.append((time.now, i))

    asyncio.run(time.run(*(one(i) for i in range(len(amounts)))))
    return log


@settings(max_examples=12, deadline=None)
@given(limit=st.integers(1, 90), n=st.integers(1, 100))
def test_no_minute_has_more_requests_than_allowed_nor_wastes_many(limit: int, n: int) -> None:
    time = Time()
    log = sent(Limits(requests_per_minute=limit, clock=time.clock, sleep=time.sleep), time, [0.0] * n)
    times = [at for at, _ in log]
    assert max(sum(start <= at < start + 60 - 1e-6 for at in times) for start in times) <= limit
    assert [i for _, i in log] == list(range(n))
    # At nine tenths of the speed allowed, or better.
    assert times[-1] <= n / (0.9 * limit) * 60


@settings(max_examples=12, deadline=None)
@given(limit=st.integers(100, 5000), amounts=st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_no_minute_has_more_tokens_than_allowed(limit: int, amounts: list[float]) -> None:
    time = Time()
    tokens = [amount * limit / 10 for amount in amounts]
    log = sent(Limits(tokens_per_minute=limit, clock=time.clock, sleep=time.sleep), time, tokens)
    for start, _ in log:
        assert sum(tokens[i] for at, i in log if start <= at < start + 60 - 1e-6) <= limit + 1 + 1e-6


def test_a_call_larger_than_the_bucket_goes_and_is_paid_back() -> None:
    time = Time()
    log = sent(Limits(tokens_per_minute=600, clock=time.clock, sleep=time.sleep), time, [600.0, 600.0, 600.0])
    gaps = [b - a for (a, _), (b, _) in itertools.pairwise(log)]
    assert all(60 <= gap <= 70 for gap in gaps)


def test_tokens_given_back_can_be_taken_by_others() -> None:
    time = Time()
    limits = Limits(tokens_per_minute=600, clock=time.clock, sleep=time.sleep)

    async def work() -> None:
        for _ in range(30):
            await limits.enter(60)
            limits.leave(60, used=0)

    asyncio.run(time.run(work()))
    assert time.now == 0


def test_a_pause_holds_for_all_and_the_longest_counts() -> None:
    time = Time()
    limits = Limits(clock=time.clock, sleep=time.sleep)
    limits.pause(30)
    limits.pause(10)
    assert {at for at, _ in sent(limits, time, [1.0, 1.0, 1.0])} == {30.0}
    assert {at for at, _ in sent(limits, time, [1.0])} == {30.0}


@settings(max_examples=30, deadline=None)
@given(
    limit=st.integers(10, 90),
    callers=st.integers(1, 40),
    pauses=st.lists(st.tuples(st.floats(0, 100), st.floats(1, 150)), max_size=3),
)
def test_no_minute_has_more_than_allowed_whenever_a_pause_comes(
    limit: int, callers: int, pauses: list[tuple[float, float]]
) -> None:
    time = Time()
    limits = Limits(requests_per_minute=limit, tokens_per_minute=limit, clock=time.clock, sleep=time.sleep)
    log: list[float] = []

    async def caller() -> None:
        for _ in range(240 // callers):
            await limits.enter(1.0)
            log.append(time.now)

    async def pause(after: float, seconds: float) -> None:
        await time.sleep(after)
        limits.pause(seconds)

    asyncio.run(time.run(*(caller() for _ in range(callers)), *(pause(*one) for one in pauses)))
    assert max(sum(start <= at < start + 60 - 1e-6 for at in log) for start in log) <= limit


def test_two_who_sleep_equally_long_wake_in_their_order() -> None:
    time, woken = Time(), []

    async def one(i: int) -> None:
        await time.sleep(1.0 if i else 0.5)
        if not i:
            await time.sleep(0.5)
        woken.append(i)

    asyncio.run(time.run(*(one(i) for i in range(3))))
    assert woken == [1, 2, 0]


@pytest.mark.parametrize(("requests", "tokens"), [(0, None), (None, -1), (None, float("nan"))])
def test_limits_that_let_nothing_through_are_refused(requests: float | None, tokens: float | None) -> None:
    with pytest.raises(UsageError, match="per minute above 0"):
        Limits(requests_per_minute=requests, tokens_per_minute=tokens)
