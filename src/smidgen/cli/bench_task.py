"""`smidgen bench --task` and `--benchmark`: a model on a registered benchmark, and another on the same prompts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from smidgen.assets import SHIPPED_PROMPTS
from smidgen.cli.outcome import Outcome
from smidgen.cli.task_flags import TaskFlags
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
