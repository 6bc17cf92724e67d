"""`smidgen bench`: refusals of one model, with intervals, by several pattern lists."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from pydantic import PositiveInt

from smidgen.assets import SHIPPED_PROMPTS
from smidgen.cli.flags import FLAT, RARE, Harmful, Harmless, TemplateName
from smidgen.cli.outcome import Outcome
from smidgen.cli.shown import say
from smidgen.cli.task_flags import TaskFlags
from smidgen.data.prompts import load_prompts
from smidgen.data.templates import load_template
from smidgen.errors import UsageError
from smidgen.evaluation.patterns import SHIPPED, Patterns, load_pattern_lists, load_patterns, unfit
from smidgen.models.names import model_name
from smidgen.runs import atomic_write


def bench(
    *,
    model: Annotated[str, Parameter(metavar="MODEL")],
    harmful: Harmful = None,
    harmless: Harmless = None,
    template: TemplateName = "plain",
    patterns: Annotated[tuple[str, ...], Parameter(metavar="LIST")] = (),
    anywhere: Annotated[str, RARE, Parameter(metavar="LIST")] = "exercise",
    completions: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    of_task: Annotated[TaskFlags | None, FLAT] = None,
    max_new_tokens: Annotated[PositiveInt | None, RARE] = None,
) -> Outcome:
    """Measure what a model refuses: the harmful, the harmless.

    The score is the refusal rate on harmful prompts minus that on harmless ones, found by text patterns in greedy
    continuations. Without prompt files, the project's own dev prompts are asked; its confirm prompts stay untouched
    for the end of a study. With --task, the benchmark of a task of self-critique is run instead: jailbreaks, personas
    or sycophancy; with --benchmark, any that is registered.

    Args:
        model: A folder in Hugging Face format, or a hub name.
        patterns: Further refusal patterns: a file, one a line; repeatable. Plain text, no regular expressions. The
            shipped lists are always reported, and `score` is that of `common`.
        anywhere: The list of the number that counts as the exercise does: a pattern anywhere, in the prompt too.
        completions: Keep every prompt's continuation in this JSONL file; must not exist yet.
        max_new_tokens: Longest continuation; 32 tokens, for personas and arguments 64.
    """
    if completions and completions.exists():
        raise UsageError(f"--completions {completions} exists; nothing is overwritten. Give another file.")
    flags = of_task or TaskFlags()
    for name in filter(None, (model, flags.after)):
        model_name(name)
    if flags.asks_for_one:
        from smidgen.cli.bench_task import bench_task

        return bench_task(
            model,
            flags,
            files={"harmful": harmful, "harmless": harmless, "prompts": flags.prompts},
            template=template,
            patterns=patterns,
            completions=completions,
            max_new_tokens=max_new_tokens,
        )
    flags.check_unused()
    lists = (*SHIPPED, *(name for name in patterns if name not in SHIPPED))
    asked = (
        load_prompts(harmful or SHIPPED_PROMPTS / "harmful_dev.txt"),
        load_prompts(harmless or SHIPPED_PROMPTS / "harmless_dev.txt"),
    )
    own = [found for found in load_pattern_lists(lists) if found.name not in SHIPPED]
    load_patterns(anywhere)

    # What was wrong so far is told without waiting for the engine.
    from smidgen.evaluation.refusal import bench as score_prompts
    from smidgen.evaluation.refusal import summarize
    from smidgen.models.load import load_language_model

    lm = load_language_model(model)
    scores = score_prompts(
        lm,
        load_template(template, lm.tokenizer),
        *asked,
        pattern_lists=lists,
        anywhere=anywhere,
        max_new_tokens=max_new_tokens or 32,
    )
    if completions:
        with atomic_write(completions) as file:
            file.writelines(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in scores)
    found = (unfit(p.name, [row.refused[p.name] for row in scores], n_patterns=len(p.patterns)) for p in own)
    warnings = [warning for warning in found if warning]
    for warning in warnings:
        say(f"warning: {warning}")
    summary = summarize(scores)
    return Outcome({**summary, "warnings": warnings}, "\n".join([_table(summary), *_headline(summary, own)]))


def _headline(summary: Mapping[str, Any], own: Sequence[Patterns]) -> list[str]:
    """Which of the rows programs read as the score, for whoever has brought a list and might take it for that one."""
    if not own:
        return []
    names = ", ".join(found.name for found in own)
    return [f"`score` in --json is that of {summary['pattern_list']}; {names} under `lists`"]


def _table(summary: Mapping[str, Any]) -> str:
    columns = ("score", "harmful_refusal_rate", "harmless_refusal_rate")
    rows = {**summary["lists"], "exercise, anywhere": summary["exercise_compatible"]}
    width = max(map(len, rows)) + 2
    titles = (f"{title:>22}" for title in ("score", "refused, harmful", "refused, harmless"))
    lines = [
        f"{summary['n_harmful']} harmful and {summary['n_harmless']} harmless prompts, {summary['confidence']:.0%} "
        "intervals",
        f"{'patterns':<{width}}{''.join(titles)}",
    ]
    for name, found in rows.items():
        cells = ("{mean:.3f} [{low:.3f}, {high:.3f}]".format_map(found[column]) for column in columns)
        lines.append(f"{name:<{width}}{''.join(f'{cell:>22}' for cell in cells)}")
    return "\n".join([*lines, f"surrogate score {summary['surrogate_score']:.3f}"])
