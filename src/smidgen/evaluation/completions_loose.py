"""Text files of completions without headings of prompts, as other programs write them: where each prompt stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from smidgen.errors import InvalidData
from smidgen.evaluation.completions_sections import PROMPT_WORDS, Section, is_rule, lines_of


def with_prompts(sections: Sequence[Section], prompts: Sequence[str] | None, source: str) -> list[Section]:
    """The sections, with one for each prompt before its completions.

    The first prompt is what stands before the first completion. A later one ends the section of the completion before
    it: behind a line of dashes or the like, or as `prompts` has it, but for white space. A file with nothing before its
    first completion holds no prompts: they are those of `prompts`, or empty.

    Args:
        sections: The first is what stands before the first heading; all others are completions.
        prompts: What was asked, where that is known.
        source: The file's name, for messages.

    Raises:
        InvalidData: It cannot be told where a completion ends, or there are not as many prompts as in the file.
    """
    opening, completions = _without_rules(sections[0].lines), sections[1:]
    starts = [i for i, s in enumerate(completions) if i == 0 or s.number != completions[i - 1].number]
    if prompts is not None and len(prompts) != len(starts):
        raise InvalidData(
            f"{source}: expected completions of {len(prompts)} prompts, got {len(starts)}. Give the prompts that were "
            "asked."
        )
    found = [Section(0)]
    for i, section in enumerate(completions):
        if i in starts:
            asked = lines_of(prompts[starts.index(i)]) if prompts is not None else opening
            found.append(Section(section.line, PROMPT_WORDS[0], section.number, "", list(asked)))
        lines = _without_rules(section.lines)
        if opening and i + 1 in starts:
            known = None if prompts is None else prompts[starts.index(i + 1)]
            lines, opening = _parted(lines, known, section, completions[i + 1], source)
        found.append(replace(section, lines=list(lines)))
    return found


def _parted(
    lines: Sequence[str], known: str | None, section: Section, following: Section, source: str
) -> tuple[Sequence[str], Sequence[str]]:
    """A completion's lines and those of the prompt behind it, which is `known` where that is not None."""
    if known is not None:
        words: list[str] = []
        for start in range(len(lines) - 1, -1, -1):
            words = [*lines[start].split(), *words]
            if words == known.split():
                return _without_rules(lines[:start]), lines[start:]
        lacks = f"{known[:50]!r} as its last lines"
    else:
        rules = [i for i, line in enumerate(lines) if is_rule(line)]
        if rules:
            return _without_rules(lines[: rules[-1]]), lines[rules[-1] + 1 :]
        lacks = "a line of dashes between the completion and the next prompt"
    raise InvalidData(
        f"{source}, lines {section.line} to {following.line}: expected {lacks}, since prompt {following.number} stands "
        f"there as well, got none. Write {PROMPT_WORDS[0]} {following.number} on the line before that prompt, and so "
        "for all others, or give the prompts that were asked."
    )


def _without_rules(lines: Sequence[str]) -> Sequence[str]:
    """Lines without those at both ends that are blank or nothing but dashes."""
    filled = [i for i, line in enumerate(lines) if line.strip() and not is_rule(line)]
    return lines[filled[0] : filled[-1] + 1] if filled else []
