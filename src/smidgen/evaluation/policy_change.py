"""How far training moved a policy: on answers that were given, on answers of its own, and as a reward model sees it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from smidgen.data.tokens import EncodedPair, TokenIds
from smidgen.models.generate import sample
from smidgen.models.load import LanguageModel
from smidgen.models.logprobs import score_answers
from smidgen.models.rewards import Reward
from smidgen.pairs import Messages


def answer_log_ratios(
    policy: LanguageModel, reference: LanguageModel, pairs: Sequence[EncodedPair]
) -> tuple[Float[np.ndarray, " pairs"], Float[np.ndarray, " pairs"]]:
    """log π(y) − log ref(y) of the chosen and of the rejected answers, summed over tokens, nats, float64.

    Below 0 for the chosen ones, training lowers what it was to raise: an objective on margins alone allows that.
    """
    prompts, answers = [p.prompt for p in pairs], [(p.chosen, p.rejected) for p in pairs]
    summed = [
        np.array([[tokens.sum(dtype=np.float64) for tokens in both] for both in score_answers(lm, prompts, answers)])
        for lm in (policy, reference)
    ]
    ratios = (summed[0] - summed[1]).reshape(-1, 2)
    return ratios[:, 0], ratios[:, 1]


def kl_samples(
    policy: LanguageModel,
    reference: LanguageModel,
    prompts: Sequence[TokenIds],
    *,
    seed: int,
    max_new_tokens: int = 32,
) -> Float[np.ndarray, " prompts"]:
    """log π(y) − log ref(y) of one answer y ~ π to each prompt, nats; their mean estimates KL(π ‖ ref) per answer.

    Unbiased, and below 0 for some prompts. Answers are drawn at temperature 1, of at most `max_new_tokens`, end of text
    counted where it was reached.

    Source: Schulman 2020, Approximating KL divergence (the estimator k1).
    """
    drawn = [answers[0] for answers in sample(policy, prompts, seed=seed, max_new_tokens=max_new_tokens)]
    answers = [((*c.tokens, *(() if c.end is None else (c.end,))),) for c in drawn]
    both = [score_answers(lm, prompts, answers) for lm in (policy, reference)]
    return np.array([p[0].sum(dtype=np.float64) - r[0].sum(dtype=np.float64) for p, r in zip(*both, strict=True)])


def wins(
    reward: Reward, prompts: Sequence[Messages], answers: Sequence[str], others: Sequence[str]
) -> Float[np.ndarray, " prompts"]:
    """1 where an answer's reward is above the other's, 0 where below, a half where they are equal."""
    gap = reward(prompts, answers) - reward(prompts, others)
    return np.where(gap == 0, 0.5, gap > 0).astype(np.float64)
