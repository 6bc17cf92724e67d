"""Text from outside, made safe to show and keep: no key, no control characters, one line, not too long."""

from __future__ import annotations

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


def safe_line(text: str, key: str = "") -> str:
    r"""What a server said, as one short line for people.

    >>> safe_line("no\nsuch \x1b[2Jmodel")
    'no such \\x1b[2Jmodel'
    """
    line = " ".join(without_key(text, key).split())
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    return shown if len(shown) <= _MOST else shown[: _MOST - 1] + "…"
