"""The judge that prefers fewer words."""

from __future__ import annotations

from pydantic import NonNegativeFloat

from smidgen.evaluation.judges.base import Judge, judge
from smidgen.evaluation.judges.rules import text_judge


@judge
def shorter(*, tie_within: NonNegativeFloat = 0.0) -> Judge:
    """The answer with fewer words wins.

    Args:
        tie_within: Words that two answers may be apart and still tie.
    """
    return text_judge("shorter", lambda text: -float(len(text.split())), tie_within=tie_within)
