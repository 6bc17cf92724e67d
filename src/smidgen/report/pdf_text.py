"""Text of models and people, made ready for paper: all of it is there, and nothing in it acts.

What has no shape of its own, or would move other text (control characters, overrides of direction, hidden tags, half
characters), is shown as a visible sign of it. Lines and long words can be broken anywhere a page needs it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

UNDRAWN = "□"
_BREAK = "\u200b"
_LONG = 18
_MOST_LINES = 14
_STACKED = 6

_JOINED = {"Mn", "Me", "Mc", "Cf", "Sk"}
_ENDS = re.compile("\r\n|[\r\u2028\u2029]")
_GAPS = re.compile(r"\n(?:[^\S\n]*\n)+")
_OVERRIDES = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}
# Letters and digits in a row that no rule of writing lets a line break into.
_UNBROKEN = re.compile(rf"[^\s\u2e80-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff]{{{_LONG},}}")
_AFTER = re.compile(r"([/\\._\-:=,;&?@])(?=[^\s/\\._\-:=,;&?@])")
_STACK = re.compile(rf"([\u0300-\u036f\u20d0-\u20ff]{{{_STACKED}}})[\u0300-\u036f\u20d0-\u20ff]+")


def printable(text: str) -> str:
    r"""Text in which every character is one that can be drawn, or the sign of one that cannot.

    >>> printable("a\x00b\u202ec")
    'a‹U+0000›b‹U+202E›c'
    """
    text = _ENDS.sub("\n", text.replace("\t", "    "))
    text = "".join(character if " " <= character <= "~" else _shown(character) for character in text)
    # Marks piled up on one letter would cover the lines above and below.
    return _STACK.sub(rf"\1{UNDRAWN}", text)


def _shown(character: str) -> str:
    code, kind = ord(character), unicodedata.category(character)
    if character == "\n":
        return character
    # Tags are letters that nobody sees; private and unassigned characters have no agreed shape.
    if kind in ("Cc", "Cs", "Cn", "Co") or code in _OVERRIDES or 0xE0000 <= code < 0xE0080:
        return f"‹U+{code:04X}›"
    return character


def breakable(text: str) -> str:
    """The same text, with places inside long words where a line may end; they take no room."""
    return _UNBROKEN.sub(lambda found: _with_breaks(found[0]), text)


def _with_breaks(word: str) -> str:
    parts = _AFTER.sub(rf"\1{_BREAK}", word).split(_BREAK)
    return _BREAK.join(_BREAK.join(_chunks(part)) for part in parts)


def _chunks(part: str) -> Iterator[str]:
    start = 0
    while start < len(part):
        end = min(len(part), start + _LONG)
        # A mark or a joiner stays with what it belongs to.
        while end < len(part) and unicodedata.category(part[end]) in _JOINED:
            end += 1
        yield part[start:end]
        start = end


def is_right_to_left(text: str) -> bool:
    """Whether the first letter that has a direction runs from right to left."""
    return next((kind != "L" for c in text if (kind := unicodedata.bidirectional(c)) in ("L", "R", "AL")), False)


def said(text: str, most: int, *, one_line: bool = False) -> dict[str, Any]:
    """A text of data for the page: its beginning, with a sign where it goes on, and the direction it runs in.

    Args:
        most: Characters.
        one_line: Line ends count as spaces; otherwise several empty lines count as one.
    """
    if one_line:
        text = " ".join(text[: 4 * most].split())
    whole = _GAPS.sub("\n\n", _ENDS.sub("\n", text)).strip("\n")
    cut = "\n".join(whole[:most].split("\n")[:_MOST_LINES]).rstrip()
    return {"text": whole if len(cut) == len(whole.rstrip()) else f"{cut} …", "rtl": is_right_to_left(text)}


def every_text(value: Any) -> Iterator[str]:
    """The texts within nested mappings and lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from every_text(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from every_text(item)


def with_every_text(value: Any, change: Callable[[str], str]) -> Any:
    """The same value, each text within it changed; keys stay."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: with_every_text(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [with_every_text(item, change) for item in value]
    return value


def clusters(text: str) -> list[str]:
    """The text in parts that are drawn as one: a character with the marks and joiners that follow it.

    >>> clusters("añ")
    ['a', 'ñ']
    """
    if text.isascii():
        return list(text)
    found: list[str] = []
    for character in text:
        # Of ASCII, ^ and ` are of such a category, and stand alone.
        if found and not character.isascii() and unicodedata.category(character) in _JOINED:
            found[-1] += character
        else:
            found.append(character)
    return found


def with_signs(text: str, missing: Collection[str]) -> str:
    """The text with a sign in place of each cluster that is `missing`."""
    if text.isascii():
        return text
    return "".join(UNDRAWN if cluster in missing else cluster for cluster in clusters(text))


def undrawn_counts(value: Any, missing: Collection[str]) -> dict[str, int]:
    """How often clusters that no font here draws stand in the texts of `value`, by script, the commonest first."""
    found: Counter[str] = Counter()
    for text in every_text(value):
        if not text.isascii():
            found.update(_script(cluster) for cluster in clusters(text) if cluster in missing)
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


# The first word of a character's name says its script, but for these.
_EAST_ASIAN = {"CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "FULLWIDTH", "HALFWIDTH"}


def _script(cluster: str) -> str:
    character = next(c for c in cluster if not c.isascii())
    if 0x1F000 <= ord(character) < 0x20000 or unicodedata.category(character) == "So":
        return "emoji and symbols"
    name = unicodedata.name(character, "other").split()[0]
    return "Chinese and Japanese" if name in _EAST_ASIAN else name.capitalize()
