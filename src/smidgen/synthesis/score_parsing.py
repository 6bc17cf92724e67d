"""From a judge's reply to the score in it, or to why there is none. Nothing is guessed.

A judge is asked to end with one line `Score: N`. That line, where its reply ends with one, is its verdict. A score that
cannot be read is missing, with a reason; it is never taken from anywhere else in the reply, and never from another
reply.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite

from smidgen.models.chat.last_line import label_pattern, labelled_values, without_reasoning

PROBLEMS = {
    "no_score": "the reply does not end with a line `Score: N`",
    "not_a_number": "what stands after `Score:` is not one number, such as a range, a word or a percentage",
    "other_scale": "the score is out of another number than the highest one",
    "out_of_range": "the score is outside the rubric's range",
    "between_steps": "the score is between two that the rubric allows",
    "scores_differ": "the reply has several score lines, and they disagree",
    "cut": "the reply was cut by the token limit before its end, however many tokens it was given",
}
"""Why a reply has no score, one sentence each."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reply says.

    Attributes:
        score: One that the rubric allows; None where the reply has none.
        problem: One of `PROBLEMS` where there is none, else empty.
    """

    score: float | None
    problem: str = ""


_LABEL = label_pattern("score")
# "Score: N", "Score: <number>": the form itself, quoted.
_PLACEHOLDER = re.compile(r"[nx]|<[^<>\d]*>|\[[^\[\]\d]*\]|\{[^{}\d]*\}", re.IGNORECASE)
_MINUS = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d", "-"))
_NUMBER = r"[+-]?(?:\d+(?:[.,]\d+)?|\.\d+)"
_VALUE = re.compile(
    rf"(?P<score>{_NUMBER})\s*(?:(?:/|\(?\s*out\s+of\b|of\b)\s*(?P<most>{_NUMBER})\s*\)?)?\s*(?:points?)?\s*[.!]?"
    r"\s*(?:\([^()\d]*\)\s*[.!]?)?",
    re.IGNORECASE,
)
# 1,234 may be either of two numbers.
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")


def read_score(reply: str, *, low: float, high: float, step: float | None = None) -> Reading:
    """The score that a whole reply ends with.

    Markup, `4/5`, `4 out of 5`, decimal commas and typographic minus signs are read; so is a number on the last line
    under a bare `Score:`. What a reasoning model writes up to `</think>` is not part of its reply. Score lines above
    that disagree make the score missing, since a quoted one cannot be told from the judge's own.

    Args:
        reply: Not cut by a token limit: the end of a cut one is not its verdict.
        low: Least score.
        high: Highest score, at least `low`; a score "out of" another number is not converted.
        step: Only `low` and whole steps above it are scores; any number in the range where None.

    >>> read_score("It helps 1 bit.\\n\\n**Score:** −3", low=-5, high=5)
    Reading(score=-3.0, problem='')
    >>> read_score("The first 3 points are true.", low=0, high=5)
    Reading(score=None, problem='no_score')
    """
    said = without_reasoning(reply)
    if said is None:
        return Reading(None, "no_score")
    values = list(labelled_values(said, _LABEL))
    if not values or not values[-1][0] or _PLACEHOLDER.fullmatch(values[-1][1]):
        return Reading(None, "no_score")
    *others, verdict = [_number(value, high) for _, value in values]
    if isinstance(verdict, str):
        return Reading(None, verdict)
    if any(isinstance(other, float) and other != verdict for other in others):
        return Reading(None, "scores_differ")
    if not low <= verdict <= high:
        return Reading(None, "out_of_range")
    return Reading(verdict) if step is None or is_whole((verdict - low) / step) else Reading(None, "between_steps")


def is_whole(number: float) -> bool:
    """Whether a quotient is a whole number, but for its rounding."""
    return abs(number - round(number)) < 1e-9


def _number(value: str, high: float) -> float | str:
    """The number that a value is, or the problem with it."""
    # One space for many: the pattern tries every way to share them out among its parts.
    found = _VALUE.fullmatch(" ".join(value.translate(_MINUS).split()))
    if not value:
        return "no_score"
    if not found or any(_THOUSANDS.fullmatch(part) for part in found.groups() if part):
        return "not_a_number"
    if found["most"] and _float(found["most"]) != high:
        return "other_scale"
    score = _float(found["score"])
    return score if isfinite(score) else "out_of_range"


def _float(text: str) -> float:
    # Less than nothing is nothing: -0 and 0 are one score.
    return float(text.replace(",", ".")) + 0.0
