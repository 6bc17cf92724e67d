"""What tests of the client share: a chat against a server with faults, with waits that do not slow the tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from tests.servers.faulty import FaultyServer

from smidgen.models.chat.base import Reply, Sampling
from smidgen.models.chat.budget import Budget
from smidgen.models.chat.endpoint import open_endpoint
from smidgen.models.chat.once import AskOnce, Retries
from smidgen.models.chat.replies import ReplyStore
from smidgen.models.chat.spending import Spending
from smidgen.pairs import messages_from

QUICK = Retries(tries=5, first_wait_seconds=0.01, longest_wait_seconds=0.05, jitter_seconds=0.01)

OpenChat = Callable[..., AbstractAsyncContextManager[AskOnce]]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenChat:
    """Opens a chat with a server: its address, then what differs from the usual."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    @asynccontextmanager
    async def open_chat(
        url: str,
        *,
        model: str = "teacher",
        budget: Budget | None = None,
        retries: Retries = QUICK,
        key_variable: str | None = None,
        timeout_seconds: float = 20.0,
        **rest: Any,
    ) -> AsyncIterator[AskOnce]:
        found = open_endpoint(url, model, key_variable=key_variable, timeout_seconds=timeout_seconds)
        async with found as source:
            with closing(ReplyStore(tmp_path / "replies.sqlite")) as store:
                so_far = store.account()
                budget = budget or Budget()
                budget.spent = so_far.settled + so_far.unsure
                spending = Spending(budget.prices, earlier=so_far.settled)
                yield AskOnce(source=source, store=store, budget=budget, spending=spending, retries=retries, **rest)

    return open_chat


SHORT = Sampling(max_new_tokens=20)


async def ask(chat: AskOnce, text: str = "Why?", sampling: Sampling = SHORT) -> Reply:
    return await chat(messages_from(text, "user"), sampling)


def ask_once(opened: OpenChat, server: FaultyServer, **settings: Any) -> Reply:
    async def main() -> Reply:
        async with opened(server.url, **settings) as chat:
            return await ask(chat)

    return asyncio.run(main())
