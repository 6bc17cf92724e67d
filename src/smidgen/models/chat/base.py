"""What a chat model is to those who ask one: a conversation in, a reply and its price out.

A teacher that writes and criticises and a judge that scores are both asked through this one shape, whether the model
stands behind HTTP or in this process.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from smidgen.errors import SmidgenError, UsageError
from smidgen.pairs import Messages


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a reply is drawn.

    Attributes:
        max_new_tokens: Most tokens of a reply. Positive.
        temperature: 0 takes the most probable token each time.
        top_p: Draw from the fewest tokens, most probable first, whose probabilities reach this sum; 1 for all.
        number: Which of several replies to the same conversation this is: another number is another draw.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    number: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise UsageError(f"expected max_new_tokens of at least 1, got {self.max_new_tokens}; 256 is usual.")
        if not 0 <= self.temperature < math.inf:
            raise UsageError(f"expected a temperature of 0 or above, got {self.temperature}; 0 decodes greedily.")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"expected top_p above 0 and at most 1, got {self.top_p}; 1 keeps every token.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a chat model answered.

    Attributes:
        text: The answer, as it came.
        model: The model's name, as the server gives it.
        cut: Whether the token limit ended it.
        prompt_tokens: Tokens of the conversation.
        completion_tokens: Tokens of the answer.
        estimated: Whether the two numbers are estimates, since the server told none.
        cost: Price of the call when it was paid, in the currency of the prices given; 0 without prices.
        cached: Whether it came from the store of replies, and so cost nothing now.
    """

    text: str
    model: str
    cut: bool
    prompt_tokens: int
    completion_tokens: int
    estimated: bool = False
    cost: float = 0.0
    cached: bool = False


# A conversation, ending with the user, to a reply. Raises NoReply where this conversation gets none, and another
# SmidgenError where no conversation would: a wrong key, an unknown model, a spent budget.
Chat = Callable[[Messages, Sampling], Awaitable[Reply]]


class NoReply(SmidgenError):
    """A conversation that gets no reply, for a reason that concerns it alone; others may still get theirs.

    Attributes:
        reason: A short name, to count by.
        detail: One line, safe to print.
        final: Whether that is what is stored as the answer, so that nobody asks again; another would be asked again.
    """

    def __init__(self, reason: str, detail: str, *, final: bool = False) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail, self.final = reason, detail, final


class BudgetSpent(SmidgenError):
    """The next call might cost more than what is left of the budget; what was paid for is kept."""
