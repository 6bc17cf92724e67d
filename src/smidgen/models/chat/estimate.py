"""What work will ask for and cost, told before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from smidgen.models.chat.base import Sampling
from smidgen.models.chat.budget import Prices, Usage, worst_case
from smidgen.pairs import Message, Messages


@dataclass(frozen=True, slots=True)
class Call:
    """One call to come: its own text, and how much of it earlier replies will add.

    Attributes:
        messages: What is known of the conversation.
        n_replies: Earlier replies of the model in it.
        sampling: Of this call, and of those replies.
    """

    messages: Messages
    sampling: Sampling
    n_replies: int = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of many calls.

    Attributes:
        calls: How many.
        most: Tokens that they cannot exceed, if every reply is as long as it may be.
        expected: Tokens by rule of thumb.
        prices: Of tokens.
    """

    calls: int
    most: Usage
    expected: Usage
    prices: Prices

    @property
    def most_cost(self) -> float:
        return self.prices.cost(self.most)

    @property
    def expected_cost(self) -> float:
        return self.prices.cost(self.expected)


def estimate(
    calls: Iterable[Call], *, prices: Prices | None = None, bytes_a_token: float = 4.0, reply_share: float = 0.5
) -> Estimate:
    """What calls will use.

    Args:
        calls: All of them.
        prices: Of tokens; none where None.
        bytes_a_token: Of text in UTF-8, expected: 4 suits English.
        reply_share: Of the most tokens, that a reply is expected to have.
    """
    n, most, prompt, completion = 0, Usage(), 0.0, 0.0
    for call in calls:
        n += 1
        bound, replies = worst_case(call.messages, call.sampling), call.n_replies * call.sampling.max_new_tokens
        # Each reply is a further message, and worst_case has counted the words of those it was given.
        frames = worst_case((Message("assistant", ""),) * call.n_replies, call.sampling).prompt
        frames -= worst_case((), call.sampling).prompt
        most += bound + Usage(replies + frames)
        prompt += sum(len(m.content.encode("utf-8", "surrogatepass")) for m in call.messages) / bytes_a_token
        prompt += reply_share * replies
        completion += reply_share * call.sampling.max_new_tokens
    return Estimate(n, most, Usage(round(prompt), round(completion)), prices or Prices())


def growing(system: str, turns: Sequence[str], sampling: Sampling) -> list[Call]:
    """The calls of one conversation in which the user says these turns, and the model replies to each.

    Args:
        system: Empty for none.
        turns: The user's, in order.
        sampling: Of every reply.
    """
    opening = (Message("system", system),) if system else ()
    said = tuple(Message("user", turn) for turn in turns)
    return [Call((*opening, *said[: i + 1]), sampling, n_replies=i) for i in range(len(said))]
