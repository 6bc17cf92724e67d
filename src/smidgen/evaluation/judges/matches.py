"""The judge that looks for a pattern: what matches it wins over what does not."""

from __future__ import annotations

import re

from smidgen.errors import UsageError
from smidgen.evaluation.judges.base import Judge, judge
from smidgen.evaluation.judges.rules import text_judge


@judge
def matches(*, pattern: str, ignore_case: bool = True, unwanted: bool = False) -> Judge:
    """The answer in which the pattern is found wins; where it is found in both or in neither, they tie.

    Args:
        pattern: A regular expression, without a comma: those part settings.
        ignore_case: Take capital and small letters for the same.
        unwanted: The answer without it wins instead.
    """
    try:
        found = re.compile(pattern, re.IGNORECASE if ignore_case else 0)
    except re.error as error:
        raise UsageError(
            f"expected a regular expression, got {pattern!r}: {error}. Escape what stands for itself."
        ) from None
    return text_judge("matches", lambda text: float((found.search(text) is not None) != unwanted))
