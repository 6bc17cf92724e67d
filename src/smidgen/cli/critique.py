"""`smidgen critique`: preference pairs from a teacher that answers, criticises its answer, and revises it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.types import ExistingFile, PositiveInt

from smidgen.assets import SHIPPED_PROMPTS
from smidgen.cli.account import SUMMARY, account_folder, finished_before, refuse_foreign, write_result
from smidgen.cli.flags import FLAT, RARE, DryRun, Seed
from smidgen.cli.outcome import Outcome, claimed
from smidgen.cli.teacher import REPLIES, TeacherFlags, open_chat
from smidgen.data.prompts import load_prompts
from smidgen.errors import UsageError
from smidgen.models.chat.base import Sampling
from smidgen.runs import json_lines, write_json, write_text
from smidgen.synthesis.critique import STEPS, Draw, Failed, Revision, draw_prompts, revise_all
from smidgen.synthesis.critique_estimate import estimate
from smidgen.synthesis.critique_rows import Sorted, pair_row, sort_out, summarise
from smidgen.synthesis.task import TASKS, Task, load_task, task_names


def critique(
    *,
    task: Annotated[str, Parameter(metavar="NAME")],
    teacher: Annotated[TeacherFlags, FLAT],
    out: Annotated[Path, Parameter(metavar="FILE")],
    prompts: Annotated[ExistingFile | None, Parameter(metavar="FILE")] = None,
    n: PositiveInt | None = None,
    frames: Annotated[str, Parameter(metavar="SET"), RARE] = "train",
    max_new_tokens: PositiveInt = 256,
    temperature: Annotated[float, RARE] = 0.0,
    top_p: Annotated[float, RARE] = 1.0,
    seed: Seed = 0,
    dry_run: DryRun = False,
) -> Outcome:
    """Make preference pairs: a teacher answers, criticises, revises.

    Each prompt, inside a frame of the task, opens one growing conversation; the revision becomes the chosen answer,
    the original the rejected one. The account of the run stands in a folder beside the pairs: every reply, every row
    left out with its reason, settings and numbers. The same command goes on where an earlier one was interrupted or
    ran out of its budget, and asks nothing twice.

    Args:
        task: A shipped task or a task's YAML file.
        out: Where the pairs go: a file that ends in .jsonl; another file is never overwritten.
        prompts: What to ask about; without it, the task's own prompts. One a line, a JSON list, or JSONL or CSV with
            a prompt column.
        n: How many prompts to ask, in frames; without it, each prompt once.
        frames: Which of the task's sets of frames.
        max_new_tokens: Longest reply.
        temperature: 0 takes the most probable token each time.
        top_p: Draw from the most probable tokens that reach this sum.
    """
    arguments = dict(locals())
    work = _plan(task, prompts, frames, n, seed, Sampling(max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p))
    account = account_folder(out, "critique")
    if dry_run:
        refuse_foreign(out, account)
        return _estimate(work, teacher)
    with claimed(account, "critique", arguments, work.inputs, stores=REPLIES):
        if (before := finished_before(out, account)) is not None:
            return _outcome(before, out, account, "done before, nothing to do")
        refuse_foreign(out, account)
        start = time.monotonic()
        results, spending = asyncio.run(_ask(work, teacher, account))
        found = sort_out(results, work.task)
        summary = summarise(results, found, work.task)
        summary["this_call"] = {"seconds": round(time.monotonic() - start, 3), **asdict(spending)}
        write_text(account / "quarantine.jsonl", json_lines(found.left_out))
        write_result(out, account, (pair_row(row, work.task, work.sampling, source=work.source) for row in found.good))
        write_json(account / SUMMARY, summary)
    return _outcome(summary, out, account, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What is to be asked, and what it depends on."""

    task: Task
    draws: Sequence[Draw]
    sampling: Sampling
    source: str
    inputs: Sequence[Path]


def _plan(
    name: str, given: Path | None, frames: str, n: int | None, seed: int, sampling: Sampling
) -> _Work:
    task = load_task(name)
    if frames not in task.frames:
        raise UsageError(f"unknown set of frames {frames!r} of task {task.name}; expected one of: {', '.join(task.frames)}")
    path = given or _own_prompts(task)
    draws = draw_prompts(load_prompts(path), task.frames[frames], n=n, seed=seed)
    file = TASKS / f"{name}.yaml" if name in task_names() else Path(name)
    return _Work(task=task, draws=draws, sampling=sampling, source=path.name, inputs=(path, file))


def _own_prompts(task: Task) -> Path:
    """The list that ships with a task."""
    if task.prompts is None:
        raise UsageError(f"expected --prompts, since task {task.name} comes with none of its own; give a file of them.")
    return SHIPPED_PROMPTS / f"{task.prompts}.txt"
