"""How fast to ask: requests and tokens a minute, and pauses, shared by all who ask one server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from smidgen.errors import UsageError

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]
_MINUTE = 60.0
# How much of a minute's amount may go at once; the rest comes evenly.
_BURST = 0.1


class Bucket:
    """Hands out at most so much a minute, in any minute.

    An amount above a tenth of a minute's goes when the bucket is full, and is refilled before the next.

    Args:
        per_minute: Requests or tokens. Positive.
        clock: Seconds, from any start.
    """

    def __init__(self, per_minute: float, clock: Clock) -> None:
        self._size = max(1.0, per_minute * _BURST)
        # A full bucket and what drips into it within a minute are together less than one above a minute's amount.
        self._per_second = (per_minute - self._size + 1) / _MINUTE
        self._clock = clock
        self._level, self._filled = self._size, clock()

    def seconds_until(self, amount: float) -> float:
        """How long it takes until there is enough; 0 or below where there is."""
        return (min(amount, self._size) - self._refilled()) / self._per_second

    def take(self, amount: float) -> None:
        self._level = self._refilled() - amount

    def give_back(self, amount: float) -> None:
        """Return what was taken and not used."""
        self._level = min(self._size, self._refilled() + amount)

    def _refilled(self) -> float:
        now = self._clock()
        self._level = min(self._size, self._level + (now - self._filled) * self._per_second)
        self._filled = now
        return self._level


class Limits:
    """What all who ask one server keep to.

    Args:
        requests_per_minute: None for no limit.
        tokens_per_minute: Prompts and answers together; None for no limit.
        clock: Seconds, from any start.
        sleep: Waits for seconds of that clock.

    Raises:
        UsageError: A limit that is not positive.
    """

    def __init__(
        self,
        *,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        clock: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        for name, limit in (("requests", requests_per_minute), ("tokens", tokens_per_minute)):
            if limit is not None and not limit > 0:
                raise UsageError(f"expected {name} per minute above 0, got {limit}; leave it out for no limit.")
        self._clock, self._sleep = clock, sleep
        self._requests = Bucket(requests_per_minute, clock) if requests_per_minute else None
        self._tokens = Bucket(tokens_per_minute, clock) if tokens_per_minute else None
        self._paused_until = clock()
        self._turn = asyncio.Lock()

    async def enter(self, tokens: float) -> None:
        """Wait, in the order of those who ask, until a request that may use so many tokens can be sent."""
        async with self._turn:
            # Nothing is taken before everything is there: what is taken in a pause would all be sent at its end.
            while (wait := self._seconds_until(tokens)) > 1e-9:
                await self._sleep(wait)
            for bucket, amount in self._wanted(tokens):
                bucket.take(amount)

    def _seconds_until(self, tokens: float) -> float:
        waits = (bucket.seconds_until(amount) for bucket, amount in self._wanted(tokens))
        return max(self._paused_until - self._clock(), *waits, 0.0)

    def _wanted(self, tokens: float) -> list[tuple[Bucket, float]]:
        both = ((self._tokens, tokens), (self._requests, 1.0))
        return [(bucket, amount) for bucket, amount in both if bucket]

    def leave(self, taken: float, used: float) -> None:
        """Tell how many of the tokens taken were used."""
        if self._tokens and used < taken:
            self._tokens.give_back(taken - used)

    def pause(self, seconds: float) -> None:
        """Let nobody send anything for so long."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)
