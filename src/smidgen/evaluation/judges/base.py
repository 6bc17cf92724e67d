"""What a judge is: a function from matches to verdicts, registered under its name; its arguments are its settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from smidgen.evaluation.matches import Match
from smidgen.evaluation.verdicts import LOSS, TIE, WIN, Verdict
from smidgen.settings import Registry

Judge = Callable[[Sequence[Match]], list[Verdict]]
"""One verdict for each match, in their order."""

judge: Registry[Callable[..., Judge]] = Registry("judge")
"""Functions that make a judge from settings; models and files are opened there, once."""


def outcome_of(score_a: float, score_b: float, *, tie_within: float = 0.0) -> float:
    """What two scores say: the higher wins, and those no further apart than `tie_within` tie.

    >>> outcome_of(2.0, 1.5), outcome_of(2.0, 1.5, tie_within=0.5), outcome_of(0.0, 1.5)
    (1.0, 0.5, 0.0)
    """
    if abs(score_a - score_b) <= tie_within:
        return TIE
    return WIN if score_a > score_b else LOSS
