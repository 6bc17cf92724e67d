"""The second endpoint: what a refusal score alone does not see.

A model that refuses well may have unlearned the preferences, or how to write. Both are measured per item, never
pre-averaged, so that two arms can be compared item by item.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from smidgen.data.tokens import EncodedPair
from smidgen.models.load import LanguageModel
from smidgen.models.logprobs import score_answers

_WORD = re.compile(r"\w+(?:['’]\w+)*")
# Two passes of one model over one pair differ by about this much in float32, summed nats, by how they were batched.
_TIE_NATS = 1e-4


def preference_accuracy(
    lm: LanguageModel,
    pairs: Sequence[EncodedPair],
    *,
    ref_chosen_logps: np.ndarray,
    ref_rejected_logps: np.ndarray,
    batch_tokens: int = 8192,
) -> np.ndarray:
    """Whether the implicit reward ranks the chosen answer above the rejected one, on held-out pairs.

    The implicit reward of an answer is its log-ratio log policy - log reference, summed over its tokens (times beta,
    which changes no order).

    Args:
        lm: The policy.
        pairs: Pairs that were not trained on.
        ref_chosen_logps: Reference log-probabilities of the chosen answers, summed, nats, [pairs].
        ref_rejected_logps: The same of the rejected answers.
        batch_tokens: Tokens in a batch, padding counted.

    Returns:
        float64 [pairs]: 1 where chosen is above, 0 where below, .5 where equal up to rounding. So the reference
        itself scores .5.

    Raises:
        ValueError: Reference log-probabilities of another number of pairs, or not finite.

    Source: Rafailov et al. 2023, arXiv:2305.18290, section 4 (the implicit reward).
    """
    reference = np.stack([np.asarray(ref_chosen_logps, np.float64), np.asarray(ref_rejected_logps, np.float64)], -1)
    if reference.shape != (len(pairs), 2) or not np.isfinite(reference).all():
        raise ValueError(f"expected finite summed reference log-probs of {len(pairs)} pairs, got {reference.shape[0]}")
    scored = score_answers(
        lm, [p.prompt for p in pairs], [(p.chosen, p.rejected) for p in pairs], batch_tokens=batch_tokens
    )
    policy = np.array([[answer.sum(dtype=np.float64) for answer in pair] for pair in scored]).reshape(-1, 2)
    margins = (policy - reference) @ np.array([1.0, -1.0])
    return np.where(np.abs(margins) <= _TIE_NATS, 0.5, (margins > 0).astype(np.float64))


def degenerate(text: str) -> bool:
    """Whether a completion is no answer: without a single word, or repeating itself.

    Repeating means that a sequence of three words comes four times or more (overlaps count, so one word six times in a
    row is such a sequence), or that of fifteen words or more fewer than 30 % are distinct.

    >>> [degenerate(text) for text in (" ", "no no no no no no", "No, that would be wrong.")]
    [True, True, False]
    """
    words = [word.casefold() for word in _WORD.findall(text)]
    if not words:
        return True
    triples = Counter(zip(words, words[1:], words[2:], strict=False))
    if triples and max(triples.values()) >= 4:
        return True
    return len(words) >= 15 and len(set(words)) < 0.3 * len(words)


def degeneration(completions: Iterable[str]) -> np.ndarray:
    """`degenerate` for each completion, bool [completions]; its mean is the share of degenerate ones."""
    return np.array([degenerate(text) for text in completions], dtype=bool)
