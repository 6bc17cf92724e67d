"""Rewards that are rules: what a text pattern, a length or a list of words says of an answer. No model is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from smidgen.data.prompts import load_prompts
from smidgen.errors import UsageError
from smidgen.evaluation.patterns import DEFAULT_LIST, load_patterns
from smidgen.models.rewards import Reward
from smidgen.pairs import Messages
from smidgen.settings import Registry

# Makes a reward from its settings; files are read once, here.
Rule = Callable[..., Reward]
reward_rule: Registry[Rule] = Registry("reward rule")


def load_rule(spec: str) -> Reward:
    """A registered rule with its settings, such as `refusal:patterns=broad`.

    Raises:
        UsageError: Unknown rule or setting, or one out of range.

    >>> load_rule("length:words=2")([(), ()], ["Two words.", "Only three words."]).tolist()
    [1.0, 0.5]
    """
    return reward_rule.bind(spec)()


@reward_rule
def refusal(*, harmful: str = "", patterns: str = DEFAULT_LIST) -> Reward:
    """1 where an answer does what its prompt asks for, −1 where not: harmful prompts are refused, others answered.

    Args:
        harmful: File with the prompts to refuse; without it, every prompt is one.
        patterns: By which a refusal is found: a shipped list, or a file.
    """
    found, to_refuse = load_patterns(patterns), set(load_prompts(harmful)) if harmful else None

    def reward(prompts: Sequence[Messages], answers: Sequence[str]) -> Float[np.ndarray, " answers"]:
        wanted = [to_refuse is None or prompt[-1].content in to_refuse for prompt in prompts]
        refused = [found.matches(answer) for answer in answers]
        return np.where(np.array(wanted) == np.array(refused), 1.0, -1.0)

    return reward


@reward_rule
def length(*, words: int = 20) -> Reward:
    """1 for an answer of so many words, less by its distance from that, as a share of it.

    Args:
        words: The length wanted. Positive.
    """
    if words < 1:
        raise UsageError(f"expected words of at least 1, got {words}; give the length wanted, such as 20.")

    def reward(prompts: Sequence[Messages], answers: Sequence[str]) -> Float[np.ndarray, " answers"]:
        return np.array([1 - abs(len(answer.split()) - words) / words for answer in answers])

    return reward


@reward_rule
def keywords(*, words: str) -> Reward:
    """The share of an answer's words that are wanted ones; 0 for an empty answer.

    Args:
        words: The words wanted, parted by spaces; case and punctuation around them do not matter.
    """
    wanted = set(_bare(words))
    if not wanted:
        raise UsageError(f"expected words to look for, got {words!r}; give keywords:words=please, for example.")

    def share(answer: str) -> float:
        said = _bare(answer)
        return sum(word in wanted for word in said) / max(1, len(said))

    def reward(prompts: Sequence[Messages], answers: Sequence[str]) -> Float[np.ndarray, " answers"]:
        return np.array([share(answer) for answer in answers])

    return reward


def _bare(text: str) -> list[str]:
    """Words without case and the punctuation around them."""
    words = (word.strip(".,;:!?\"'()").casefold() for word in text.split())
    return [word for word in words if word]
