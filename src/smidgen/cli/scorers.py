"""What `smidgen score` scores with, each ready to be run or to tell what it would take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.cli.score_chunks import in_chunks
from smidgen.cli.teacher import (
    TeacherFlags,
    asking_progress,
    estimate_data,
    estimate_lines,
    spending_lines,
)
from smidgen.errors import UsageError
from smidgen.models.chat.base import Sampling
from smidgen.models.chat.estimate import Call, estimate
from smidgen.models.chat.teacher import open_chat
from smidgen.models.chat.whole import Asking
from smidgen.runs import run_async
from smidgen.settings import parse_spec
from smidgen.synthesis.injections import CONTROL, INJECTIONS, injected, probe
from smidgen.synthesis.judge import Asked, conversation, judge_answers
from smidgen.synthesis.scoring import PairScores
from smidgen.synthesis.task import Rubric, load_task, rubric_of, task_path

if TYPE_CHECKING:
    from smidgen.pairs import PreferencePair

IMPLICIT_STORE = "logps.sqlite"
_REWARDS = "rewards"
# On GPU the dtype could be another; scores are compared across runs, so all are computed alike.
_DTYPE = "float32"


@dataclass(frozen=True, slots=True)
class Scored:
    """What a scorer found: scores, further parts of the summary, and lines about what it cost."""

    scores: Sequence[PairScores]
    summary: Mapping[str, Any] = field(default_factory=dict)
    lines: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorer:
    """One way to score.

    Attributes:
        name: For people.
        inputs: Files, folders and hub names that the scores depend on.
        run: Scores pairs; the folder is for what it keeps between calls.
        plan: What it would take: data and lines.
    """

    name: str
    inputs: Sequence[str | Path]
    run: Callable[[Sequence[PreferencePair], Path], Scored]
    plan: Callable[[Sequence[PreferencePair]], tuple[dict[str, Any], list[str]]] = lambda pairs: ({}, [])


def rule_scorer(spec: str) -> Scorer:
    """By a registered rule with its settings."""
    from smidgen.evaluation.reward_rules import load_rule

    rule = load_rule(spec)
    files = [value for value in parse_spec(spec)[1].values() if isinstance(value, str) and Path(value).is_file()]

    def run(pairs: Sequence[PreferencePair], folder: Path) -> Scored:
        from smidgen.synthesis.answer_rewards import rule_scores

        return Scored(rule_scores(rule, pairs))

    return Scorer(name=f"rule {spec}", inputs=files, run=run)


def reward_scorer(model: str, template: str) -> Scorer:
    """By a reward model; what is scored is kept, so that a killed run goes on."""

    def run(pairs: Sequence[PreferencePair], folder: Path) -> Scored:
        from smidgen.data.templates import load_template
        from smidgen.models.reward_model import load_reward_model
        from smidgen.synthesis.answer_rewards import model_scores
        from smidgen.training.processes import own_device

        rm = load_reward_model(model)
        rm.lm.model.to(own_device(rm.lm.device))  # pyright: ignore[reportArgumentType]
        shape = load_template(template, rm.lm.tokenizer)
        return Scored(in_chunks(partial(model_scores, rm, shape, dtype=_DTYPE), pairs, folder / _REWARDS))

    return Scorer(name=f"reward model {model}", inputs=[model], run=run)


def implicit_scorer(policy: str, reference: str, template: str, *, beta: float, per_token: bool) -> Scorer:
    """By the implicit reward of a policy; log-probabilities are kept, so that a killed run goes on."""
    if not 0 < beta < float("inf"):
        raise UsageError(f"expected --beta above 0, got {beta}; give that of the policy's training, such as 0.1.")

    def run(pairs: Sequence[PreferencePair], folder: Path) -> Scored:
        from smidgen.data.templates import load_template
        from smidgen.models.load import load_language_model
        from smidgen.models.reference_store import ReferenceStore
        from smidgen.synthesis.implicit import implicit_scores
        from smidgen.training.processes import own_device

        lms = [load_language_model(name) for name in (policy, reference)]
        for lm in lms:
            lm.model.to(own_device(lm.device))  # pyright: ignore[reportArgumentType]
        shape = load_template(template, lms[0].tokenizer)
        logps = partial(ReferenceStore(folder / IMPLICIT_STORE).logps, dtype=_DTYPE)
        score = partial(implicit_scores, *lms, shape, beta=beta, per_token=per_token, logps=logps)
        return Scored(in_chunks(score, pairs))

    unit = "a token" if per_token else "an answer"
    name = f"implicit reward of {policy} against {reference}, beta {beta:g}, nats {unit}"
    return Scorer(name=name, inputs=[policy, reference], run=run)


def judge_scorer(flags: TeacherFlags, task_name: str, rubric_name: str | None, asking: Asking, n_probe: int) -> Scorer:
    """By a judge with a task's rubric, and how far injected orders move it.

    Args:
        n_probe: Answers to probe; 0 for none.
    """
    task = load_task(task_name)
    rubric = rubric_of(task, rubric_name)
    asking = replace(asking, concurrency=flags.concurrency)
    scale = f"{rubric.low:g} to {rubric.high:g}"
    name = f"judge {flags.model}, rubric {task.name}{f'/{rubric_name}' if rubric_name else ''}, {scale}"
    local = [flags.model] if flags.model and Path(flags.model).is_dir() else []

    def run(pairs: Sequence[PreferencePair], folder: Path) -> Scored:
        return run_async(_judge(flags, rubric, _asked(pairs), asking, n_probe, folder))

    def plan(pairs: Sequence[PreferencePair]) -> tuple[dict[str, Any], list[str]]:
        asked = list(dict.fromkeys(_asked(pairs)))
        asked += [injected(one, text, rubric) for text in (*INJECTIONS.values(), CONTROL) for one in asked[:n_probe]]
        sampling = Sampling(max_new_tokens=asking.max_new_tokens)
        turns = (conversation(rubric, *one, one_turn=asking.one_turn) for one in asked)
        found = estimate((Call(messages, sampling) for messages in turns), prices=flags.prices)
        return estimate_data(found), [
            *estimate_lines(found),
            "replies that are cut are asked for again, on top of that",
        ]

    return Scorer(name=name, inputs=[task_path(task_name), *local], run=run, plan=plan)


async def _judge(
    flags: TeacherFlags, rubric: Rubric, asked: Sequence[Asked], asking: Asking, n_probe: int, folder: Path
) -> Scored:
    async with open_chat(flags.settings(), folder) as (chat, spending):
        with asking_progress(len(set(asked)), spending, "judging") as show:
            scores = await judge_answers(chat, rubric, asked, asking, on_done=show)
        summary: dict[str, Any] = {"rubric": rubric.model_dump()}
        notes: list[str] = []
        # Which answers are probed depends on all scores: what is asked too early may be asked in vain.
        if n_probe and any(score.waits for score in scores):
            notes.append("no injection probe yet: it comes once no answer waits for its score")
        elif n_probe:

            async def again(more: Sequence[Asked]) -> Sequence[Any]:
                with asking_progress(len(set(more)), spending, "probing") as show:
                    return await judge_answers(chat, rubric, more, asking, on_done=show)

            summary["injection_probe"] = await probe(again, rubric, asked, scores, n=n_probe)
        summary["spending"] = spending.summary()
        return Scored(list(zip(scores[::2], scores[1::2], strict=True)), summary, [*notes, *spending_lines(spending)])


def _asked(pairs: Sequence[PreferencePair]) -> list[Asked]:
    """The chosen and the rejected answer of each pair in turn, each with its prompt."""
    return [(pair.prompt, answer.content) for pair in pairs for (answer,) in (pair.chosen, pair.rejected)]
