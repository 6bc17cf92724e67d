"""What was asked, and what it cost, so far: counted as it happens, for progress and for a run's account."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from smidgen.models.chat.budget import Prices, Usage


@dataclass(slots=True)
class Spending:
    """Counts of one piece of work.

    Attributes:
        prices: Of tokens.
        calls: Replies that were asked for and came, in this process.
        cached: Replies that came from the store, and cost nothing now.
        retries: Tries beyond a call's first.
        no_replies: Calls that ended without a reply.
        used: Tokens of this process's replies.
        earlier: Tokens of the same work's replies to earlier processes.
        unsure: At most so many tokens more, of tries that may have been billed although no reply came: cut
            connections, time-outs, killed processes.
        n_unsure: How many tries those are.
        estimated: Calls whose tokens the server did not tell.
    """

    prices: Prices = field(default_factory=Prices)
    calls: int = 0
    cached: int = 0
    retries: int = 0
    no_replies: int = 0
    used: Usage = field(default_factory=Usage)
    earlier: Usage = field(default_factory=Usage)
    unsure: Usage = field(default_factory=Usage)
    n_unsure: int = 0
    estimated: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of all replies of this work."""
        return (self.used + self.earlier).tokens

    @property
    def cost(self) -> float:
        """Price of all replies of this work, without what is unsure."""
        return self.prices.cost(self.used + self.earlier)

    def summary(self) -> dict[str, Any]:
        """The counts as JSON knows them."""
        total = self.used + self.earlier
        return {
            "calls": self.calls,
            "cached_calls": self.cached,
            "retries": self.retries,
            "no_replies": self.no_replies,
            "prompt_tokens": total.prompt,
            "completion_tokens": total.completion,
            "tokens": total.tokens,
            "cost": self.cost,
            "calls_with_estimated_tokens": self.estimated,
            "unsure_tries": self.n_unsure,
            "unsure_tokens_at_most": self.unsure.tokens,
            "unsure_cost_at_most": self.prices.cost(self.unsure),
        }
