"""From a judge's reply on two answers to the one that it prefers, or to why there is none. Nothing is guessed."""

from __future__ import annotations

from dataclasses import dataclass

from smidgen.models.chat.last_line import label_pattern, labelled_values, without_reasoning

FIRST, SECOND, NEITHER = "1", "2", "tie"
PROBLEMS = {
    "no_verdict": "the reply does not end with a line `Verdict: 1`, `Verdict: 2` or `Verdict: tie`",
    "not_a_choice": "what stands after `Verdict:` is none of 1, 2 and tie",
    "verdicts_differ": "the reply has several verdict lines, and they disagree",
    "cut": "the reply was cut by the token limit before its end, however many tokens it was given",
    "waiting": "the budget was spent before the judge was asked",
    "over_long": "prompt and answer are longer than the model takes; no answer is cut",
}
"""Why a match has no verdict, one sentence each; a judge that gives no reply has reasons of its own."""
_LABEL = label_pattern("verdict")
_CHOICES = (FIRST, SECOND, NEITHER)


@dataclass(frozen=True, slots=True)
class Choice:
    """What a reply says: `1`, `2` or `tie`, or None with one of `PROBLEMS`."""

    choice: str | None
    problem: str = ""


def read_choice(reply: str) -> Choice:
    """The choice that a whole reply ends with.

    Markup, case and a full stop are read over; a word beside the choice is not. What a reasoning model writes up to
    `</think>` is not part of its reply. Verdict lines above that disagree make it missing, since a quoted one cannot be
    told from the judge's own.

    >>> read_choice("The second says more.\\n\\n**Verdict: 2**")
    Choice(choice='2', problem='')
    >>> read_choice("I prefer answer 1.")
    Choice(choice=None, problem='no_verdict')
    """
    said = without_reasoning(reply)
    values = [] if said is None else list(labelled_values(said, _LABEL))
    if not values or not values[-1][0]:
        return Choice(None, "no_verdict")
    *others, last = [value.rstrip(".").strip().casefold() for _, value in values]
    if last not in _CHOICES:
        return Choice(None, "not_a_choice")
    if any(other in _CHOICES and other != last for other in others):
        return Choice(None, "verdicts_differ")
    return Choice(last)
