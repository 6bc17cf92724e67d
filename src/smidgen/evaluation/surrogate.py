"""The smooth surrogate of refusing: the logit of the probability that an answer opens a refusal.

It needs one forward pass a prompt and no generation, moves before the generated metric does, and ranks trials cheaply.
How well it follows the generated metric is measured (`correlation`), never assumed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import logsumexp
from scipy.stats import rankdata
from torch import Tensor

from smidgen.data.templates import Template
from smidgen.errors import InvalidData
from smidgen.models.load import LanguageModel
from smidgen.models.logprobs import AnswerLogps, find_layout, score_answers
from smidgen.models.rows import collate_rows, row_lengths, token_budget_batches
from smidgen.models.weight_space import flat_gradient
from smidgen.pairs import messages_from

TokenIds = tuple[int, ...]
Opening = str | Sequence[int]

DEFAULT_OPENINGS = (
    "I'm sorry",
    "I am sorry",
    "Sorry",
    "I apologize",
    "I cannot",
    "I can't",
    "I can not",
    "I'm not able to",
    "I am not able to",
    "I'm unable to",
    "I am unable to",
    "I won't",
    "I will not",
    "As an AI",
)

# Log-probabilities are float32: 1 - p is not resolved below about 1e-6, while a small p keeps its digits as a log.
_HIGHEST_LOG_P = -1e-6
_LOWEST_LOG_P = -50.0


def encode_openings(openings: Iterable[Opening], template: Template, tokenizer: Any) -> list[TokenIds]:
    """Openings as token ids, written as the template writes an answer's first words; token ids pass as they are.

    Raises:
        InvalidData: No opening, or one without a token.
    """
    encoded = [
        tuple(tokenizer(_opening_text(opening, template), add_special_tokens=False)["input_ids"])
        if isinstance(opening, str)
        else tuple(map(int, opening))
        for opening in openings
    ]
    if not encoded or not all(encoded):
        raise InvalidData("expected refusal openings of at least one token each, got none or an empty one; name some.")
    return prefix_free(encoded)


def openings_from(
    answers: Iterable[str], template: Template, tokenizer: Any, *, max_openings: int = 16, opening_tokens: int = 4
) -> list[TokenIds]:
    """The most frequent first tokens of refusing answers, most frequent first; ties in token order.

    Args:
        answers: Answers that refuse, for example the chosen ones of the training pairs that a pattern list finds.
            Those of fewer than `opening_tokens` tokens are passed over: alone, " I" would open anything.
        template: Writes the space, or whatever else, that stands before an answer.
        tokenizer: The model's.
        max_openings: Most openings to return.
        opening_tokens: Length of each, tokens.

    Raises:
        InvalidData: No answer is long enough.
    """
    texts = [_opening_text(answer, template) for answer in answers if answer.strip()]
    rows = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    counts = Counter(tuple(row[:opening_tokens]) for row in rows if len(row) >= opening_tokens)
    if not counts:
        raise InvalidData(
            f"expected refusing answers of at least {opening_tokens} tokens, got none among {len(texts)}. "
            "Take the default openings, or pairs in which something is refused."
        )
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [tokens for tokens, _ in ranked[:max_openings]]


def refusal_openings(
    answers: Iterable[str], refuses: Callable[[str], bool], template: Template, tokenizer: Any
) -> tuple[Opening, ...]:
    """How those of the answers that refuse begin, as `openings_from` finds it; common English ones where none does."""
    try:
        return tuple(openings_from(filter(refuses, answers), template, tokenizer))
    except InvalidData:
        return DEFAULT_OPENINGS


def prefix_free(openings: Iterable[TokenIds]) -> list[TokenIds]:
    """Without repeats and without those that another one already opens, so that probabilities add up; order kept.

    >>> prefix_free([(1, 2, 3), (1, 2), (4,), (1, 2)])
    [(1, 2), (4,)]
    """
    distinct = list(dict.fromkeys(openings))
    known = set(distinct)
    return [o for o in distinct if not any(o[:length] in known for length in range(1, len(o)))]


def refusal_opening_logits(
    lm: LanguageModel,
    prompts: Sequence[TokenIds],
    openings: Sequence[TokenIds],
    *,
    batch_tokens: int = 8192,
) -> np.ndarray:
    """Logit of the probability that the model's answer begins with one of the openings.

    Args:
        lm: The model.
        prompts: Token ids, each ending where the answer begins.
        openings: Token ids as `encode_openings` gives them; those opened by another one are left out.
        batch_tokens: Tokens in a batch, padding counted.

    Returns:
        float64 [prompts], nats, within about [-50, 14].
    """
    if not prompts:
        return np.zeros(0)
    events = prefix_free(openings)
    scored = score_answers(lm, prompts, [events] * len(prompts), batch_tokens=batch_tokens)
    logps = np.array([[tokens.sum(dtype=np.float64) for tokens in answers] for answers in scored])
    return logit_of_log(np.asarray(logsumexp(logps, axis=1)))


def refusal_opening_gradient(
    lm: LanguageModel,
    prompts: Sequence[TokenIds],
    openings: Sequence[TokenIds],
    *,
    of: Literal["logit", "probability"] = "logit",
    batch_tokens: int = 8192,
) -> tuple[float, Float[Tensor, " weights"]]:
    """Mean over prompts of how likely an answer opens a refusal, and its gradient by all weights, float32.

    Args:
        prompts: At least one; see `refusal_opening_logits`.
        of: The mean of the logits, nats, or of the probabilities themselves. A probability, unlike its logit, no longer
            rewards refusing what is refused already, as a generated answer does not.

    Raises:
        ValueError: No prompt.
    """
    if not prompts:
        raise ValueError("expected prompts to take the mean over, got none; give at least one.")
    events = prefix_free(openings)
    scorer = AnswerLogps(lm.model, find_layout(lm.model))
    answers = [events] * len(prompts)
    value, gradient = 0.0, torch.zeros((), device=lm.device)
    for part in token_budget_batches(row_lengths(prompts, answers), batch_tokens, padded=scorer.layout != "packed"):
        rows = collate_rows([prompts[i] for i in part], [events] * len(part), layout=scorer.layout).to(lm.device)
        log_p = scorer(rows).sum().view(len(part), len(events)).logsumexp(1).clamp(_LOWEST_LOG_P, _HIGHEST_LOG_P)
        # Both branches of `logit_of_log` are finite within the limits, so neither spoils the other's gradient.
        log_rest = torch.where(log_p > -np.log(2), (-log_p.expm1()).log(), (-log_p.exp()).log1p())
        total = (log_p - log_rest if of == "logit" else log_p.exp()).sum()
        value, gradient = value + total.item(), gradient + flat_gradient(total, lm.model)
    return value / len(prompts), gradient / len(prompts)


def logit_of_log(log_p: np.ndarray) -> np.ndarray:
    """log p - log(1 - p) from log p, without leaving log space.

    Source: Mächler 2012, "Accurately computing log(1 - exp(-|a|))", for the second term.
    """
    log_p = np.clip(log_p, _LOWEST_LOG_P, _HIGHEST_LOG_P)
    near_one = log_p > -np.log(2)
    log_rest = np.where(near_one, np.log(-np.expm1(log_p)), np.log1p(-np.exp(log_p)))
    return log_p - log_rest


@dataclass(frozen=True, slots=True)
class Correlation:
    """How the surrogate follows the generated score over `n` trials; None below three, or where one is constant."""

    n: int
    spearman: float | None
    pearson: float | None

    def as_dict(self) -> dict[str, float | int | None]:
        return asdict(self)


def correlation(surrogates: Sequence[float | None], scores: Sequence[float | None]) -> Correlation:
    """Rank and linear correlation over the trials in which both numbers are there and finite.

    Args:
        surrogates: One surrogate score a trial.
        scores: The generated scores of the same trials.
    """
    both = np.array([surrogates, scores], dtype=np.float64).reshape(2, -1)
    both = both[:, np.isfinite(both).all(axis=0)]
    n = both.shape[1]
    if n < 3 or (both == both[:, :1]).all(axis=1).any():
        return Correlation(n, None, None)
    ranks = rankdata(both, axis=1)
    spearman, pearson = (float(np.asarray(np.corrcoef(values))[0, 1]) for values in (ranks, both))
    return Correlation(n, spearman, pearson)


def _opening_text(opening: str, template: Template) -> str:
    """An answer's first words as the template writes them, without what closes an answer."""
    text = template.response(messages_from(opening, "assistant"))
    found = text.rfind(opening.strip())
    return text if found < 0 else text[: found + len(opening.strip())]
