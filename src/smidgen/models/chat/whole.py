"""A judge's whole reply: its end is the verdict, so one that is cut is asked for again with more tokens."""

from __future__ import annotations

from dataclasses import dataclass

from smidgen.errors import UsageError
from smidgen.models.chat.base import Chat, Reply, Sampling
from smidgen.pairs import Messages


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How a judge is asked.

    Attributes:
        max_new_tokens: Of a reply, at first; one that is cut is asked for again with twice as many.
        most_new_tokens: Where that ends; a reply that is cut even then has no verdict.
        one_turn: Put the rubric into the user's turn, for models that take no system turn.
        concurrency: Most answers at once.
    """

    max_new_tokens: int = 512
    most_new_tokens: int = 4096
    one_turn: bool = False
    concurrency: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.max_new_tokens <= self.most_new_tokens:
            raise UsageError(
                f"expected max_new_tokens of at least 1 and most_new_tokens no less, got {self.max_new_tokens} and "
                f"{self.most_new_tokens}; 512 and 4096 are usual."
            )


async def whole_reply(chat: Chat, turns: Messages, asking: Asking) -> Reply:
    """The reply, greedily decoded; `cut` where no number of tokens allowed was enough.

    Raises:
        NoReply: There is none.
        SmidgenError: Of a kind that no conversation would be spared, such as a spent budget.
    """
    tokens = asking.max_new_tokens
    while (reply := await chat(turns, Sampling(max_new_tokens=tokens, temperature=0.0))).cut:
        if tokens >= asking.most_new_tokens:
            return reply
        tokens = min(2 * tokens, asking.most_new_tokens)
    return reply
