"""Text from outside, made safe to show and keep: no key, no control characters, one line, not too long."""

from __future__ import annotations

from itertools import groupby

HIDDEN = "[key]"
_MOST = 300
# A shorter key is no secret, and its letters stand in many an innocent text.
_SHORTEST_KEY = 8


def without_key(text: str, key: str) -> str:
    """The text with the key, if there is one, taken out wherever it stands.

    >>> without_key("wrong key: secret-123", "secret-123")
    'wrong key: [key]'
    """
    return text.replace(key, HIDDEN) if len(key) >= _SHORTEST_KEY else text


def without_pieces(text: str, key: str) -> str:
    """The text without any eight characters that follow each other in the key: servers quote the half of a wrong one.

    >>> without_pieces("Incorrect API key: secret-1234*****7890", "secret-1234-5678-7890")
    'Incorrect API key: [key]*****7890'
    """
    if len(key) < _SHORTEST_KEY:
        return text
    pieces = {key[i : i + _SHORTEST_KEY] for i in range(len(key) - _SHORTEST_KEY + 1)}
    hidden = [False] * len(text)
    for i in range(len(text) - _SHORTEST_KEY + 1):
        if text[i : i + _SHORTEST_KEY] in pieces:
            hidden[i : i + _SHORTEST_KEY] = [True] * _SHORTEST_KEY
    runs = groupby(zip(text, hidden, strict=True), key=lambda one: one[1])
    return "".join(HIDDEN if found else "".join(c for c, _ in run) for found, run in runs)


def printable(text: str) -> str:
    """The text with its control characters spelt out, which a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def safe_line(text: str, key: str = "") -> str:
    r"""What a server said, as one short line for people.

    >>> safe_line("no\nsuch \x1b[2Jmodel")
    'no such \\x1b[2Jmodel'
    """
    shown = printable(" ".join(without_pieces(text, key).split()))
    return shown if len(shown) <= _MOST else shown[: _MOST - 1] + "…"
