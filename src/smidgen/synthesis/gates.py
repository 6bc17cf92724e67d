"""Quality gates: what makes a revision unfit to be preferred, each by one small function.

A row that a gate stops is named, counted and left out; it never costs a good one. Gates look at a row alone; only
then are near-duplicates searched for, among the rows that passed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from smidgen.data.checks import normal_words
from smidgen.evaluation.patterns import DEFAULT_LIST, Patterns, load_patterns
from smidgen.synthesis.language import language_of
from smidgen.synthesis.near_duplicates import find_near_duplicates
from smidgen.synthesis.whole_refusal import OPENING_CHARACTERS, refuses_the_whole

Wants = Literal["refusal", "answer", "either"]

NEAR_DUPLICATE = 0.8
# An answer may quote what it is about, at any length, but be mostly its own; nobody quotes a critique at such length.
CRITIQUE_RUN = 30
# A refusal of one sentence repeats most of its request's words, so a short text must repeat nearly all to be an echo.
ECHO_SHORT_WORDS = 30
ECHO_LEAST_WORDS = 8
ECHO_SHARE_SHORT, ECHO_SHARE = 0.9, 0.5
_ECHO_GRAM = 5
# Two languages share few words; where this many are known from prompt or original, the slow judgement is spared.
SAME_LANGUAGE_SHARE = 0.3

EXPLANATIONS: dict[str, str] = {
    "empty": "The revision holds no word.",
    "cut": "The token limit ended the revision.",
    "unchanged": "The revision is the original.",
    "same_words": "The revision is the original but for case, space and punctuation.",
    "refusal": "The revision refuses the whole request, and the task wants answers.",
    "inverted": "The original refuses and the revision does not, and the task wants refusals.",
    "prompt_echo": "The revision is mostly the prompt again.",
    "critique_echo": "The revision repeats its critique.",
    "talks_of_revising": "The revision speaks of having been revised, and the prompt asks for no rewriting.",
    "language_drift": "The revision is in another language than both the prompt and the original.",
    "near_duplicate": "An accepted row of smaller idx has nearly the same texts.",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a row is left out.

    Attributes:
        reason: A key of `EXPLANATIONS`.
        detail: What was found, in a few words, of printable characters.
        twin: Position of the row that this one nearly repeats, in the order given.
    """

    reason: str
    detail: str
    twin: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What a gate sees of a row.

    Attributes:
        asked: The user's turn, in its frame.
        original: The answer that was criticised.
        critique: Empty where it is not known.
        revision: The answer that is to be preferred.
        cut: Whether the token limit ended the revision.
        wants: What a good answer does.
        patterns: By which a refusal is found.
    """

    asked: str
    original: str
    critique: str
    revision: str
    cut: bool
    wants: Wants
    patterns: Patterns


# From a row to what is wrong with it, in a few words; None where nothing is.
Gate = Callable[[Candidate], str | None]


def find_faults(
    asked: Sequence[str],
    originals: Sequence[str],
    revisions: Sequence[str],
    *,
    wants: Wants = "either",
    prompts: Sequence[str] | None = None,
    critiques: Sequence[str] | None = None,
    cut: Sequence[bool] | None = None,
    idxs: Sequence[int] | None = None,
) -> list[Fault | None]:
    """The first fault of each row, in the order of `GATES`, near-duplicates last.

    Which rows are near-duplicates depends on `wants`. Where refusals are wanted, the prompts, the framed prompts and
    the revisions must all be near, each by itself: refusals of different requests are alike by nature. Elsewhere
    prompt and revision are compared as one text, so that one long revision for many prompts is found too.

    Args:
        asked: User's turns, in their frames.
        originals: Answers that were criticised.
        revisions: Answers that are to be preferred.
        wants: What a good answer does.
        prompts: The prompts without their frames; `asked` where None.
        critiques: By which the answers were revised; not looked at where None.
        cut: Whether the token limit ended each revision; none where None.
        idxs: Distinct; of two near-duplicates the one with the smaller idx is kept. Positions where None.

    Returns:
        For each row its fault; None for a row that is fit.

    Raises:
        ValueError: Sequences of different lengths, or idxs that repeat.
    """
    n = len(revisions)
    plain = asked if prompts is None else prompts
    keys = range(n) if idxs is None else idxs
    if len(set(keys)) != n:
        raise ValueError(f"expected {n} distinct idxs, got {len(set(keys))}; near-duplicates are kept by idx.")
    patterns = load_patterns(DEFAULT_LIST)
    columns = (asked, originals, critiques or [""] * n, revisions, cut or [False] * n)
    faults = [
        _first_fault(Candidate(asked=a, original=o, critique=c, revision=r, cut=x, wants=wants, patterns=patterns))
        for a, o, c, r, x in zip(*columns, strict=True)
    ]
    views = [_views(*texts, wants) for texts in zip(plain, asked, revisions, strict=True)]
    accepted = [i for i in range(n) if faults[i] is None]
    twins = find_near_duplicates([views[i] for i in accepted], [keys[i] for i in accepted], threshold=NEAR_DUPLICATE)
    for i, twin in zip(accepted, twins, strict=True):
        if twin:
            position = accepted[twin.position]
            detail = f"similarity {twin.similarity:.2f} with idx {keys[position]}"
            faults[i] = Fault("near_duplicate", detail, position)
    return faults


def find_notes(originals: Sequence[str], revisions: Sequence[str], *, wants: Wants) -> list[str | None]:
    """What is worth counting and is no fault: a key of `NOTES` for each row, or None.

    A refusal without any of the usual phrases, such as one that changes the subject kindly, is found by no list, so
    a revision without them is not left out.
    """
    patterns = load_patterns(DEFAULT_LIST)

    def note(original: str, revision: str) -> str | None:
        # That an original answers says nothing of whether it answers as the task wants.
        if wants != "refusal":
            return None
        if not _refuses(patterns, revision):
            return "no_refusal_found"
        return "original_as_wanted" if _refuses(patterns, original) else None

    return [note(*texts) for texts in zip(originals, revisions, strict=True)]


NOTES: dict[str, str] = {
    "no_refusal_found": "The task wants refusals, and no pattern finds one in the revision: it may be a soft one.",
    "original_as_wanted": "The original refuses already, as the task wants, so the pair teaches style at most.",
}


def _views(prompt: str, asked: str, revision: str, wants: Wants) -> tuple[str, ...]:
    if wants == "refusal":
        return prompt, asked, revision
    return f"{prompt}\n{revision}", f"{asked}\n{revision}"


def _first_fault(row: Candidate) -> Fault | None:
    for reason, gate in GATES.items():
        if detail := gate(row):
            return Fault(reason, detail)
    return None


def _empty(row: Candidate) -> str | None:
    return None if normal_words(row.revision) else f"{len(row.revision)} characters without a word"


def _cut(row: Candidate) -> str | None:
    return f"after {len(row.revision)} characters" if row.cut else None


def _unchanged(row: Candidate) -> str | None:
    return f"{len(row.revision)} characters" if row.revision == row.original else None


def _same_words(row: Candidate) -> str | None:
    words = normal_words(row.revision)
    return f"{len(words)} words" if words == normal_words(row.original) else None


def _refusal(row: Candidate) -> str | None:
    return _opening(row.revision) if row.wants == "answer" and refuses_the_whole(row.revision) else None


def _inverted(row: Candidate) -> str | None:
    wrong_way = _refuses(row.patterns, row.original) and not _refuses(row.patterns, row.revision)
    return _opening(row.original) if row.wants == "refusal" and wrong_way else None


def _prompt_echo(row: Candidate) -> str | None:
    return _repeated(row.revision, row.asked)


def _critique_echo(row: Candidate) -> str | None:
    if _grams(normal_words(row.revision), CRITIQUE_RUN) & _grams(normal_words(row.critique), CRITIQUE_RUN):
        return f"{CRITIQUE_RUN} words or more in a row"
    return _repeated(row.revision, row.critique)


def _repeated(revision: str, source: str) -> str | None:
    """Says so where a large share of the revision's runs of words stands in the source too."""
    words, theirs = normal_words(revision), normal_words(source)
    if len(words) < ECHO_LEAST_WORDS:
        return None
    mine = _grams(words, _ECHO_GRAM)
    share = len(mine & _grams(theirs, _ECHO_GRAM)) / len(mine)
    least = ECHO_SHARE_SHORT if len(words) < ECHO_SHORT_WORDS else ECHO_SHARE
    return f"{share:.0%} of its runs of {_ECHO_GRAM} words" if share >= least else None


def _grams(words: tuple[str, ...], n: int) -> set[tuple[str, ...]]:
    return {words[i : i + n] for i in range(len(words) - n + 1)}


_ANSWER = r"(?:answer|response|reply|version|text|feedback|draft)"
_REVISED = r"(?:revised|rewritten|reworked|improved|updated|corrected|edited|refined|amended)"
_TALK = re.compile(
    rf"""\A\W*(?:(?:sure|certainly|of\ course|okay|ok|absolutely)\b\W*)?
        (?:(?:here(?:'s|\ is)|below\ is|this\ is)\ (?:the|a|an|my|your)\ (?:\w+\ )?{_REVISED}\b
        |(?:the\ |my\ )?{_REVISED}\ (?:\w+\ )?{_ANSWER}\b
        |(?:revision|rewrite)\s*[:\n]
        |i(?:'ve|\ have)\ (?:now\ )?{_REVISED}\b)
    |\b(?:the|this|my|our)\ (?:{_REVISED}|previous|earlier|initial)\ (?:answer|response|reply)\b""",
    re.IGNORECASE | re.VERBOSE,
)


_ASKS_TO_REVISE = re.compile(r"\b(?:rewrit|rewrote|revis|rework|improv|updat|correct|edit|refin|amend)", re.IGNORECASE)


def _talks_of_revising(row: Candidate) -> str | None:
    if _ASKS_TO_REVISE.search(row.asked):
        return None
    found = _TALK.search(row.revision.replace("’", "'"))
    return ascii(found[0].strip()[:60]) if found else None


def _language_drift(row: Candidate) -> str | None:
    words, known = normal_words(row.revision), {*normal_words(row.original), *normal_words(row.asked)}
    if sum(word in known for word in words) >= SAME_LANGUAGE_SHARE * len(words):
        return None
    revised = language_of(row.revision)
    if revised is None:
        return None
    before = language_of(row.original)
    if before is None or revised in (before, language_of(row.asked)):
        return None
    return f"{before} became {revised}"


def _refuses(patterns: Patterns, text: str) -> bool:
    return patterns.matches(text.strip()[:OPENING_CHARACTERS])


def _opening(text: str) -> str:
    return ascii(text.strip()[:60])


GATES: dict[str, Gate] = {
    "empty": _empty,
    "cut": _cut,
    "unchanged": _unchanged,
    "same_words": _same_words,
    "refusal": _refusal,
    "inverted": _inverted,
    "prompt_echo": _prompt_echo,
    "critique_echo": _critique_echo,
    "talks_of_revising": _talks_of_revising,
    "language_drift": _language_drift,
}
