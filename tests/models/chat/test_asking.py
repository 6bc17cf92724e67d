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
def test_any_other_error_ends_everything_and_comes_through_as_it_is(error: Exception) -> None:
    cancelled = []

    async def work(item: int) -> int:
        if item == 2:
            raise error
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(item)
            raise
        return item

    with pytest.raises(type(error), match=str(error)):
        asyncio.run(ask_each(range(9), work, concurrency=3))
    assert cancelled == [0, 1]


def test_nothing_to_ask_and_nobody_to_ask_it() -> None:
    async def work(item: int) -> int:
        return item

    assert asyncio.run(ask_each([], work, concurrency=4)) == []
    with pytest.raises(UsageError, match="at least 1, got 0"):
        asyncio.run(ask_each([1], work, concurrency=0))
