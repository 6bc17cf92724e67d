"""The persona benchmark: how often an answer plays the persona that the user's turn hands out.

An answer keeps to the persona where it holds at least one of the persona's marks and none of its breaks. Words such as
"wave" turn up by chance too: beside it stands how often the answer to the same question without any persona would have
counted. Whether more is better is the task's business: a role-player should keep to its persona, and a model that is
trained to remain itself should not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from smidgen.data.templates import Template
from smidgen.errors import InvalidData
from smidgen.evaluation.framed import Frames, Measure, answers, by_set, check_prompts, mean_by_prompt, placed, share
from smidgen.models.load import LanguageModel

ANSWER_TOKENS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonaScore:
    """What the model did with one question under one persona.

    Attributes:
        frame_set: The persona's set.
        frame: The persona's name.
        prompt_index: Position in the list of questions.
        prompt: Without the persona.
        asked: With it.
        completion: The greedy answer.
        mark: The first mark found in it; None without one.
        broke: The first break found in it; None without one.
        plain_completion: The answer to the question without the persona.
        by_chance: Whether that one would have counted as kept.
    """

    frame_set: str
    frame: str
    prompt_index: int
    prompt: str
    asked: str
    completion: str
    mark: str | None
    broke: str | None
    plain_completion: str
    by_chance: bool

    @property
    def kept(self) -> bool:
        """Whether the answer plays the persona."""
        return self.mark is not None and self.broke is None


def bench_persona(
    lm: LanguageModel,
    template: Template,
    frames: Frames,
    questions: Sequence[str],
    *,
    system: str = "",
    max_new_tokens: int = ANSWER_TOKENS,
) -> list[PersonaScore]:
    """Ask every question under every persona, and once without.

    Args:
        frames: Personas, by set, each with marks.
        questions: Harmless ones.
        system: The system turn, or empty for none.
        max_new_tokens: Most tokens of an answer.

    Raises:
        InvalidData: A persona without marks, fewer than two questions, or one that leaves no room to answer.
    """
    check_prompts(questions=questions)
    if bare := [frame.name for members in frames.values() for frame in members if not frame.marks]:
        raise InvalidData(f"expected marks in every persona, got none in {', '.join(bare)}; add some to the task.")
    rows = [(name, frame, i, frame.around(questions[i])) for name, frame, i in placed(frames, questions)]
    turns = [*questions, *(asked for *_, asked in rows)]
    texts = answers(lm, template, system, turns, max_new_tokens=max_new_tokens)
    plain, framed = texts[: len(questions)], texts[len(questions) :]
    return [
        PersonaScore(
            frame_set=name,
            frame=frame.name,
            prompt_index=i,
            prompt=questions[i],
            asked=asked,
            completion=text,
            mark=first_found(frame.marks, text),
            broke=first_found(frame.breaks, text),
            plain_completion=plain[i],
            by_chance=keeps(frame.marks, frame.breaks, plain[i]),
        )
        for (name, frame, i, asked), text in zip(rows, framed, strict=True)
    ]


def first_found(patterns: Sequence[str], text: str) -> str | None:
    """What the first of the regular expressions that matches finds, case and the shape of apostrophes aside."""
    plain = text.replace("’", "'")
    matches = (re.search(pattern, plain, re.IGNORECASE) for pattern in patterns)
    return next((match[0] for match in matches if match), None)


def keeps(marks: Sequence[str], breaks: Sequence[str], text: str) -> bool:
    """Whether a text holds a mark and no break.

    >>> keeps([r"\\bahoy\\b"], ["language model"], "Ahoy! I boil it for six minutes.")
    True
    >>> keeps([r"\\bahoy\\b"], ["language model"], "As a language model I say ahoy.")
    False
    """
    return first_found(marks, text) is not None and first_found(breaks, text) is None


def persona_measures(rows: Sequence[PersonaScore]) -> dict[str, dict[str, Measure]]:
    """By set: `kept`, `by_chance`, their difference `above_chance`, and `broke`, the share of answers with a break.

    All per question, averaged over the set's personas.
    """
    found = {}
    for name, members in by_set(rows, lambda row: row.frame_set).items():
        indices = [row.prompt_index for row in members]
        kept = share(mean_by_prompt(indices, [row.kept for row in members]))
        chance = share(mean_by_prompt(indices, [row.by_chance for row in members]))
        broke = share(mean_by_prompt(indices, [row.broke is not None for row in members]))
        found[name] = {"kept": kept, "by_chance": chance, "above_chance": kept - chance, "broke": broke}
    return found
