"""A budget that is never exceeded: the worst case of a call is set aside before it is sent, and settled after it."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from smidgen.errors import UsageError
from smidgen.models.chat.base import BudgetSpent, Sampling
from smidgen.pairs import Messages

# What a server's template writes around a message and around a conversation, its own opening words included.
_MESSAGE_TOKENS = 16
_CONVERSATION_TOKENS = 64
_THOUSANDS = {"": 1, "k": 1_000, "m": 1_000_000}


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a call, or of many."""

    prompt: int = 0
    completion: int = 0

    @property
    def tokens(self) -> int:
        return self.prompt + self.completion

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.prompt + other.prompt, self.completion + other.completion)

    def __sub__(self, other: Usage) -> Usage:
        return Usage(self.prompt - other.prompt, self.completion - other.completion)

    def __mul__(self, times: int) -> Usage:
        return Usage(self.prompt * times, self.completion * times)


def worst_case(messages: Messages, sampling: Sampling) -> Usage:
    """More tokens than a call can use: no tokenizer makes more tokens of a text than it has bytes in UTF-8."""
    text = sum(len(m.content.encode("utf-8", "surrogatepass")) for m in messages)
    return Usage(text + _MESSAGE_TOKENS * len(messages) + _CONVERSATION_TOKENS, sampling.max_new_tokens)


@dataclass(frozen=True, slots=True)
class Prices:
    """What tokens cost, in the currency of whoever gives them; none are built in.

    Attributes:
        prompt: Of a million tokens of prompts; None where unknown.
        completion: Of a million tokens of answers; None where unknown.

    Raises:
        UsageError: A price that is none, or one without the other: what nobody priced is not free.
    """

    prompt: float | None = None
    completion: float | None = None

    def __post_init__(self) -> None:
        for name, price in (("--price-in", self.prompt), ("--price-out", self.completion)):
            if price is not None and not 0 <= price < math.inf:
                raise UsageError(f"expected {name} of 0 or above, per million tokens, got {price}.")
        if (self.prompt is None) != (self.completion is None):
            given, missing = ("--price-in", "--price-out")[:: 1 if self.completion is None else -1]
            raise UsageError(
                f"expected both --price-in and --price-out, got {given} alone. Give {missing} too, 0 where it is free."
            )

    @property
    def known(self) -> bool:
        return self.prompt is not None

    def cost(self, usage: Usage) -> float:
        """Of so many tokens; 0 where prices are unknown.

        >>> Prices(2.0, 6.0).cost(Usage(500_000, 100_000))
        1.6
        """
        return (usage.prompt * (self.prompt or 0) + usage.completion * (self.completion or 0)) / 1e6


@dataclass(frozen=True, slots=True)
class Limit:
    """The most that may be spent: tokens, or money."""

    amount: float
    money: bool = False

    def __str__(self) -> str:
        return f"{self.amount:,.2f} of money" if self.money else f"{self.amount:,.0f} tokens"


def parse_budget(text: str) -> Limit:
    """A budget as people write it.

    Raises:
        UsageError: Neither tokens nor money, or nothing at all.

    >>> parse_budget("200k"), parse_budget("$5"), parse_budget("2.50 eur")
    (Limit(amount=200000.0, money=False), Limit(amount=5.0, money=True), Limit(amount=2.5, money=True))
    """
    plain = text.strip().lower().replace(",", "").replace("_", "")
    tokens = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([km]?)(?:\s*tokens)?", plain)
    money = re.fullmatch(r"[$€£]\s*(\d+(?:\.\d+)?)|(\d+(?:\.\d+)?)\s*(?:usd|eur|gbp|[$€£])", plain)
    if tokens:
        found = Limit(float(tokens[1]) * _THOUSANDS[tokens[2]])
    elif money:
        found = Limit(float(money[1] or money[2]), money=True)
    else:
        raise UsageError(f"expected --budget in tokens (200000, 200k, 2M) or money ($5, 5 usd), got {text!r}.")
    if found.amount <= 0:
        raise UsageError(f"expected a --budget above 0, got {text!r}; leave it out for no limit.")
    return found


@dataclass(slots=True)
class Reservation:
    """What is set aside for one call: nothing counts as spent before it is sent, and all of it until it is settled.

    Attributes:
        bound: The worst case.
        used: What counts as spent when the call is over.
        is_open: Whether the call was sent, and is not settled.
    """

    bound: Usage
    used: Usage = field(default_factory=Usage)
    is_open: bool = False

    def sent(self) -> None:
        self.used, self.is_open = self.bound, True

    def settle(self, used: Usage) -> None:
        """The call used so much."""
        self.used, self.is_open = used, False


@dataclass(slots=True)
class Budget:
    """What was spent, what is set aside, and whether another call fits.

    Attributes:
        limit: None for no limit.
        prices: Of tokens.
        spent: Settled calls, and those whose use nobody will ever tell, at their worst case.
    """

    limit: Limit | None = None
    prices: Prices = field(default_factory=Prices)
    spent: Usage = field(default_factory=Usage)
    _aside: Usage = field(default_factory=Usage)
    _n_aside: int = 0
    # By how much a server once counted more than the worst case: it will do so again.
    _surprise: Usage = field(default_factory=Usage)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def __post_init__(self) -> None:
        if self.limit and self.limit.money and not (self.prices.prompt or self.prices.completion):
            raise UsageError(
                "expected prices for a --budget in money, got none. Give --price-in and --price-out per million "
                "tokens, or a budget in tokens such as 200k."
            )

    def fits(self, usage: Usage) -> bool:
        """Whether so much more would still be within the limit."""
        if self.limit is None:
            return True
        total = self.spent + self._aside + usage
        return (self.prices.cost(total) if self.limit.money else total.tokens) <= self.limit.amount

    @asynccontextmanager
    async def reserved(self, bound: Usage) -> AsyncIterator[Reservation]:
        """Set the worst case of a call aside while it is made; where it does not fit, wait for other calls to end.

        Raises:
            BudgetSpent: It does not fit, and no call is under way whose end could change that.
        """
        bound += self._surprise
        async with self._changed:
            while not self.fits(bound):
                if not self._n_aside:
                    raise BudgetSpent(self._message(bound))
                await self._changed.wait()
            self._aside, self._n_aside = self._aside + bound, self._n_aside + 1
        reservation = Reservation(bound)
        try:
            yield reservation
        finally:
            used = reservation.used
            self._surprise += Usage(max(0, used.prompt - bound.prompt), max(0, used.completion - bound.completion))
            self.spent += used
            self._aside, self._n_aside = self._aside - bound, self._n_aside - 1
            async with self._changed:
                self._changed.notify_all()

    def forgive(self, usage: Usage) -> None:
        """What counted as spent turns out not to be."""
        self.spent -= usage

    def _message(self, bound: Usage) -> str:
        return (
            f"expected room for a call of at most {bound.tokens:,} tokens within the budget of {self.limit}, got "
            f"{self.spent.tokens:,} tokens spent. What was paid for is kept: run the same command again with a larger "
            "--budget to go on."
        )
