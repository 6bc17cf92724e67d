"""The judge that prefers texts which say nothing twice, as small models do."""

from __future__ import annotations

from pydantic import NonNegativeFloat, PositiveInt

from smidgen.errors import UsageError
from smidgen.evaluation.judges.base import Judge, judge
from smidgen.evaluation.judges.rules import text_judge


@judge
def less_repetitive(*, words: PositiveInt = 3, tie_within: NonNegativeFloat = 0.0) -> Judge:
    """The answer in which a larger share of the runs of words are distinct wins; one too short for a run repeats none.

    Args:
        words: Of a run. Positive.
        tie_within: How far apart two shares may be and still tie.
    """
    if words < 1:
        raise UsageError(f"expected words of at least 1, got {words}; 3 is usual.")

    def distinct(text: str) -> float:
        said = text.casefold().split()
        runs = [tuple(said[i : i + words]) for i in range(len(said) - words + 1)]
        return len(set(runs)) / len(runs) if runs else 1.0

    return text_judge("less_repetitive", distinct, tie_within=tie_within)
