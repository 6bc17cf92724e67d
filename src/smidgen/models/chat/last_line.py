"""The labelled line that a judge's reply is asked to end with: `Score: N`, `Verdict: 1`. Found, never guessed."""

from __future__ import annotations

import re
from collections.abc import Iterator

_MARKUP = re.compile(r"[*_`#]+")
# Alone at an end of its line: a tag that is spoken of stands within one. No pattern here may cross lines or look back
# over what it has read: a reply of ten megabytes must cost no more than ten of one.
_REASONED = re.compile(r"^[^\S\n]*</think>|</think>[^\S\n]*$", re.MULTILINE)


def label_pattern(word: str) -> re.Pattern[str]:
    """What opens such a line: not "Maximum score: 5", nor a quoted line, in quotation marks or after >.

    >>> bool(label_pattern("score").match("My final score: 5")), bool(label_pattern("score").match("Maximum score: 5"))
    (True, False)
    """
    return re.compile(rf"(?:[-•]\s+)?(?:(?:my|the|final|overall)\s+){{0,3}}{word}\s*[:：=]", re.IGNORECASE)


def without_reasoning(reply: str) -> str | None:
    """A reply without what a reasoning model writes up to `</think>`; None where it is all reasoning."""
    if closings := list(_REASONED.finditer(reply)):
        return reply[closings[-1].end() :]
    if not reply.lstrip().startswith("<think>"):
        return reply
    _, closed, said = reply.partition("</think>")
    return said if closed else None


def labelled_values(said: str, label: re.Pattern[str]) -> Iterator[tuple[bool, str]]:
    """What stands after the label of each such line, or under it where nothing does; and whether the reply ends so."""
    lines = [_MARKUP.sub(_unmarked, line).strip() for line in said.splitlines()]
    lines = [line for line in lines if line]
    for i, line in enumerate(lines):
        if found := label.match(line):
            value, below = line[found.end() :].strip(), "".join(lines[i + 1 : i + 2])
            if value or not label.match(below):
                yield i + (not value) >= len(lines) - 1, value or below


def _unmarked(mark: re.Match[str]) -> str:
    """Nothing in place of markup, but between digits itself, so that no two numbers become one."""
    before, after = mark.string[max(mark.start() - 1, 0) : mark.start()], mark.string[mark.end() : mark.end() + 1]
    return mark[0] if before.isdecimal() and after.isdecimal() else ""
