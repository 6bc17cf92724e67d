"""Asking many keeps order, bounds what runs at once, and loses nothing that is done."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.errors import SmidgenError, UsageError
from smidgen.models.chat.asking import ask_each
from smidgen.models.chat.base import BudgetSpent, NoReply


@settings(max_examples=60, deadline=None)
@given(n=st.integers(0, 30), concurrency=st.integers(1, 8), seed=st.integers(0, 1000))
def test_results_stand_in_the_order_of_items_and_no_more_than_allowed_run_at_once(
    n: int, concurrency: int, seed: int
) -> None:
    luck = random.Random(seed)
    pauses = [luck.randint(0, 4) for _ in range(n)]
    running, most, told = 0, 0, {}

    async def work(item: int) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(pauses[item]):
            await asyncio.sleep(0)
        running -= 1
        if item % 7 == 3:
            raise NoReply("refused", f"item {item}")
        return f"reply {item}"

    found = asyncio.run(ask_each(range(n), work, concurrency=concurrency, on_done=told.__setitem__))
    for item, result in enumerate(found):
        if item % 7 == 3:
            assert isinstance(result, NoReply) and result.detail == f"item {item}"
        else:
            assert result == f"reply {item}"
    assert most <= concurrency
    assert told == dict(enumerate(found))


def test_a_spent_budget_begins_nothing_more_and_keeps_what_is_done() -> None:
    begun = []

    async def work(item: int) -> int:
        begun.append(item)
        await asyncio.sleep(0)
        if item == 4:
            raise BudgetSpent("spent")
        for _ in range(5):
            await asyncio.sleep(0)
        return item

    found = asyncio.run(ask_each(range(20), work, concurrency=3))
    assert 4 in begun and max(begun) < 8
    assert found[4] is None
    assert [found[item] for item in begun if item != 4] == [item for item in begun if item != 4]
    assert found[max(begun) + 1 :] == [None] * (19 - max(begun))


@pytest.mark.parametrize("error", [SmidgenError("wrong key"), ZeroDivisionError("a bug")])
def test_after_any_other_error_nothing_begins_what_is_under_way_is_kept_and_the_error_comes_through(
    error: Exception,
) -> None:
    begun, told = [], {}

    async def work(item: int) -> int:
        begun.append(item)
        if item == 2:
            raise error
        # What is under way is billed already, and comes later than the error.
        for _ in range(20):
            await asyncio.sleep(0)
        return item

    with pytest.raises(type(error), match=str(error)):
        asyncio.run(ask_each(range(9), work, concurrency=3, on_done=told.__setitem__))
    assert begun == [0, 1, 2]
    assert told == {0: 0, 1: 1}


def test_a_cancellation_leaves_what_is_under_way_at_once() -> None:
    cancelled = []

    async def work(item: int) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(item)
            raise

    async def main() -> None:
        asking = asyncio.create_task(ask_each(range(9), work, concurrency=3))
        await asyncio.sleep(0.01)
        asking.cancel()
        await asking

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert cancelled == [0, 1, 2]


def test_nothing_to_ask_and_nobody_to_ask_it() -> None:
    async def work(item: int) -> int:
        return item

    assert asyncio.run(ask_each([], work, concurrency=4)) == []
    with pytest.raises(UsageError, match="at least 1, got 0"):
        asyncio.run(ask_each([1], work, concurrency=0))
