"""How completions are drawn, by whatever model: settings, and where a text ends; without torch."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from smidgen.errors import UsageError
from smidgen.models.sampling import check_sampling
from smidgen.pairs import Scalar


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """How completions are drawn.

    Attributes:
        n: A prompt.
        seed: Of all draws.
        temperature: Logits are divided by it; 0 takes the most probable token each time.
        top_p: Draw from the fewest tokens, most probable first, whose probabilities reach this sum; 1 for all.
        top_k: Draw from this many most probable tokens, and those as probable as the last; 0 for all.
        max_new_tokens: Most tokens of a completion.
        stop: Texts that end a completion, which is kept up to the first of them.

    Raises:
        UsageError: A setting out of its range, or several completions at temperature 0, which would all be one.
    """

    n: int = 3
    seed: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int = 64
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise UsageError(f"expected a temperature of 0 or above, got {self.temperature}; 0 decodes greedily.")
        check_sampling(self.n, self.temperature or 1.0, self.top_p, self.top_k)
        if self.max_new_tokens < 1:
            raise UsageError(f"expected max_new_tokens of at least 1, got {self.max_new_tokens}; 64 is usual.")
        if self.temperature == 0 and self.n > 1:
            raise UsageError(
                f"expected one completion a prompt at temperature 0, where all are equal, got {self.n}. Ask for 1, or "
                "give a temperature above 0."
            )
        if "" in self.stop:
            raise UsageError("expected a text to stop at, got an empty one; leave it out.")

    def meta(self) -> dict[str, Scalar]:
        """The settings, as a file of completions keeps them."""
        return {**asdict(self), "stop": json.dumps(self.stop)}


def until(text: str, stop: Sequence[str]) -> str:
    r"""A text up to the first of the texts to stop at.

    >>> until("To be.\n\nOr not.", ("Or", "\n\n"))
    'To be.'
    """
    return text[: min((found for end in stop if (found := text.find(end)) >= 0), default=len(text))]
