"""Scores of answers by what is no conversation: a reward rule, or a reward model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from smidgen.data.templates import Template
from smidgen.models.reward_model import RewardModel
from smidgen.models.rewards import Reward
from smidgen.pairs import Messages, PreferencePair
from smidgen.synthesis.scoring import PairScores, Score


def rule_scores(rule: Reward, pairs: Sequence[PreferencePair]) -> list[PairScores]:
    """What a rule gives both answers."""
    return _paired([Score(float(value)) for value in np.asarray(rule(*_answers(pairs)), np.float64)])


def model_scores(
    rm: RewardModel,
    template: Template,
    pairs: Sequence[PreferencePair],
    *,
    batch_tokens: int = 8192,
    dtype: str = "float32",
) -> list[PairScores]:
    """What a reward model gives both answers; a conversation longer than it takes has no score, and is never cut.

    Args:
        template: How a conversation becomes text for this model.
        batch_tokens: Tokens of a batch, padding counted.
        dtype: Of the computation, or "auto".

    Raises:
        SmidgenError: A reward that is not finite.
    """
    rows = rm.encode(*_answers(pairs), template)
    fitting = [i for i, row in enumerate(rows) if len(row) <= rm.max_tokens]
    rewards = rm.score_rows([rows[i] for i in fitting], batch_tokens=batch_tokens, dtype=dtype)
    found = dict(zip(fitting, rewards.tolist(), strict=True))
    return _paired([Score(found[i]) if i in found else Score(None, "over_long") for i in range(len(rows))])


def _answers(pairs: Sequence[PreferencePair]) -> tuple[list[Messages], list[str]]:
    """Prompt and answer of every answer: the chosen and the rejected one of each pair in turn."""
    answers = [(pair.prompt, answer.content) for pair in pairs for (answer,) in (pair.chosen, pair.rejected)]
    return [prompt for prompt, _ in answers], [answer for _, answer in answers]


def _paired(scores: Sequence[Score]) -> list[PairScores]:
    return list(zip(scores[::2], scores[1::2], strict=True))
