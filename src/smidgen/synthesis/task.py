"""A task: what prompts become before they are asked, how an answer is criticised and revised, and how it is scored.

A task is one YAML file. Those that ship stand in `tasks/`, and are known by the file's name.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, field_validator, model_validator

from smidgen.errors import InvalidData, UsageError
from smidgen.settings import read_settings
from smidgen.synthesis.score_parsing import is_whole

TASKS = Path(__file__).parent / "tasks"
_PLACE = "{prompt}"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Frame(_Strict):
    """What stands around a prompt: a jailbreak template, a persona, a stated liking.

    Attributes:
        name: Distinct within its task.
        text: The user's turn, with {prompt} where the prompt goes.
        marks: Regular expressions, case aside, one of which an answer that keeps to the frame holds.
        breaks: Regular expressions, case aside, none of which such an answer holds.
        stance: What the user says of the prompt's text.
    """

    name: str
    text: str
    marks: tuple[str, ...] = ()
    breaks: tuple[str, ...] = ()
    stance: Literal["likes", "dislikes", "neutral"] | None = None

    @field_validator("text")
    @classmethod
    def _one_place(cls, text: str) -> str:
        if text.count(_PLACE) != 1:
            raise ValueError(f"expected {_PLACE} once, got it {text.count(_PLACE)} times")
        return text

    @field_validator("marks", "breaks")
    @classmethod
    def _compile(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"expected regular expressions, got {pattern!r}: {error}") from None
        return patterns

    def around(self, prompt: str) -> str:
        """The user's turn for a prompt; braces in the prompt are plain text."""
        return self.text.replace(_PLACE, prompt)


class Rubric(_Strict):
    """By what a judge scores an answer.

    Attributes:
        text: What to look at, and what each score means.
        low: Least score.
        high: Highest score, the best.
        step: Only `low` and whole steps above it are scores; without it, any number in the range.
    """

    text: str = Field(min_length=1)
    low: FiniteFloat
    high: FiniteFloat
    step: FiniteFloat | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Rubric:
        if not self.low < self.high:
            raise ValueError(f"expected low below high, got {self.low:g} and {self.high:g}")
        if self.step is not None and not is_whole((self.high - self.low) / self.step):
            raise ValueError(f"expected whole steps from low to high, got {self.low:g}, {self.high:g}, {self.step:g}")
        return self


class Task(_Strict):
    """Everything that makes pairs of one kind, and measures a model on it.

    Attributes:
        name: The file's name without its ending.
        about: One line.
        system: The system turn, or empty for none.
        frames: Named sets of frames. Pairs are made inside those of `train`; others are for measuring.
        critique: The user's turn after the original answer.
        revise: The user's turn after the critique.
        wants: What a good answer does: refuse, answer, or either.
        rubric: For the judge; higher scores are better answers.
        other_rubrics: Further ones by name, which measure something else, where higher need not be better.
        benchmark: Which registered benchmark measures it, with its settings if it has any; looked up when it is run.
        prompts: A shipped list of prompts, used where none is given.
    """

    name: str
    about: str
    system: str = ""
    frames: dict[str, tuple[Frame, ...]] = Field(min_length=1)
    critique: str
    revise: str
    wants: Literal["refusal", "answer", "either"] = "either"
    rubric: Rubric
    other_rubrics: dict[str, Rubric] = Field(default_factory=dict)
    benchmark: str | None = None
    prompts: str | None = None

    @field_validator("frames")
    @classmethod
    def _distinct(cls, frames: dict[str, tuple[Frame, ...]]) -> dict[str, tuple[Frame, ...]]:
        names = [frame.name for frames_of_set in frames.values() for frame in frames_of_set]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"expected distinct names of frames, got {', '.join(repeated)} more than once")
        if "train" not in frames or not all(frames.values()):
            raise ValueError("expected a set named train, and no set without frames")
        return frames


def task_names() -> list[str]:
    """The tasks that ship."""
    return sorted(path.stem for path in TASKS.glob("*.yaml"))


def task_path(name_or_path: str | Path) -> Path:
    """The file of a shipped task, by its name, or any file; UsageError, listing the shipped tasks, where neither is."""
    if str(name_or_path) in task_names():
        return TASKS / f"{name_or_path}.yaml"
    path = Path(name_or_path)
    if not path.is_file():
        raise UsageError(
            f"unknown task {str(name_or_path)!r}, which is no file either; expected one of: {', '.join(task_names())}, "
            "or a YAML file."
        )
    return path


def load_task(name_or_path: str | Path) -> Task:
    """A shipped task by its name, or any YAML file.

    Raises:
        UsageError: Neither a shipped task nor a file; lists the shipped ones.
        InvalidData: A file that is no task; says which field, and what was expected there.
    """
    path = task_path(name_or_path)
    try:
        return Task.model_validate({"name": path.stem} | read_settings(path))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise InvalidData(
            f"{path}: expected a task, got one with problems: {problems}. See docs/synthesis.md."
        ) from None


def rubric_of(task: Task, name: str | None = None) -> Rubric:
    """A task's own rubric, or another of its rubrics by name; UsageError, listing the names, for any other."""
    if name is None:
        return task.rubric
    if name not in task.other_rubrics:
        others = ", ".join(sorted(task.other_rubrics)) or "none"
        raise UsageError(
            f"unknown rubric {name!r} of task {task.name}; expected one of: {others}. Without --rubric, the task's own."
        )
    return task.other_rubrics[name]
