"""What a critique leaves: the rows of its pairs, the rows left out and why, and the numbers of the whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from smidgen.data import checks
from smidgen.evaluation.patterns import SHIPPED, load_patterns
from smidgen.models.chat.base import Reply, Sampling
from smidgen.pairs import Scalar, text_of
from smidgen.synthesis.critique import STEPS, Failed, Revision, opening
from smidgen.synthesis.gates import EXPLANATIONS, NOTES, find_faults, find_notes
from smidgen.synthesis.task import Task

_EMPTY = "The teacher's reply was empty."
_NO_REPLY = "The teacher gave no usable reply."


@dataclass(frozen=True, slots=True, kw_only=True)
class Sorted:
    """The outcomes of all draws, sorted.

    Attributes:
        good: Finished, and without fault: they become pairs, in the order of draws.
        left_out: One row for each draw that came to an end but becomes no pair, in the same order: idx, step, reason,
            detail, what was asked, and what the teacher had said until then.
        n_unanswered: How many of these have no answer, not even a stored refusal of one; asked again, they might.
        n_waiting: Draws that the budget did not reach.
    """

    good: tuple[Revision, ...]
    left_out: tuple[Mapping[str, Any], ...]
    n_unanswered: int
    n_waiting: int


def sort_out(results: Sequence[Revision | Failed | None], task: Task) -> Sorted:
    """Find what can become a pair and what cannot; the quality gates look at all finished rows together."""
    finished = [result for result in results if isinstance(result, Revision)]
    faults = find_faults(
        [row.draw.asked for row in finished],
        [row.original for row in finished],
        [row.revision for row in finished],
        wants=task.wants,
        prompts=[row.draw.prompt for row in finished],
        critiques=[row.critique for row in finished],
        cut=[row.replies[-1].cut for row in finished],
        idxs=[row.draw.idx for row in finished],
    )
    left_out = [_left_out(row, row.step, row.reason, row.detail) for row in results if isinstance(row, Failed)]
    good: list[Revision] = []
    for row, fault in zip(finished, faults, strict=True):
        if fault is None:
            good.append(row)
        else:
            left_out.append(_left_out(row, "gates", fault.reason, fault.detail))
            if fault.twin is not None:
                twin = finished[fault.twin]
                left_out[-1] |= {"twin_idx": twin.draw.idx, "twin_asked": twin.draw.asked, "twin": twin.revision}
    left_out.sort(key=lambda row: row["idx"])
    return Sorted(
        good=tuple(good),
        left_out=tuple(left_out),
        n_unanswered=sum(isinstance(result, Failed) and result.unanswered for result in results),
        n_waiting=sum(result is None for result in results),
    )


def pair_row(row: Revision, task: Task, sampling: Sampling, *, source: str) -> dict[str, Any]:
    """A pair as the row of JSONL that the readers of this package take: revision chosen, original rejected.

    Args:
        source: Where the prompt came from.
    """
    conversation = opening(task, row.draw.asked)
    prompt: Any = text_of(conversation)
    if len(conversation) > 1:
        prompt = [{"role": message.role, "content": message.content} for message in conversation]
    return {
        "idx": row.draw.idx,
        "prompt": prompt,
        "chosen": row.revision,
        "rejected": row.original,
        "source": source,
        "source_row": row.draw.row,
        "task": task.name,
        "frame": row.draw.frame.name,
        "stance": row.draw.frame.stance,
        "plain_prompt": row.draw.prompt,
        "critique": row.critique,
        "model": row.replies[-1].model,
        "max_new_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        **_price(row.replies),
        **{f"{step}_tokens": reply.completion_tokens for step, reply in zip(STEPS, row.replies, strict=True)},
        **{f"{step}_cut": reply.cut for step, reply in zip(STEPS, row.replies, strict=True)},
    }


def summarise(results: Sequence[Revision | Failed | None], found: Sorted, task: Task) -> dict[str, Any]:
    """Counts, prices and shapes of what came out; nothing in it depends on the clock or on interruptions.

    Tokens and cost are over the draws that came to an end, whether or not they became pairs; what a waiting one has
    cost so far stands in the run's spending alone. `cut`, lengths and refusal rates are over the pairs.
    """
    reasons = Counter(row["reason"] for row in found.left_out)
    counts = {
        "draws": len(results),
        "pairs": len(found.good),
        "quarantined": len(found.left_out),
        "unanswered": found.n_unanswered,
        "waiting": found.n_waiting,
    }
    replies = [reply for result in results if result is not None for reply in result.replies]
    columns = {step: [row.replies[i] for row in found.good] for i, step in enumerate(STEPS)}
    texts = {"original": [row.original for row in found.good], "revision": [row.revision for row in found.good]}
    notes = find_notes(*texts.values(), wants=task.wants)
    return {
        "task": task.name,
        "models": sorted({reply.model for reply in replies}),
        "frames": dict(sorted(Counter(row.draw.frame.name for row in found.good).items())),
        "counts": counts | dict(sorted(reasons.items())),
        "explanations": {row["reason"]: explain(row) for row in found.left_out} | {n: NOTES[n] for n in notes if n},
        **_price(replies),
        "cut": {step: sum(reply.cut for reply in column) for step, column in columns.items()},
        "mean_tokens": {step: _mean([reply.completion_tokens for reply in column]) for step, column in columns.items()},
        "mean_words": {step: _mean([len(text.split()) for text in column]) for step, column in texts.items()},
        "notes": {note: notes.count(note) for note in sorted({note for note in notes if note})},
        "refusal_rate": {step: _refusal_rates(column) for step, column in texts.items()},
    }


def explain(row: Mapping[str, Any]) -> str:
    """Why a row is left out, in a sentence."""
    if row["step"] == "gates":
        return EXPLANATIONS[row["reason"]]
    return _EMPTY if row["reason"] == "empty_reply" else checks.EXPLANATIONS.get(row["reason"], _NO_REPLY)


def _left_out(row: Revision | Failed, step: str, reason: str, detail: str) -> dict[str, Any]:
    said = {name: reply.text for name, reply in zip(STEPS, row.replies, strict=False)}
    return {
        "idx": row.draw.idx,
        "step": step,
        "reason": reason,
        "detail": detail,
        "source_row": row.draw.row,
        "frame": row.draw.frame.name,
        "plain_prompt": row.draw.prompt,
        "asked": row.draw.asked,
        **said,
        **_price(row.replies),
    }


def _price(replies: Sequence[Reply]) -> dict[str, Scalar]:
    return {
        "prompt_tokens": sum(reply.prompt_tokens for reply in replies),
        "completion_tokens": sum(reply.completion_tokens for reply in replies),
        "tokens_estimated": any(reply.estimated for reply in replies),
        "cost": sum(reply.cost for reply in replies),
    }


def _mean(values: Sequence[int]) -> float | None:
    return fmean(values) if values else None


def _refusal_rates(texts: Sequence[str]) -> dict[str, float | None]:
    """The share of texts that each shipped pattern list takes for a refusal; None without texts."""
    return {name: _mean([load_patterns(name).matches(text) for text in texts]) for name in SHIPPED}
