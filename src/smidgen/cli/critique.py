"""`smidgen critique`: preference pairs from a teacher that answers, criticises its answer, and revises it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.types import ExistingFile
from pydantic import NonNegativeFloat, PositiveInt

from smidgen.assets import SHIPPED_PROMPTS
from smidgen.cli.account import SUMMARY, account_folder, finished_before, refuse_foreign, write_result
from smidgen.cli.flags import FLAT, RARE, DryRun, Seed
from smidgen.cli.outcome import Outcome, claimed
from smidgen.cli.teacher import (
    NOBODY,
    STORES,
    TeacherFlags,
    asking_progress,
    estimate_data,
    estimate_lines,
    spending_lines,
)
from smidgen.data.prompts import load_prompts
from smidgen.errors import UsageError
from smidgen.models.chat.base import Sampling
from smidgen.models.chat.estimate import estimate, growing
from smidgen.models.chat.spending import Spending
from smidgen.models.chat.teacher import LOCAL, open_chat
from smidgen.runs import json_lines, run_async, write_json, write_text
from smidgen.settings import PositiveShare
from smidgen.synthesis.critique import Draw, Failed, Revision, draw_prompts, revise_all
from smidgen.synthesis.critique_rows import pair_row, sort_out, summarise
from smidgen.synthesis.task import Task, load_task, task_path


def critique(
    *,
    task: Annotated[str, Parameter(metavar="NAME")],
    prompts: Annotated[ExistingFile | None, Parameter(metavar="FILE")] = None,
    n: PositiveInt | None = None,
    out: Annotated[Path, Parameter(metavar="FILE")],
    teacher: Annotated[TeacherFlags, FLAT] = NOBODY,
    frames: Annotated[str, Parameter(metavar="SET"), RARE] = "train",
    max_new_tokens: PositiveInt = 256,
    temperature: Annotated[NonNegativeFloat, RARE] = 0.0,
    top_p: Annotated[PositiveShare, RARE] = 1.0,
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
        prompts: What to ask about; without it, the task's own prompts. One a line, a JSON list, or JSONL or CSV with
            a prompt column.
        n: How many prompts to ask, in frames; without it, each prompt once.
        out: Where the pairs go: a file that ends in .jsonl; another file is never overwritten.
        frames: Which of the task's sets of frames.
        max_new_tokens: Longest reply.
        temperature: 0 takes the most probable token each time.
        top_p: Draw from the most probable tokens that reach this sum.
    """
    arguments = dict(locals())
    sampling = Sampling(max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p)
    work = _plan(task, prompts, frames, n, seed, sampling)
    account = account_folder(out, "critique")
    if dry_run:
        refuse_foreign(out, account)
        return _estimate(work, teacher)
    inputs = [*work.inputs, *([teacher.model] if teacher.teacher == LOCAL and teacher.model else [])]
    with claimed(account, "critique", arguments, inputs, stores=STORES):
        if (before := finished_before(out, account)) is not None:
            return _outcome(before, out, account, ["done before, nothing to do"], [])
        refuse_foreign(out, account)
        start = time.monotonic()
        results, spending = run_async(_ask(work, teacher, account, seed))
        found = sort_out(results, work.task)
        summary = summarise(results, found, work.task)
        summary["spending"] = {**spending.summary(), "seconds": round(time.monotonic() - start, 3)}
        write_text(account / "quarantine.jsonl", json_lines(found.left_out))
        write_result(out, account, (pair_row(row, work.task, sampling, source=work.source) for row in found.good))
        write_json(account / SUMMARY, summary)
    return _outcome(summary, out, account, work.notes, spending_lines(spending))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What is to be asked, what it depends on, and what there is to say of it."""

    task: Task
    draws: Sequence[Draw]
    sampling: Sampling
    source: str
    inputs: Sequence[Path]
    notes: Sequence[str]


def _plan(name: str, given: Path | None, frames: str, n: int | None, seed: int, sampling: Sampling) -> _Work:
    task = load_task(name)
    if frames not in task.frames:
        raise UsageError(
            f"unknown set of frames {frames!r} of task {task.name}; expected one of: {', '.join(task.frames)}."
        )
    path = given or _own_prompts(task)
    prompts = load_prompts(path)
    n_repeated = len(prompts) - len(set(prompts))
    return _Work(
        task=task,
        draws=draw_prompts(prompts, task.frames[frames], n=n, seed=seed),
        sampling=sampling,
        source=path.name,
        inputs=(path, task_path(name)),
        notes=[f"{n_repeated} of {len(prompts)} prompts stand in the list again and count once"] if n_repeated else [],
    )


def _own_prompts(task: Task) -> Path:
    """The list that ships with a task."""
    path = SHIPPED_PROMPTS / task.prompts if task.prompts else None
    if path is None or not path.is_file():
        raise UsageError(
            f"expected --prompts, since task {task.name} names no list that ships, got none; give a file of them."
        )
    return path


async def _ask(
    work: _Work, flags: TeacherFlags, account: Path, seed: int
) -> tuple[list[Revision | Failed | None], Spending]:
    """What became of each draw, and what it cost."""
    async with open_chat(flags.settings(), account, seed=seed) as (chat, spending):
        with asking_progress(len(work.draws), spending, "conversations") as on_done:
            results = await revise_all(
                chat, work.task, work.draws, work.sampling, concurrency=flags.concurrency, on_done=on_done
            )
        return results, spending


def _estimate(work: _Work, flags: TeacherFlags) -> Outcome:
    """What the work takes, were every question still to be asked."""
    turns = (work.task.critique, work.task.revise)
    calls = [call for draw in work.draws for call in growing(work.task.system, (draw.asked, *turns), work.sampling)]
    found = estimate(calls, prices=flags.prices)
    lines = [*work.notes, f"{len(work.draws)} draws", *estimate_lines(found), "dry run: nobody asked, nothing written"]
    return Outcome({"draws": len(work.draws), **estimate_data(found)}, "\n".join(lines))


def _outcome(
    summary: Mapping[str, Any], out: Path, account: Path, notes: Sequence[str], spent: Sequence[str]
) -> Outcome:
    counts, explanations = summary["counts"], summary["explanations"]
    lines = [
        *notes,
        f"{counts['pairs']} pairs of {counts['draws']} draws in {out}",
        *(f"  {counts[reason]:>6} {reason}: {text}" for reason, text in explanations.items() if reason in counts),
        *(f"  {n:>6} of the pairs: {explanations[note]}" for note, n in summary["notes"].items()),
        *(f"  {n:>6} of the pairs: the token limit cut the {step}" for step, n in summary["cut"].items() if n),
        *spent,
    ]
    if counts["unanswered"]:
        lines.append(f"{counts['unanswered']} draws got no reply; the same command asks again")
    if counts["waiting"]:
        lines.append(
            f"the budget is spent: {counts['draws'] - counts['waiting']} of {counts['draws']} draws are done; run the "
            "same command with a larger --budget to go on"
        )
    lines.append(f"account in {account}")
    return Outcome({**summary, "out": str(out)}, "\n".join(lines), counts["quarantined"] + counts["waiting"])
