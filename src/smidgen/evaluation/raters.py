"""People as raters of matches: their names, and the order and the sides in which each meets the answers.

Order and sides are by hash of her name: so she can stop, come back, and go on where she was, and no two raters share
the same accidents of order.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Sequence

from smidgen.errors import UsageError
from smidgen.evaluation.matches import Match

MOST_NAME = 60


def rater_name(text: str) -> str:
    """A person's name as it is filed: equal for what looks equal, such as with a space at the end.

    Raises:
        UsageError: Empty, longer than 60 characters, or with characters that cannot be seen.

    >>> rater_name("  Ada   Lovelace ")
    'Ada Lovelace'
    """
    name = " ".join(unicodedata.normalize("NFC", text).split())
    if not name or len(name) > MOST_NAME or not name.isprintable():
        raise UsageError(
            f"expected a name of 1 to {MOST_NAME} visible characters, got {name[:MOST_NAME]!r}. Give another."
        )
    return name


def rater_order(rater: str, matches: Sequence[Match]) -> list[int]:
    """The matches' positions in the order that a rater meets them: random, and always the same for her."""
    return sorted(range(len(matches)), key=lambda i: _lot("order", rater, matches[i]))


def a_is_left(rater: str, match: Match) -> bool:
    """Whether a rater sees `a` on the left: a fair coin, that falls the same way whenever she comes back."""
    return _lot("side", rater, match)[0] % 2 == 0


def _lot(what: str, rater: str, match: Match) -> bytes:
    return hashlib.blake2b(json.dumps([what, rater, *match.key]).encode(), digest_size=8).digest()
