"""What makes a row unusable, and a prompt a leak.

A bad row is named, counted and left out; it never costs a good one.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Any

from smidgen.pairs import Messages, PreferencePair

MAX_FIELD_CHARACTERS = 10_000_000

EXPLANATIONS: dict[str, str] = {
    "malformed_json": "The line is not one whole JSON object; it may be truncated.",
    "malformed_csv": "The record's quotes do not match, or it has another number of cells than the header.",
    "truncated_file": "The compressed file ends early or is damaged; what came before was kept.",
    "duplicate_key": "A JSON object names the same key twice, so its meaning is unclear.",
    "not_an_object": "The JSON value is not an object with named columns.",
    "wrong_encoding": "The bytes are not UTF-8.",
    "lone_surrogate": "A text holds half of a surrogate pair, which is no character.",
    "nul_character": "A text holds a NUL character.",
    "huge_field": f"A line or text is longer than {MAX_FIELD_CHARACTERS:,} characters.",
    "missing_column": "A column that is needed is missing.",
    "null_field": "A text is null.",
    "not_text": "A field is neither text nor a list of messages.",
    "empty_field": "A text is empty or only white space.",
    "bad_messages": "A conversation's turns are not as expected: a prompt ends with the user, an answer is one turn.",
    "no_prompt": "There is no prompt column, and the answers are not whole dialogues that hold one.",
    "prompts_differ": "The two dialogues differ before their last assistant turn, so they answer different prompts.",
    "ends_in_human_turn": "A dialogue ends in a human turn, so there is no last answer.",
    "bad_ratings": "Generations and ratings do not match, or fewer than two have a rating that is a number.",
    "tied_ratings": "All generations have the same rating, so there is no preference.",
    "bad_idx": "The idx is not a whole number from 0 up.",
    "duplicate_idx": "Another row before this one has the same idx.",
    "duplicate_pair": "A row before this one has the same prompt, chosen and rejected.",
    "equal_answers": "Chosen and rejected are the same, so there is no preference.",
    "equal_tokens": "Chosen and rejected differ as text but have the same tokens.",
    "equal_after_cut": "Chosen and rejected are the same after the cut to their first tokens.",
    "bad_label": "The label is none of true, false, 1 and 0.",
    "bad_weight": "The weight is not a number from 0 up.",
    "duplicate_answer": "A row before this one has the same prompt, answer and label.",
    "not_expressible": "The format asked for has no way to write this pair so that it reads back as it is.",
    "over_long": "Prompt and answer together have more tokens than the limit.",
    "several_turns": "The prompt is more than one turn of the user, and only single turns were asked for.",
}


class BadRow(Exception):
    """A row that cannot be used: its reason, a key of `EXPLANATIONS`, and a detail safe to print."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A row left out.

    Attributes:
        source: The file or dataset it stood in.
        line: One-based line there; for JSON lists the line where the element begins, for Parquet and hubs the row.
        idx: The row's idx, where it is known.
        reason: A key of `EXPLANATIONS`.
        detail: What was found, in a few words.
    """

    source: str
    line: int
    idx: int | None
    reason: str
    detail: str


def check_text(value: Any, name: str) -> str:
    """`value` itself where it is a usable text; BadRow where it is null, not text, blank, or no valid Unicode."""
    text = check_string(value, name)
    if not text.strip():
        raise BadRow("empty_field", f"{name} is {'only white space' if text else 'empty'}")
    return text


def check_string(value: Any, name: str) -> str:
    """As `check_text`, but it may be blank, as an earlier turn of a real dialogue may."""
    if value is None:
        raise BadRow("null_field", f"{name} is null")
    if not isinstance(value, str):
        raise BadRow("not_text", f"{name} is {type(value).__name__}: {excerpt(value)}")
    check_characters(value, name)
    return value


def check_characters(value: str, name: str) -> None:
    """BadRow for a text that holds NUL or half a surrogate pair, or is too long to be one."""
    if len(value) > MAX_FIELD_CHARACTERS:
        raise BadRow("huge_field", f"{name} has {len(value):,} characters")
    if "\0" in value:
        raise BadRow("nul_character", f"{name} has NUL at character {value.index(chr(0))}")
    if not value.isascii() and (found := _SURROGATE.search(value)):
        raise BadRow("lone_surrogate", f"{name} has U+{ord(found[0]):04X} at character {found.start()}")


_SURROGATE = re.compile("[\ud800-\udfff]")


def excerpt(value: Any, length: int = 40) -> str:
    """The start of a value in printable ASCII, for messages about broken texts."""
    text = ascii(value)
    return text if len(text) <= length else text[:length] + "…"


Places = dict[int, tuple[str, int]]
"""The file and line in which each idx stood; a pair's own source may name another."""


def split_repeats(
    pairs: Iterable[tuple[PreferencePair, int, str]],
) -> tuple[list[PreferencePair], list[Quarantined], Places]:
    """Leave out pairs whose idx, or whose three texts, an earlier pair has. The first stays.

    Args:
        pairs: Each pair with the line and the file it stood in.

    Returns:
        The pairs that stay, the others, and where those that stay stood.
    """
    kept: list[PreferencePair] = []
    repeated: list[Quarantined] = []
    place_of_idx: Places = {}
    idx_of_texts: dict[tuple[Messages, Messages, Messages], int] = {}
    for pair, line, source in pairs:
        texts = (pair.prompt, pair.chosen, pair.rejected)
        if pair.idx in place_of_idx:
            first_source, first_line = place_of_idx[pair.idx]
            detail = f"first in {first_source}, line {first_line}"
            repeated.append(Quarantined(source, line, pair.idx, "duplicate_idx", detail))
        elif texts in idx_of_texts:
            repeated.append(Quarantined(source, line, pair.idx, "duplicate_pair", f"same as idx {idx_of_texts[texts]}"))
        else:
            place_of_idx[pair.idx], idx_of_texts[texts] = (source, line), pair.idx
            kept.append(pair)
    return kept, repeated, place_of_idx


@dataclass(frozen=True, slots=True)
class Leak:
    """A training prompt that a benchmark prompt equals or nearly copies.

    Attributes:
        idx: The training pair's idx.
        prompt: Its user turn in question.
        twin: The nearest benchmark prompt.
        similarity: Jaccard similarity of their word bigrams; 1 where they are equal but for case, space, punctuation.
    """

    idx: int
    prompt: str
    twin: str
    similarity: float


Bigrams = frozenset[tuple[str, str]]


def normal_words(text: str) -> tuple[str, ...]:
    """A text's words, case and punctuation removed.

    >>> normal_words("What's  up?")
    ('what', 's', 'up')
    """
    return tuple(re.findall(r"\w+", text.casefold()))


def find_leaks(pairs: Iterable[PreferencePair], benchmark: Sequence[str], *, threshold: float = 0.6) -> list[Leak]:
    """Training prompts that equal, or nearly copy, a benchmark prompt; every user turn of a prompt is compared.

    Exact: candidates share one of their rarest bigrams, which any two sets at the threshold must do.

    Args:
        pairs: Training pairs.
        benchmark: Benchmark prompts.
        threshold: Least Jaccard similarity of word bigrams that counts as a near-copy, in (0, 1]. Prompts of one word
            have no bigrams: those leak only where they are equal.

    Returns:
        One leak a pair at most, with its nearest twin, in the order of `pairs`.

    Source: prefix filtering, Chaudhuri et al. 2006 and Bayardo et al. 2007 (All-Pairs).
    """
    index = _LeakIndex(benchmark, threshold)
    found: dict[str, tuple[float, str] | None] = {}
    leaks = []
    for pair in pairs:
        best: Leak | None = None
        for turn in (m.content for m in pair.prompt if m.role == "user"):
            if turn not in found:
                found[turn] = index.nearest(turn)
            if (hit := found[turn]) and (best is None or hit[0] > best.similarity):
                best = Leak(pair.idx, turn, hit[1], hit[0])
        if best:
            leaks.append(best)
    return leaks


class _LeakIndex:
    """Benchmark prompts by their words, and by the bigrams that a near-copy must share."""

    def __init__(self, benchmark: Sequence[str], threshold: float) -> None:
        self._threshold = threshold
        self._benchmark = benchmark
        self._equal = {_normal(prompt): i for i, prompt in reversed(list(enumerate(benchmark)))}
        self._bigrams = [_bigrams(prompt) for prompt in benchmark]
        self._frequency = Counter(bigram for bigrams in self._bigrams for bigram in bigrams)
        self._holders: dict[tuple[str, str], list[int]] = defaultdict(list)
        for i, bigrams in enumerate(self._bigrams):
            for bigram in self._prefix(bigrams):
                self._holders[bigram].append(i)

    def _prefix(self, bigrams: Bigrams) -> Iterator[tuple[str, str]]:
        """The rarest bigrams: two sets with Jaccard at the threshold cannot both lack the other's."""
        rarest = sorted(bigrams, key=lambda bigram: (self._frequency[bigram], bigram))
        # The small term keeps a product such as 0.6 * 5 from rounding up past the whole number it stands for.
        yield from rarest[: len(rarest) - ceil(self._threshold * len(rarest) - 1e-9) + 1]

    def nearest(self, prompt: str) -> tuple[float, str] | None:
        """Similarity and text of the nearest benchmark prompt at or above the threshold."""
        if (equal := self._equal.get(_normal(prompt))) is not None:
            return 1.0, self._benchmark[equal]
        bigrams = _bigrams(prompt)
        candidates = {i for bigram in self._prefix(bigrams) for i in self._holders.get(bigram, ())}
        scored = [(jaccard(bigrams, self._bigrams[i]), -i) for i in candidates]
        best = max(scored, default=(0.0, 0))
        return (best[0], self._benchmark[-best[1]]) if best[0] >= self._threshold else None


def _normal(text: str) -> str:
    """Words joined; a prompt without any (only punctuation) stands for itself."""
    return " ".join(normal_words(text)) or f"\0{text.strip()}"


def _bigrams(text: str) -> Bigrams:
    words = normal_words(text)
    return frozenset(pairwise(words))


def jaccard(a: Bigrams, b: Bigrams) -> float:
    """Shared over all; 0 for two empty sets."""
    return len(a & b) / len(a | b) if a or b else 0.0
