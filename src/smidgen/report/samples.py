"""Which completions to show: where the subset's model and full data's model differ first, then a fixed draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from smidgen.pairs import random_key
from smidgen.report.artefacts import Answer

COLUMNS = ("base", "subset", "full")


@dataclass(frozen=True, slots=True)
class SideBySide:
    """One confirm prompt and what each model wrote; a model without a completion has no entry."""

    harmful: bool
    prompt: str
    answers: Mapping[str, Answer]
    differ: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """The chosen prompts of one class, and what they were chosen from."""

    harmful: bool
    shown: tuple[SideBySide, ...]
    n_prompts: int
    n_refused: Mapping[str, int]
    n_differ: int


def sample(answers: Mapping[str, Sequence[Answer]], *, harmful: bool, n: int = 12) -> Sample:
    """Up to `n` prompts of one class, the same ones every time.

    Half the places go to prompts where the subset's and the full data's model disagree about refusing (as far as
    there are any), the rest to prompts where they agree; both drawn by a hash of the prompt's index.
    """
    by_prompt: dict[int, dict[str, Answer]] = {}
    for arm in COLUMNS:
        for answer in answers.get(arm, ()):
            if answer.harmful == harmful:
                by_prompt.setdefault(answer.prompt_index, {})[arm] = answer
    rows = {
        index: SideBySide(harmful, next(iter(found.values())).prompt, found, _differ(found))
        for index, found in by_prompt.items()
    }
    drawn = sorted(rows, key=lambda index: random_key("completions", index))
    differing = [index for index in drawn if rows[index].differ]
    agreeing = [index for index in drawn if not rows[index].differ]
    n_differing = min(len(differing), max(n // 2, n - len(agreeing)))
    chosen = differing[:n_differing] + agreeing[: n - n_differing]
    return Sample(
        harmful=harmful,
        shown=tuple(rows[index] for index in chosen),
        n_prompts=len(rows),
        n_refused={
            arm: sum(row.answers[arm].refused for row in rows.values() if arm in row.answers)
            for arm in COLUMNS
            if any(arm in row.answers for row in rows.values())
        },
        n_differ=len(differing),
    )


def _differ(found: Mapping[str, Answer]) -> bool:
    return "subset" in found and "full" in found and found["subset"].refused != found["full"].refused
