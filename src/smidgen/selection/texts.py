"""What the texts and tokens of pairs tell, without a model: refusals by pattern, lengths, likeness, external scores."""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from smidgen.errors import UsageError
from smidgen.pairs import PreferencePair

if TYPE_CHECKING:
    from smidgen.data.tokens import EncodedPair

DEFAULT_LIST = "common"
PROMPT_BUCKETS = 256
ANSWER_BUCKETS = 128
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")


class PatternList(Protocol):
    """A named list of refusal patterns, as `evaluation.patterns` loads it."""

    @property
    def name(self) -> str: ...

    def matches(self, text: str, /) -> bool: ...


@dataclass(frozen=True, slots=True)
class WordCounts:
    """In how many of `n` texts each word stands, for prompts and for both answers of a pair together."""

    n: int
    prompts: Mapping[str, int]
    answers: Mapping[str, int]


def count_words(texts: Iterable[tuple[str, str]]) -> WordCounts:
    """Count over the prompt and the answers of all pairs, one pair at a time."""
    n, prompts, answers = 0, Counter[str](), Counter[str]()
    for prompt, answer in texts:
        n += 1
        prompts.update(set(words(prompt)))
        answers.update(set(words(answer)))
    return WordCounts(n, prompts, answers)


def prompt_and_answers(pair: PreferencePair) -> tuple[str, str]:
    """A pair's prompt, and both its answers as one text."""
    return pair.prompt_text, f"{pair.chosen_text} {pair.rejected_text}"


def text_names(pattern_lists: Sequence[PatternList]) -> tuple[str, ...]:
    """The columns that `text_columns` makes.

    Raises:
        UsageError: No pattern list named "common".
    """
    names = [patterns.name for patterns in pattern_lists]
    if DEFAULT_LIST not in names:
        told = ", ".join(names) or "none"
        raise UsageError(f"expected a pattern list named {DEFAULT_LIST!r}, got {told}; add it to the lists.")
    flags = [f"{side}_refuses{name}" for name in ("", *(f"_{n}" for n in names)) for side in ("chosen", "rejected")]
    lengths = [f"{part}_tokens" for part in ("prompt", "chosen", "rejected")]
    return (*flags, *lengths, "n_turns", "text_vector")


def text_columns(
    pairs: Sequence[PreferencePair],
    encoded: Sequence[EncodedPair],
    *,
    pattern_lists: Sequence[PatternList],
    counts: WordCounts,
    deciding: str = DEFAULT_LIST,
) -> dict[str, np.ndarray]:
    """Columns of some pairs, each pair by itself but for the words' frequencies among all.

    Args:
        pairs: Any of the checked pairs.
        encoded: The same, in the same order.
        pattern_lists: Refusal patterns.
        counts: Of all pairs.
        deciding: The list that also fills `chosen_refuses` and `rejected_refuses`.

    Returns:
        `chosen_refuses…`, `rejected_refuses…`: Whether an answer's last message matches, bool [n].
        `prompt_tokens`, `chosen_tokens`, `rejected_tokens`, `n_turns`: int64 [n].
        `text_vector`: See `text_vectors`, float32 [n, 384].
    """
    columns: dict[str, np.ndarray] = {}
    for patterns in pattern_lists:
        for side in ("chosen", "rejected"):
            answers = (getattr(pair, side)[-1].content for pair in pairs)
            columns[f"{side}_refuses_{patterns.name}"] = np.fromiter(map(patterns.matches, answers), bool, len(pairs))
    for side in ("chosen", "rejected"):
        columns[f"{side}_refuses"] = columns[f"{side}_refuses_{deciding}"]
    for part in ("prompt", "chosen", "rejected"):
        columns[f"{part}_tokens"] = np.array([len(getattr(pair, part)) for pair in encoded], dtype=np.int64)
    columns["n_turns"] = np.array([len(pair.prompt) for pair in pairs], dtype=np.int64)
    texts = [prompt_and_answers(pair) for pair in pairs]
    columns["text_vector"] = text_vectors(*zip(*texts, strict=True), counts=counts)
    return columns


def all_scored(encoded: Sequence[EncodedPair]) -> bool:
    """Whether both answers of every pair have an external score."""
    return bool(encoded) and all(p.chosen_score is not None and p.rejected_score is not None for p in encoded)


def external_margin(encoded: Sequence[EncodedPair]) -> np.ndarray:
    """The data's `chosen_score` - `rejected_score`, float64 [n]; every pair must have both."""
    both = np.array([(pair.chosen_score, pair.rejected_score) for pair in encoded], dtype=np.float64)
    return both[:, 0] - both[:, 1]


def words(text: str) -> list[str]:
    """The words of a text, lower case, without punctuation."""
    return _WORD.findall(text.lower())


def text_vectors(
    prompts: Sequence[str], answers: Sequence[str], *, counts: WordCounts | None = None, answer_share: float = 0.3
) -> np.ndarray:
    """One unit vector a pair; an inner product says how alike two pairs' texts are, 0 to 1.

    Prompts and answers are hashed bags of words, weighted by log inverse document frequency over all pairs, and
    each scaled to length 1: the inner product is (1 - answer_share) * cos(prompts) + answer_share * cos(answers).

    Args:
        prompts: One a pair.
        answers: Both answers of each pair as one text.
        counts: Of all pairs; None where these are all.

    Returns:
        float32 [n, 384].
    """
    counts = counts or count_words(zip(prompts, answers, strict=True))
    parts = (
        (prompts, counts.prompts, PROMPT_BUCKETS, 1 - answer_share),
        (answers, counts.answers, ANSWER_BUCKETS, answer_share),
    )
    return np.hstack(
        [math.sqrt(share) * _hashed_tfidf(texts, seen, counts.n, buckets) for texts, seen, buckets, share in parts]
    )


def _hashed_tfidf(texts: Sequence[str], counts: Mapping[str, int], n: int, buckets: int) -> np.ndarray:
    """Unit-length hashed tf-idf rows, [len(texts), buckets] float32; a text without words is a row of zeros."""
    vectors = np.zeros((len(texts), buckets), dtype=np.float32)
    known: dict[str, tuple[int, np.float64]] = {}
    for vector, text in zip(vectors, texts, strict=True):
        for word in sorted(set(words(text))):
            if word not in known:
                bucket = zlib.crc32(word.encode("utf-8", "surrogatepass")) % buckets
                known[word] = bucket, np.log(n / counts[word])
            bucket, weight = known[word]
            vector[bucket] += weight
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
