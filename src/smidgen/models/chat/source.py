"""One try to get an answer, whoever gives it: what comes back, and how it may fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from smidgen.models.chat.base import Sampling
from smidgen.pairs import Messages


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one try brought.

    Attributes:
        text: As it came.
        model: The model's name, as the server gives it.
        cut: Whether the token limit ended it.
        prompt_tokens: As the server counts them; None where it does not say.
        completion_tokens: The same for the answer.
        refused: Why an answer that was made, and billed, is none for this conversation; empty where it is one.
        replayed: Whether the server says that this is the answer to an earlier try, billed then and not again.
    """

    text: str
    model: str
    cut: bool
    prompt_tokens: int | None
    completion_tokens: int | None
    refused: str = ""
    replayed: bool = False


class TryFailed(Exception):
    """One try failed, and another may not.

    Attributes:
        detail: One line, safe to print.
        wait: Seconds that the server asks everybody to wait, or None.
        unsure: Whether the server may have made, and billed, an answer that never came.
        unreachable: Whether there was nobody to ask.
        crowded: Whether the server had too much to do.
    """

    def __init__(
        self,
        detail: str,
        *,
        wait: float | None = None,
        unsure: bool = False,
        unreachable: bool = False,
        crowded: bool = False,
    ) -> None:
        super().__init__(detail)
        self.detail, self.wait, self.unsure = detail, wait, unsure
        self.unreachable, self.crowded = unreachable, crowded


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Whom to ask.

    Attributes:
        name: What the answers depend on beside the conversation and the sampling: an address, or weights.
        model: The model asked for.
        answer: One try, from a conversation, its sampling and a key that is the same for every try of this very
            question. Raises TryFailed, NoReply, or another SmidgenError where nobody would get an answer.
    """

    name: str
    model: str
    answer: Callable[[Messages, Sampling, str], Awaitable[Answer]]
