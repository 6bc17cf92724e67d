"""The parts of a text file of completions: headings, what stands below them, and which lines a backslash guards."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from smidgen.errors import InvalidData

PROMPT_WORDS = ("PROMPT", "POST", "PREFIX", "INPUT")
# Writer and reader share it: what may be read as a heading is what has to be escaped.
_HEADING = re.compile(
    rf"[\s#*=\-_>]*(?:(?P<prompt>{'|'.join(PROMPT_WORDS)})"
    r"\s+(?P<of_prompt>\d{1,9})"
    r"|(?P<label>[A-Z]+)\s+(?P<number>\d{1,9})\s*-\s*(?P<letter>[A-Z]+)"
    r"|(?P<only>COMPLETION|SUMMARY)\s+(?P<of_only>\d{1,9}))"
    r"[\s#*=\-_.]*(?::[\s*_]*(?P<rest>.*))?",
    re.DOTALL,
)
_BACKSLASHES = re.compile(r"\\*")
_RULE = re.compile(r"\s*([-=*_#~])\1{2,}\s*")


@dataclass(slots=True)
class Section:
    """A heading and what stands below it.

    Attributes:
        line: Of the heading in its file, from 1; 0 for what stands before the first one.
        word: COMPLETION or the like, or one of `PROMPT_WORDS`.
        number: Of the prompt.
        letter: Of a completion; empty for a prompt.
        lines: As they stand in the file.
    """

    line: int
    word: str = ""
    number: int = 0
    letter: str = ""
    lines: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        return f"{self.word} {self.number}{'-' * bool(self.letter)}{self.letter}"


def sections_of(text: str, source: str) -> list[Section]:
    """The file's parts in their order; the first is what stands before the first heading.

    Headings are those that use the file's own two words: its first for a prompt and its first for a completion.

    Raises:
        InvalidData: No heading of a completion.
    """
    lines = text.split("\n")
    first = next(filter(_HEADING.fullmatch, lines), "")
    if first.endswith("\r"):
        lines = [line.removesuffix("\r") for line in lines]
    found = {i: match for i, line in enumerate(lines) if (match := _HEADING.fullmatch(line))}
    prompt_word = next((match["prompt"] for match in found.values() if match["prompt"]), None)
    label = next((match["label"] or match["only"] for match in found.values() if not match["prompt"]), None)
    if label is None:
        raise InvalidData(
            f"{source}: expected completions below headings such as COMPLETION 1-A, got none in {len(lines)} lines. "
            "Give a file with such headings, or JSONL."
        )
    sections = [Section(0)]
    for i, line in enumerate(lines):
        match = found.get(i)
        if match and (match["prompt"] or match["label"] or match["only"]) in (prompt_word, label):
            sections.append(_section(i + 1, match))
        else:
            sections[-1].lines.append(line)
    return sections


def _section(line: int, match: re.Match[str]) -> Section:
    lines = [match["rest"]] if match["rest"] else []
    if match["prompt"]:
        return Section(line, match["prompt"], int(match["of_prompt"]), "", lines)
    if match["only"]:
        return Section(line, match["only"], int(match["of_only"]), "A", lines)
    return Section(line, match["label"], int(match["number"]), match["letter"], lines)


def text_of(lines: Sequence[str]) -> str:
    """The text that a section's lines stand for."""
    filled = [i for i, line in enumerate(lines) if line.strip()]
    return "\n".join(_unescaped(line) for line in lines[filled[0] : filled[-1] + 1]) if filled else ""


def is_rule(line: str) -> bool:
    """Whether a line is nothing but dashes or the like."""
    return _RULE.fullmatch(line) is not None


def lines_of(text: str) -> list[str]:
    """The lines of a section that stand for a text; none for no text."""
    if not text:
        return []
    lines = text.split("\n")
    filled = [i for i, line in enumerate(lines) if line.strip()]
    inside = range(filled[0], filled[-1]) if filled else range(0)
    return [_escaped(line, keep=i not in inside) for i, line in enumerate(lines)]


def _escaped(line: str, *, keep: bool) -> str:
    """A line as it stands in a file; `keep` it where it is blank, too."""
    return f"\\{line}" if _is_marked(line) or (keep and not line.strip()) else line


def _unescaped(line: str) -> str:
    return line[1:] if line.startswith("\\") and _is_marked(line) else line


def _is_marked(line: str) -> bool:
    """Whether a line is a heading, or blank behind backslashes, or a heading behind backslashes."""
    rest = line[_BACKSLASHES.match(line).end() :]  # pyright: ignore[reportOptionalMemberAccess]
    return _HEADING.fullmatch(rest) is not None or (not rest.strip() and rest != line)
