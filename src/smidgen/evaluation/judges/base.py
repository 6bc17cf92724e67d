"""What a judge is: a function from matches to verdicts, registered under its name; its arguments are its settings.

A registered function takes keyword-only settings and returns a `Judge`; models and files are opened there, once. One
that also takes an argument by position is given the `Desk`: whom to ask, and the folder of the comparison.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from smidgen.errors import UsageError
from smidgen.evaluation.matches import Match
from smidgen.evaluation.verdicts import LOSS, TIE, WIN, Verdict
from smidgen.models.chat.estimate import Estimate
from smidgen.models.chat.spending import Spending
from smidgen.models.chat.teacher import Teacher
from smidgen.settings import Registry, parse_spec

Judge = Callable[[Sequence[Match]], list[Verdict]]
"""One verdict for each match, in their order; people's, one for each of them who judged it."""

Show = Callable[[int, object], None]

judge: Registry[Callable[..., Judge]] = Registry("judge")


def _silent(total: int, spending: Spending, activity: str) -> AbstractContextManager[Show]:
    return nullcontext(lambda position, result: None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What a judge may use beside its settings.

    Attributes:
        folder: Of the comparison: replies are kept there, and people's votes.
        teacher: The chat model to ask, where the user names one.
        rubric: What "better" means, in the user's words; a judge's own setting goes first.
        samples: A file of sample preferences that show it; the same.
        concurrency: Most conversations at once.
        progress: Opens what is told of everything that is done: from how many there are, the count of costs, and what
            is being done.
    """

    folder: Path | None = None
    teacher: Teacher | None = None
    rubric: str = ""
    samples: str = ""
    concurrency: int = 8
    progress: Callable[[int, Spending, str], AbstractContextManager[Show]] = _silent


@runtime_checkable
class Paid(Protocol):
    """A judge whose verdicts cost calls: it tells how many before, and what they came to after."""

    @property
    def spending(self) -> Spending | None: ...
    @property
    def notes(self) -> Sequence[str]: ...
    def plan(self, matches: Sequence[Match]) -> Estimate: ...
    def __call__(self, matches: Sequence[Match], /) -> list[Verdict]: ...


def load_judge(spec: str, desk: Desk | None = None) -> Judge:
    """A registered judge, or a reward rule as one, with settings: `longer`, `refusal:patterns=broad,tie_within=0.5`.

    Raises:
        UsageError: Unknown name or setting, or what the judge itself raises.

    >>> load_judge("longer")([])
    []
    """
    from smidgen.evaluation.judges.rules import rule_judge
    from smidgen.evaluation.reward_rules import reward_rule

    name, _ = parse_spec(spec)
    if name in reward_rule.names() and name not in judge.names():
        return rule_judge(spec)
    if name not in judge.names():
        raise UsageError(
            f"unknown judge {name!r}; expected one of: {', '.join(judge.names())}; or a rule: "
            f"{', '.join(reward_rule.names())}."
        )
    make = judge.bind(spec)
    takes_desk = any(p.kind is p.POSITIONAL_OR_KEYWORD for p in inspect.signature(judge.get(name)).parameters.values())
    return make(desk or Desk()) if takes_desk else make()


def outcome_of(score_a: float, score_b: float, *, tie_within: float = 0.0) -> float:
    """What two scores say: the higher wins, and those no further apart than `tie_within` tie.

    >>> outcome_of(2.0, 1.5), outcome_of(2.0, 1.5, tie_within=0.5), outcome_of(0.0, 1.5)
    (1.0, 0.5, 0.0)
    """
    if abs(score_a - score_b) <= tie_within:
        return TIE
    return WIN if score_a > score_b else LOSS


def verdict_on(
    match: Match, name: str, score_a: float, score_b: float, *, tie_within: float = 0.0, why: str = ""
) -> Verdict:
    """The verdict of a judge that scores each answer."""
    outcome = outcome_of(score_a, score_b, tie_within=tie_within)
    return no_verdict(match, name, outcome=outcome, score_a=score_a, score_b=score_b, why=why)


def no_verdict(match: Match, name: str, **known: object) -> Verdict:
    """A verdict on a match of which no more than what is given is known: without an outcome, give a `problem`."""
    place = {"number": match.number, "letter": match.letter, "model_a": match.model_a, "model_b": match.model_b}
    return Verdict(**{"judge": name, "outcome": None, **place, **known})  # pyright: ignore[reportArgumentType]


def check_tie_within(tie_within: float) -> None:
    """UsageError for a distance that is none."""
    if not 0 <= tie_within < float("inf"):
        raise UsageError(f"expected tie_within of at least 0, got {tie_within}; scores no further apart tie.")
