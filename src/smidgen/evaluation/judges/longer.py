"""The judge that prefers more words: what any other judge must be held against."""

from __future__ import annotations

from pydantic import NonNegativeFloat

from smidgen.evaluation.judges.base import Judge, judge
from smidgen.evaluation.judges.rules import text_judge


@judge
def longer(*, tie_within: NonNegativeFloat = 0.0) -> Judge:
    """The answer with more words wins.

    Args:
        tie_within: Words that two answers may be apart and still tie.
    """
    return text_judge("longer", lambda text: float(len(text.split())), tie_within=tie_within)
