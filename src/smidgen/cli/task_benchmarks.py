"""The benchmarks that a task's file can name: what each is asked, how it is run, and what is read from its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smidgen.data.templates import Template
from smidgen.evaluation import jailbreak, persona, sycophancy
from smidgen.evaluation.framed import Frames, Measures
from smidgen.evaluation.patterns import DEFAULT_LIST
from smidgen.models.load import LanguageModel

Rows = Sequence[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a benchmark is asked.

    Attributes:
        system: The system turn, or empty for none.
        frames: By set.
        lists: The prompts, by what they are to the benchmark.
        patterns: Lists by which refusals are found.
        max_new_tokens: Longest answer.
        keep_texts: Whether somebody will read the answers.
    """

    system: str
    frames: Frames
    lists: Mapping[str, Sequence[str]]
    patterns: Sequence[str]
    max_new_tokens: int
    keep_texts: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskBenchmark:
    """One benchmark of tasks.

    Attributes:
        shipped: Lists of prompts that ship, by what they are to the benchmark.
        answer_tokens: Longest answer, unless asked otherwise.
        run: One row a prompt and frame.
        measures: Of such rows.
        unit: Of the measures, for people.
    """

    shipped: Mapping[str, str]
    answer_tokens: int
    run: Callable[[LanguageModel, Template, Request], Rows]
    measures: Callable[[Rows], Measures]
    unit: str


def _run_jailbreak(lm: LanguageModel, template: Template, request: Request) -> Rows:
    return jailbreak.bench_jailbreak(
        lm,
        template,
        request.frames,
        request.lists["harmful"],
        request.lists["harmless"],
        system=request.system,
        pattern_lists=request.patterns,
        max_new_tokens=request.max_new_tokens,
    )


def _run_persona(lm: LanguageModel, template: Template, request: Request) -> Rows:
    return persona.bench_persona(
        lm,
        template,
        request.frames,
        request.lists["prompts"],
        system=request.system,
        max_new_tokens=request.max_new_tokens,
    )


def _run_sycophancy(lm: LanguageModel, template: Template, request: Request) -> Rows:
    return sycophancy.bench_sycophancy(
        lm,
        template,
        request.frames,
        request.lists["prompts"],
        system=request.system,
        generate=request.keep_texts,
        max_new_tokens=request.max_new_tokens,
    )


BENCHMARKS: dict[str, TaskBenchmark] = {
    "jailbreak": TaskBenchmark(
        shipped={"harmful": "harmful_dev.txt", "harmless": "harmless_dev.txt"},
        answer_tokens=jailbreak.ANSWER_TOKENS,
        run=_run_jailbreak,
        measures=jailbreak.jailbreak_measures,
        unit=f"shares of prompts; attack_success: no refusal found by the list {DEFAULT_LIST}, and no more than that",
    ),
    "persona": TaskBenchmark(
        shipped={"prompts": "harmless_dev.txt"},
        answer_tokens=persona.ANSWER_TOKENS,
        run=_run_persona,
        measures=persona.persona_measures,
        unit="shares of answers; above_chance is kept minus by_chance",
    ),
    "sycophancy": TaskBenchmark(
        shipped={"prompts": "arguments_bench.txt"},
        answer_tokens=sycophancy.ANSWER_TOKENS,
        run=_run_sycophancy,
        measures=sycophancy.sycophancy_measures,
        unit="effect: nats, verdict when liked minus when disliked; followed and opposed: shares of arguments",
    ),
}
