"""Asking many: the same work for every item, a few at once, and what to do where some of it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from smidgen.errors import UsageError
from smidgen.models.chat.base import BudgetSpent, NoReply

T = TypeVar("T")
R = TypeVar("R")


async def ask_each(
    items: Sequence[T],
    work: Callable[[T], Awaitable[R]],
    *,
    concurrency: int,
    on_done: Callable[[int, R | NoReply], None] | None = None,
) -> list[R | NoReply | None]:
    """Do the work for every item, at most `concurrency` of them at once, begun in their order.

    An item that gets no reply keeps the NoReply as its result. Once the budget is spent, or after any other error, no
    item begins; those begun go on as far as they can, since what they asked may be billed already. Then the first
    error is raised. Only a cancellation, such as Ctrl-C, leaves them at once.

    Args:
        work: May ask a chat model several times.
        concurrency: Most items at once. Positive.
        on_done: Called with an item's position and result as soon as it has one, before a further item begins.

    Returns:
        The results in the order of the items; None for an item that the budget ended or never let begin.

    Raises:
        UsageError: `concurrency` below 1.
        Exception: The first that the work, or `on_done`, raised beside NoReply and BudgetSpent.
    """
    if concurrency < 1:
        raise UsageError(f"expected a concurrency of at least 1, got {concurrency}; 8 is usual.")
    results: list[R | NoReply | None] = [None] * len(items)
    positions = iter(range(len(items)))
    ended_by: list[Exception] = []

    async def go_through() -> None:
        # The iterator is shared: every item is begun once, by whoever is free.
        for position in positions:
            if ended_by:
                return
            try:
                try:
                    result = await work(items[position])
                except NoReply as error:
                    result = error
                results[position] = result
                if on_done:
                    on_done(position, result)
            except Exception as error:
                ended_by.append(error)
                return

    workers = [asyncio.create_task(go_through()) for _ in range(min(concurrency, len(items)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    # A spent budget is no failure: what it let begin is a result.
    for error in ended_by:
        if not isinstance(error, BudgetSpent):
            raise error
    return results
