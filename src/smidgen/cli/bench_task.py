"""`smidgen bench --task` and `--benchmark`: a model on a registered benchmark, and another on the same prompts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.types import ExistingFile
from pydantic import PositiveInt

from smidgen.assets import SHIPPED_PROMPTS
from smidgen.cli.flags import RARE
from smidgen.cli.outcome import Outcome
from smidgen.data.prompts import load_prompts
from smidgen.data.templates import load_template
from smidgen.errors import UsageError
from smidgen.evaluation.framed import PLAIN, differences, of_sets, some_prompts, summarize
from smidgen.evaluation.patterns import SHIPPED
from smidgen.evaluation.task_benchmarks import Request, Rows, TaskBenchmark
from smidgen.evaluation.task_benchmarks import benchmark as benchmarks
from smidgen.models.load import load_language_model
from smidgen.runs import atomic_write
from smidgen.synthesis.task import Frame, Task, load_task

CONFIDENCE = 0.95
_NO_FRAME = {PLAIN: (Frame(name=PLAIN, text="{prompt}"),)}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFlags:
    """What `--task` or `--benchmark` asks for; without either, nothing here may be given."""

    task: Annotated[
        str | None,
        Parameter(metavar="TASK", help="Measure a task instead: safety, role_play, sycophancy or a file"),
    ] = None
    benchmark: Annotated[
        str | None,
        Parameter(metavar="NAME", help="Run this benchmark, with its settings: in a task's frames, or in none"),
    ] = None
    after: Annotated[
        str | None,
        Parameter(metavar="MODEL", help="With --task, a second model on the same prompts"),
    ] = None
    sets: Annotated[
        tuple[str, ...],
        Parameter(metavar="NAME", help="With --task, this set of its frames alone; repeatable"),
    ] = ()
    prompts: Annotated[
        ExistingFile | None,
        Parameter(metavar="FILE", help="With --task, questions for personas or arguments to judge"),
    ] = None
    n_prompts: Annotated[
        PositiveInt | None,
        RARE,
        Parameter(help="With --task, at most this many prompts of each list, chosen by hash; 50 of the shipped ones."),
    ] = None

    def check_unused(self) -> None:
        """UsageError where something is given that only `--task` and `--benchmark` take."""
        given = {"after": self.after, "sets": self.sets, "prompts": self.prompts, "n-prompts": self.n_prompts}
        if flags := [name for name, value in given.items() if value]:
            raise UsageError(f"--{flags[0]}: expected --task beside it, got none; give --task safety, say.")

    @property
    def asks_for_one(self) -> bool:
        return bool(self.task or self.benchmark)


def bench_task(
    model: str,
    flags: TaskFlags,
    *,
    files: Mapping[str, Path | None],
    template: str,
    patterns: Sequence[str],
    completions: Path | None,
    max_new_tokens: int | None,
) -> Outcome:
    """Measure one model or two on a task's benchmark, or on one by its name.

    Args:
        files: Prompt files given by flags: harmful, harmless, prompts.
        completions: Where every row goes, with its text.
        max_new_tokens: Longest answer; the benchmark's own where None.

    Raises:
        UsageError: An unknown task or set of frames, a task without benchmark, prompts that it does not ask.
    """
    task = load_task(flags.task) if flags.task else None
    spec = flags.benchmark or _named_by(task)
    benchmark = _benchmark(spec, files)
    request = Request(
        system=task.system if task else "",
        frames=of_sets(task.frames if task else _NO_FRAME, flags.sets),
        lists={name: _prompts(files.get(name), shipped, flags) for name, shipped in benchmark.shipped.items()},
        patterns=(*SHIPPED, *(name for name in patterns if name not in SHIPPED)),
        max_new_tokens=max_new_tokens or benchmark.answer_tokens,
        keep_texts=completions is not None,
    )
    models = {"before": model} | ({"after": flags.after} if flags.after else {})
    rows = {when: _measure(name, benchmark, request, template) for when, name in models.items()}
    if completions:
        with atomic_write(completions) as file:
            for when, found in rows.items():
                about = {"model": models[when], "when": when}
                file.writelines(json.dumps(about | asdict(row), ensure_ascii=False) + "\n" for row in found)
    result = {"task": task.name if task else None, "benchmark": spec, **_result(benchmark, request, models, rows)}
    return Outcome(result, _table(result, benchmark.unit))


def _named_by(task: Task | None) -> str:
    if task is None or task.benchmark is None:
        raise UsageError(
            f"expected a task with a benchmark, got {task.name if task else 'none'}, which names none; write "
            f"`benchmark:` and one of {', '.join(benchmarks.names())} into its file, or give --benchmark."
        )
    return task.benchmark


def _benchmark(spec: str, files: Mapping[str, Path | None]) -> TaskBenchmark:
    benchmark = benchmarks.bind(spec)()
    if wrong := [name for name, path in files.items() if path and name not in benchmark.shipped]:
        raise UsageError(
            f"--{wrong[0]}: expected {' and '.join('--' + name for name in benchmark.shipped)}, which is what the "
            f"benchmark {spec} asks; got other prompts. Leave them out."
        )
    return benchmark


def _prompts(given: Path | None, shipped: str, flags: TaskFlags) -> list[str]:
    """A file given is asked whole, unless fewer are wanted; of what ships, enough for an interval."""
    prompts = load_prompts(given or SHIPPED_PROMPTS / shipped)
    return some_prompts(prompts, flags.n_prompts or (len(prompts) if given else 50))


def _measure(model: str, benchmark: TaskBenchmark, request: Request, template: str) -> Rows:
    lm = load_language_model(model)
    return benchmark.run(lm, load_template(template, lm.tokenizer), request)


def _result(
    benchmark: TaskBenchmark, request: Request, models: Mapping[str, str], rows: Mapping[str, Rows]
) -> dict[str, Any]:
    measures = {when: benchmark.measures(found) for when, found in rows.items()}
    sets = {when: summarize(found, confidence=CONFIDENCE) for when, found in measures.items()}
    result: dict[str, Any] = {
        "confidence": CONFIDENCE,
        "n_prompts": {name: len(prompts) for name, prompts in request.lists.items()},
        "n_frames": {name: len(frames) for name, frames in request.frames.items()},
        "model": models["before"],
        "sets": sets["before"],
    }
    if "after" in models:
        result |= {"after": {"model": models["after"], "sets": sets["after"]}}
        change = differences(measures["after"], measures["before"])
        result |= {"difference": summarize(change, confidence=CONFIDENCE)}
    return result


def _table(result: Mapping[str, Any], unit: str) -> str:
    columns = {"before" if "after" in result else "mean": result["sets"]}
    if "after" in result:
        columns |= {"after": result["after"]["sets"], "after − before": result["difference"]}
    kinds = {name: "" if name == "prompts" else f"{name} " for name in result["n_prompts"]}
    asked = " and ".join(f"{n} {kinds[name]}prompts" for name, n in result["n_prompts"].items())
    frames = ", ".join(f"{n} {name}" for name, n in result["n_frames"].items())
    name = result["task"] or result["benchmark"]
    lines = [
        f"{name}: {asked}; frames: {frames}; {result['confidence']:.0%} intervals over prompts",
        unit,
        f"{'set':<21}{'measure':<16}" + "".join(f"{title:>24}" for title in columns),
    ]
    for name, members in result["sets"].items():
        for measure in members:
            cells = ("{mean:.3f} [{low:.3f}, {high:.3f}]".format_map(c[name][measure]) for c in columns.values())
            lines.append(f"{name:<21}{measure:<16}" + "".join(f"{cell:>24}" for cell in cells))
    return "\n".join(lines)
