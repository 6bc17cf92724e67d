"""What making pairs will take at most, before anybody is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from smidgen.models.chat.base import Sampling
from smidgen.pairs import Message, Messages
from smidgen.synthesis.critique import STEPS, Draw, opening
from smidgen.synthesis.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Calls, and the most tokens they take: every reply as long as the limit lets it be."""

    calls: int
    prompt_tokens: int
    completion_tokens: int


def estimate(
    draws: Sequence[Draw], task: Task, sampling: Sampling, *, count_tokens: Callable[[Messages], int]
) -> Estimate:
    """Calls and tokens of all draws.

    Args:
        count_tokens: Tokens of a conversation.
    """
    asked = sum(count_tokens(opening(task, draw.asked)) for draw in draws)
    turns = [count_tokens((Message("user", turn),)) for turn in (task.critique, task.revise)]
    # The second call carries one reply and the first turn, the third two of each.
    carried = 3 * sampling.max_new_tokens + 2 * turns[0] + turns[1]
    return Estimate(
        calls=len(STEPS) * len(draws),
        prompt_tokens=len(STEPS) * asked + len(draws) * carried,
        completion_tokens=len(STEPS) * len(draws) * sampling.max_new_tokens,
    )
