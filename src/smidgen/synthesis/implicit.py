"""The implicit reward of a model trained by DPO: how much likelier it makes an answer than its reference does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from smidgen.data.templates import Template
from smidgen.data.tokens import end_of_text, tokenise
from smidgen.errors import UsageError
from smidgen.models.load import LanguageModel, check_same_tokens
from smidgen.models.logprobs import score_answers
from smidgen.models.rows import Tokens
from smidgen.pairs import PreferencePair
from smidgen.synthesis.scoring import PairScores, Score

# As `score_answers`; a store of values takes its place.
Logps = Callable[[LanguageModel, Sequence[Tokens], Sequence[Sequence[Tokens]]], list[list[np.ndarray]]]


def implicit_rewards(
    policy: LanguageModel,
    reference: LanguageModel,
    prompts: Sequence[Tokens],
    answers: Sequence[Sequence[Tokens]],
    *,
    beta: float = 0.1,
    per_token: bool = False,
    logps: Logps = score_answers,
) -> list[Float[np.ndarray, " answers"]]:
    """β (log π(y | x) − log ref(y | x)), summed over an answer's tokens, of any number of answers to each prompt.

    Args:
        policy: The trained model.
        reference: What it was trained from, with the same tokenizer.
        prompts: Token ids.
        answers: For each prompt its answers' token ids, end of text included where the training had it.
        beta: As in the training. Positive.
        per_token: Divide by the answer's number of tokens, so that long answers are no further from 0 than short ones.
        logps: Log-probabilities of tokens, nats.

    Returns:
        For each prompt one reward an answer, float64.

    Raises:
        UsageError: A beta out of range, or models that read tokens differently.

    Source: Rafailov et al. 2023, arXiv:2305.18290, Eq. 5, less the term that depends on the prompt alone.
    """
    if not 0 < beta < float("inf"):
        raise UsageError(f"expected beta above 0, got {beta}; give that of the policy's training, such as 0.1.")
    check_same_tokens(policy, reference)
    reduce = np.mean if per_token else np.sum
    ours, theirs = (logps(lm, prompts, answers) for lm in (policy, reference))
    return [
        np.array([beta * float(reduce(np.float64(p) - np.float64(r))) for p, r in zip(of_pi, of_ref, strict=True)])
        for of_pi, of_ref in zip(ours, theirs, strict=True)
    ]


def implicit_scores(
    policy: LanguageModel,
    reference: LanguageModel,
    template: Template,
    pairs: Sequence[PreferencePair],
    *,
    beta: float = 0.1,
    per_token: bool = False,
    logps: Logps = score_answers,
) -> list[PairScores]:
    """As `implicit_rewards`, of both answers of pairs, which are encoded as in training.

    An answer that is too long with its prompt for either model has no score; the other answer of its pair may have one.
    """
    tokenizer = policy.tokenizer
    eos = end_of_text(tokenizer)
    most = min(lm.max_positions for lm in (policy, reference)) + 1  # the last token is predicted, not fed
    prompts = tokenise([template.prompt(pair.prompt) for pair in pairs], template, tokenizer, opens=True)
    sides = [
        [(*ids, eos) for ids in tokenise([template.response(answer) for answer in answers], template, tokenizer)]
        for answers in ([pair.chosen for pair in pairs], [pair.rejected for pair in pairs])
    ]
    both = list(zip(*sides, strict=True))
    fitting = [
        [side for side, answer in enumerate(answers) if len(prompt) + len(answer) <= most]
        for prompt, answers in zip(prompts, both, strict=True)
    ]
    rows = [i for i, sides_of_row in enumerate(fitting) if sides_of_row]
    rewards = implicit_rewards(
        policy,
        reference,
        [prompts[i] for i in rows],
        [[both[i][side] for side in fitting[i]] for i in rows],
        beta=beta,
        per_token=per_token,
        logps=logps,
    )
    found = {
        (i, side): Score(reward)
        for i, row in zip(rows, rewards, strict=True)
        for side, reward in zip(fitting[i], row.tolist(), strict=True)
    }
    missing = Score(None, "over_long")
    return [(found.get((i, 0), missing), found.get((i, 1), missing)) for i in range(len(pairs))]
