r"""Completions as text to read: a heading a prompt, a heading a completion, and what stands below them.

    PROMPT 1

    First Citizen:

    COMPLETION 1-A

    We are undone.

A text keeps every character. A line of it that looks like a heading is written with a backslash in front, and so is a
blank line at either end, since blank lines around a text mean nothing; such a line that opens with backslashes already
gets one more. All other lines stand as they are.

What other programs write is read as well: `SUMMARY 1` for the only completion of a prompt, a colon or dashes around a
heading, text behind the colon, POST, PREFIX or INPUT for PROMPT, line breaks of Windows, and files without headings of
prompts, where lines of dashes or a list of the prompts tell where a completion ends.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from smidgen.errors import InvalidData, UsageError
from smidgen.evaluation.completions import Completed, Completions, letter
from smidgen.evaluation.completions_loose import with_prompts
from smidgen.evaluation.completions_sections import PROMPT_WORDS, Section, lines_of, sections_of, text_of

_LABEL = re.compile(r"[A-Z]+")


def check_label(label: str) -> str:
    """`label` itself; UsageError where it is no word in capital letters from A to Z, or calls a prompt."""
    if not _LABEL.fullmatch(label) or label in PROMPT_WORDS:
        raise UsageError(
            f"expected a label in capital letters from A to Z, and not {', '.join(PROMPT_WORDS)}, got {label!r}. "
            "COMPLETION and SUMMARY are usual."
        )
    return label


def to_text(completions: Completions) -> str:
    """The whole file.

    Raises:
        UsageError: A label that is no word in capital letters.
    """
    label = check_label(completions.label)
    parts: list[tuple[str, str]] = []
    for number, row in enumerate(completions.rows, start=1):
        parts.append((f"PROMPT {number}", row.prompt))
        parts += [(f"{label} {number}-{letter(i)}", text) for i, text in enumerate(row.texts)]
    blocks = ("\n".join([heading, "", *lines_of(text), ""]) for heading, text in parts)
    return "\n".join(blocks)


def from_text(text: str, *, source: str, model: str, prompts: Sequence[str] | None = None) -> Completions:
    """What a file of this text holds; what stands before the heading of the first prompt is no part of it.

    Args:
        text: Of the file.
        source: The file's name, for messages.
        model: Who wrote the completions.
        prompts: What was asked, for files that have no headings of prompts.

    Raises:
        InvalidData: No completion, or headings out of their order; says where.
    """
    sections = sections_of(text, source)
    if all(section.letter for section in sections[1:]):
        sections = with_prompts(sections, prompts, source)
    label = next(section.word for section in sections if section.letter)
    return Completions(model=model, rows=tuple(_rows(sections, label, source)), label=label)


def _rows(sections: Sequence[Section], label: str, source: str) -> list[Completed]:
    """Prompts with their completions, whose headings must come in their order."""
    prompt_word = next(section.word for section in sections[1:] if not section.letter)
    rows: list[tuple[str, list[str]]] = []
    for section in sections[1:]:
        expected = [f"{prompt_word} {len(rows) + 1}"] if not rows or rows[-1][1] else []
        expected += [f"{label} {len(rows)}-{letter(len(rows[-1][1]))}"] if rows else []
        if section.title not in expected:
            raise InvalidData(
                f"{source}, line {section.line}: expected {' or '.join(expected)}, got {section.title}. Put prompts "
                "and completions in their order, and a backslash before a line of text that looks like a heading."
            )
        if section.letter:
            rows[-1][1].append(text_of(section.lines))
        else:
            rows.append((text_of(section.lines), []))
    return [Completed(prompt, tuple(texts)) for prompt, texts in rows]
