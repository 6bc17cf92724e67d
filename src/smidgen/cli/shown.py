"""Text as a terminal may see it: data, file names and servers can put nothing into it that the terminal would obey."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# Controls but tab and line feed; what turns the direction of writing, or breaks a line; halves of surrogate pairs, for
# which there is no UTF-8.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def shown(text: str) -> str:
    r"""The text with such characters spelt out as JSON spells them, so that JSON means what it meant.

    >>> shown("no\x1b[2J such\nmodel")
    'no\\u001b[2J such\nmodel'
    """
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def say(line: str) -> None:
    """Tell people on standard error what is going on."""
    print(shown(line), file=sys.stderr, flush=True)


@contextmanager
def warnings_shown() -> Iterator[None]:
    """Inside, warnings are shown as all else is: they name files, and what stands in them."""
    usual = warnings.formatwarning
    warnings.formatwarning = lambda *warned, **more: shown(usual(*warned, **more))
    try:
        yield
    finally:
        warnings.formatwarning = usual
