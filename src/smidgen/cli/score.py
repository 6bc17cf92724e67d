"""`smidgen score`: external scores of both answers of pairs, by a reward model, a judge, a policy or a rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from smidgen.cli.account import SUMMARY, account_folder, finished_before, refuse_foreign, write_result
from smidgen.cli.flags import FLAT, RARE, DryRun, MaxBadFraction, PairSources, TemplateName
from smidgen.cli.outcome import Outcome, claimed
from smidgen.cli.score_text import summary_text
from smidgen.cli.scorers import (
    IMPLICIT_STORE,
    Scored,
    Scorer,
    implicit_scorer,
    judge_scorer,
    reward_scorer,
    rule_scorer,
)
from smidgen.cli.teacher import NOBODY, TeacherFlags, store_files
from smidgen.data.checks import Quarantined
from smidgen.data.prepare import Prepared, pair_row, prepare_pairs, write_quarantine
from smidgen.errors import UsageError
from smidgen.models.chat.teacher import STORE
from smidgen.models.chat.whole import Asking
from smidgen.runs import json_lines, write_json, write_text
from smidgen.synthesis.scoring import Bin, check_unscored, problem_of, summarise, with_scores
from smidgen.synthesis.task import task_names

if TYPE_CHECKING:
    from smidgen.pairs import PreferencePair
    from smidgen.synthesis.scoring import PairScores

# Flags that only some ways to score take.
_JUDGING = ("task", "rubric", "injection_probe", "keep_replies", "max_new_tokens", "most_new_tokens", "one_turn")
_WAYS = {
    **dict.fromkeys(("reference", "beta", "per_token"), ("policy",)),
    **dict.fromkeys(_JUDGING, ("teacher",)),
    "template": ("reward", "policy"),
}
_FLAG = {"teacher": "--judge", "policy": "--policy", "reward": "--reward", "rule": "--rule"}


def score(
    *,
    pairs: PairSources,
    out: Annotated[Path, Parameter(metavar="FILE")],
    reward: Annotated[str | None, Parameter(metavar="MODEL")] = None,
    policy: Annotated[str | None, Parameter(metavar="MODEL")] = None,
    reference: Annotated[str | None, Parameter(metavar="MODEL")] = None,
    rule: Annotated[str | None, Parameter(metavar="NAME")] = None,
    judge: Annotated[str | None, Parameter(metavar="URL|local")] = None,
    asked: Annotated[TeacherFlags, FLAT] = NOBODY,
    task: Annotated[str | None, Parameter(metavar="NAME")] = None,
    rubric: Annotated[str | None, RARE, Parameter(metavar="NAME")] = None,
    injection_probe: Annotated[NonNegativeInt | None, Parameter(metavar="N")] = None,
    keep_replies: Annotated[bool, Parameter()] = False,
    beta: Annotated[PositiveFloat | None, RARE] = None,
    per_token: Annotated[bool, RARE] = False,
    max_new_tokens: Annotated[PositiveInt | None, RARE] = None,
    most_new_tokens: Annotated[PositiveInt | None, RARE] = None,
    one_turn: Annotated[bool, RARE] = False,
    template: Annotated[TemplateName, RARE] = "plain",
    replace: bool = False,
    leave_out_missing: bool = False,
    max_bad_fraction: MaxBadFraction = 0.5,
    dry_run: DryRun = False,
) -> Outcome:
    """Score both answers of every pair, for `train refined_dpo`.

    Adds chosen_score and rejected_score, higher is better, by exactly one of --reward, --judge, --policy and --rule. A
    score that cannot be found is null, with its reason in score_problem, and the exit code is 4. The account of the
    run stands in a folder beside --out: summary.json, scores.png, quarantine.jsonl, settings, and what the judge
    said, in judgements.jsonl. The same command goes on where an earlier one was interrupted or ran out of its budget.

    Args:
        out: Where scored pairs go, in .jsonl; another file is never overwritten.
        reward: A reward model: a sequence classifier with one label.
        policy: A model trained by DPO: its implicit reward against --reference.
        reference: What --policy was trained from.
        rule: A rule with its settings, such as refusal:patterns=broad.
        judge: An endpoint, or `local`: another name of --teacher.
        task: Whose rubric the judge goes by: a shipped task or a YAML file.
        rubric: Another of the task's rubrics.
        injection_probe: Answers (20) scored again, 14 times each, with orders to the judge behind them; 0 for none.
        keep_replies: Keep what the judge said beside the pairs too, as judge_chosen and judge_rejected.
        beta: Of the implicit reward, as in the policy's training; 0.1 where not given.
        per_token: Divide the implicit reward by the answer's tokens.
        max_new_tokens: Of a judge's reply; one that is cut is asked for again with twice as many. 512 where not given.
        most_new_tokens: Where that doubling ends; 4096 where not given.
        one_turn: Put the rubric into the user's turn, for judges that take no system turn.
        replace: Replace score columns that the data has.
        leave_out_missing: Leave pairs without both scores out of --out, and list them in quarantine.jsonl.
    """
    arguments = _under_one_name(dict(locals()))
    scorer = _scorer(arguments)
    prepared = prepare_pairs(pairs, max_bad_fraction=max_bad_fraction)
    if not replace:
        check_unscored(prepared.pairs)
    account = account_folder(out, "score")
    if dry_run:
        refuse_foreign(out, account)
        return _plan(scorer, prepared)
    with claimed(account, "score", arguments, [*pairs, *scorer.inputs], stores=store_files(STORE, IMPLICIT_STORE)):
        return _run(scorer, prepared, out, account, keep_replies=keep_replies, whole=not leave_out_missing)


def _under_one_name(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments with what --judge says where --teacher says it."""
    judge, asked = arguments.pop("judge"), arguments["asked"]
    if judge and asked.teacher not in (None, judge):
        raise UsageError("expected --judge or --teacher, which are two names of one flag, got both; leave one out.")
    return {**arguments, "asked": dataclasses.replace(asked, teacher=judge or asked.teacher)}


def _plan(scorer: Scorer, prepared: Prepared) -> Outcome:
    """What a dry run says."""
    data, lines = scorer.plan(prepared.pairs)
    opening = f"{len(prepared.pairs)} pairs to score by {scorer.name}; dry run: nothing written"
    return Outcome({"pairs": len(prepared.pairs), **data}, "\n".join([opening, *lines]), len(prepared.quarantine))


def _run(scorer: Scorer, prepared: Prepared, out: Path, account: Path, *, keep_replies: bool, whole: bool) -> Outcome:
    """Score and write down, unless that was done before."""
    before = finished_before(out, account)
    if before is not None and not before.get("injection_probe", {}).get("unasked"):
        return _outcome(before, out, account, ["done before, nothing to do"])
    refuse_foreign(out, account)
    scored = scorer.run(prepared.pairs, account)
    summary = _write(scored, scorer, prepared, out, account, keep_replies=keep_replies, whole=whole)
    return _outcome(summary, out, account, scored.lines)


def _scorer(given: Mapping[str, Any]) -> Scorer:
    """The one way to score that the flags name."""
    teacher: TeacherFlags = given["asked"]
    given = {**given, "teacher": teacher.teacher}
    named = [way for way in _FLAG if given[way]]
    if len(named) != 1:
        raise UsageError(
            f"expected exactly one of {', '.join(sorted(_FLAG.values()))}, got "
            f"{' and '.join(_FLAG[way] for way in named) or 'none'}; a score is in one unit."
        )
    idle = [name for name, ways in _WAYS.items() if named[0] not in ways and given[name] not in (None, False, "plain")]
    idle += [f.name for f in fields(teacher) if not teacher.teacher and getattr(teacher, f.name) != f.default]
    if idle:
        takers = " or ".join(_FLAG[way] for way in _WAYS.get(idle[0], ("teacher",)))
        flag = f"--{idle[0].replace('_', '-')}"
        raise UsageError(f"expected {flag} with {takers} only, got it with {_FLAG[named[0]]}; leave it out.")
    return {"rule": _by_rule, "reward": _by_reward, "policy": _by_policy, "teacher": _by_judge}[named[0]](given)


def _by_rule(given: Mapping[str, Any]) -> Scorer:
    return rule_scorer(given["rule"])


def _by_reward(given: Mapping[str, Any]) -> Scorer:
    return reward_scorer(given["reward"], given["template"])


def _by_policy(given: Mapping[str, Any]) -> Scorer:
    if not given["reference"]:
        raise UsageError("expected --reference, which --policy is compared with, got none; give what it started from.")
    beta = 0.1 if given["beta"] is None else given["beta"]
    models = given["policy"], given["reference"]
    return implicit_scorer(*models, given["template"], beta=beta, per_token=given["per_token"])


def _by_judge(given: Mapping[str, Any]) -> Scorer:
    if not given["task"]:
        raise UsageError(
            f"expected --task, whose rubric the judge goes by, got none; give one of: {', '.join(task_names())}, or a "
            "YAML file."
        )
    if not given["asked"].model:
        raise UsageError("expected --model, got none; give the judge's name as its endpoint calls it.")
    limits = {name: given[name] for name in ("max_new_tokens", "most_new_tokens") if given[name] is not None}
    n_probe = 20 if given["injection_probe"] is None else given["injection_probe"]
    asking = Asking(one_turn=given["one_turn"], **limits)
    return judge_scorer(given["asked"], given["task"], given["rubric"], asking, n_probe)


def _write(
    scored: Scored, scorer: Scorer, prepared: Prepared, out: Path, account: Path, *, keep_replies: bool, whole: bool
) -> dict[str, Any]:
    """Write the pairs with their scores and the account of the run; its summary.

    Args:
        whole: Also pairs without both scores.
    """
    from smidgen.report.scores_figure import scores_png

    rows = list(zip(prepared.pairs, scored.scores, strict=True))
    kept = [(pair, scores) for pair, scores in rows if whole or problem_of(scores) is None]
    left_out = [] if whole else _missing(rows)
    summary = {**summarise(scored.scores), **scored.summary, "scorer": scorer.name}
    summary["counts"] |= {"written": len(kept), "quarantined": len(prepared.quarantine)}
    summary["dropped_columns"] = list(prepared.dropped_columns)
    write_quarantine([*prepared.quarantine, *left_out], account)
    if summary["counts"]["scored"]:
        found = {name: [Bin(**b) for b in bins] for name, bins in summary["histograms"].items()}
        scores_png(found["scores"], found["differences"], account / "scores.png")
    if any(score.reply is not None for _, scores in rows for score in scores):
        write_text(account / "judgements.jsonl", json_lines(_judgements(rows)))
    write_result(out, account, (pair_row(with_scores(*row, replies=keep_replies)) for row in kept))
    write_json(account / SUMMARY, summary)
    return summary


def _judgements(rows: Sequence[tuple[PreferencePair, PairScores]]) -> Iterator[dict[str, Any]]:
    """What the judge said of each answer, and what was read from it."""
    for pair, scores in rows:
        for side, score in zip(("chosen", "rejected"), scores, strict=True):
            found = {"score": score.value, "problem": score.problem or None, "reply": score.reply}
            yield {"idx": pair.idx, "answer": side, **found}


def _missing(rows: Sequence[tuple[PreferencePair, PairScores]]) -> list[Quarantined]:
    return [
        Quarantined(pair.source, pair.source_row + 1, pair.idx, "missing_score", problem)
        for pair, scores in rows
        if (problem := problem_of(scores)) is not None
    ]


def _outcome(summary: Mapping[str, Any], out: Path, account: Path, further: Sequence[str]) -> Outcome:
    counts = summary["counts"]
    lines = [summary_text(summary), *further]
    if counts["quarantined"]:
        lines.append(f"{counts['quarantined']} bad rows left out, see {account / 'quarantine.jsonl'}")
    if counts["waiting"]:
        lines.append("the budget is spent; run the same command with a larger --budget to go on")
    elif counts["unanswered"]:
        lines.append(f"{counts['unanswered']} pairs have an answer that got no reply; the same command asks again")
    lines.append(f"{counts['written']} pairs in {out}, account in {account}")
    return Outcome({**summary, "out": str(out)}, "\n".join(lines), counts["missing"] + counts["quarantined"])
