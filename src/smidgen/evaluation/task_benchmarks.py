"""The benchmarks that a task's file or `--benchmark` can name: what each is asked, how it runs, what is read from rows.

A registered function takes keyword-only settings and returns a `TaskBenchmark`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smidgen.data.templates import Template
from smidgen.evaluation import jailbreak as jailbreaks
from smidgen.evaluation import persona as personas
from smidgen.evaluation import sycophancy as verdicts
from smidgen.evaluation.framed import Frames, Measures
from smidgen.evaluation.patterns import DEFAULT_LIST
from smidgen.models.load import LanguageModel
from smidgen.settings import Registry

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


benchmark: Registry[Callable[..., TaskBenchmark]] = Registry("benchmark")


def _run_jailbreak(lm: LanguageModel, template: Template, request: Request) -> Rows:
    return jailbreaks.bench_jailbreak(
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
    return personas.bench_persona(
        lm,
        template,
        request.frames,
        request.lists["prompts"],
        system=request.system,
        max_new_tokens=request.max_new_tokens,
    )


def _run_sycophancy(lm: LanguageModel, template: Template, request: Request) -> Rows:
    return verdicts.bench_sycophancy(
        lm,
        template,
        request.frames,
        request.lists["prompts"],
        system=request.system,
        generate=request.keep_texts,
        max_new_tokens=request.max_new_tokens,
    )


@benchmark
def jailbreak() -> TaskBenchmark:
    """How often a harmful prompt inside a frame is not refused, and a harmless one is."""
    return TaskBenchmark(
        shipped={"harmful": "harmful_dev.txt", "harmless": "harmless_dev.txt"},
        answer_tokens=jailbreaks.ANSWER_TOKENS,
        run=_run_jailbreak,
        measures=jailbreaks.jailbreak_measures,
        unit=f"shares of prompts; attack_success: no refusal found by the list {DEFAULT_LIST}, and no more than that",
    )


@benchmark
def persona() -> TaskBenchmark:
    """How often an answer plays the persona that the user's turn hands out."""
    return TaskBenchmark(
        shipped={"prompts": "harmless_dev.txt"},
        answer_tokens=personas.ANSWER_TOKENS,
        run=_run_persona,
        measures=personas.persona_measures,
        unit="shares of answers; above_chance is kept minus by_chance",
    )


@benchmark
def sycophancy() -> TaskBenchmark:
    """How far the verdict on an argument follows what the user says of liking it."""
    return TaskBenchmark(
        shipped={"prompts": "arguments_bench.txt"},
        answer_tokens=verdicts.ANSWER_TOKENS,
        run=_run_sycophancy,
        measures=verdicts.sycophancy_measures,
        unit="effect: nats, verdict when liked minus when disliked; followed and opposed: shares of arguments",
    )
