"""`smidgen compare`: which of two or more models writes better, by how much, for whom, and how sure that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.types import ExistingFile
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from smidgen.cli.compare_plan import plan_of_judging, plan_of_writing
from smidgen.cli.compare_text import comparison_text
from smidgen.cli.contenders import (
    FOLDER,
    Contender,
    contender_of,
    drawn,
    drawn_lines,
)
from smidgen.cli.flags import FLAT, RARE, DryRun, Out, Seed, TemplateName
from smidgen.cli.generators import Local, counted, drawing_of
from smidgen.cli.outcome import Outcome, claimed
from smidgen.cli.teacher import (
    NOBODY,
    STORES,
    TeacherFlags,
    asking_progress,
    spending_lines,
)
from smidgen.data.prompts import load_prompts
from smidgen.errors import UsageError
from smidgen.evaluation.completions import Completions
from smidgen.evaluation.completions_files import read_completions
from smidgen.evaluation.conclusion import conclusion
from smidgen.evaluation.drawing import Drawing
from smidgen.evaluation.judges.base import Desk, Judge, Paid, load_judge
from smidgen.evaluation.matches import Match, matches_of, write_matches
from smidgen.evaluation.sidebyside import Comparison, latest
from smidgen.evaluation.sidebyside import compare as side_by_side
from smidgen.evaluation.verdict_parsing import PROBLEMS
from smidgen.evaluation.verdicts import Verdict, read_verdicts, write_verdicts
from smidgen.models.chat.outside import printable
from smidgen.runs import write_json
from smidgen.settings import PositiveShare, parse_spec

HUMAN = "human"
# Flags that only models which are still to write have a use for.
_FOR_WRITERS: Mapping[str, Any] = {
    "template": "plain",
    "completions": None,
    "max_new_tokens": 64,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "truncate_prompt": False,
}


def compare(
    models: Annotated[tuple[str, ...], Parameter(metavar="MODEL")] = (),
    *,
    judge: Annotated[tuple[str, ...], Parameter(metavar="JUDGE")] = (),
    out: Out,
    prompts: Annotated[ExistingFile | None, Parameter(metavar="FILE")] = None,
    prompt_format: Annotated[Literal["lines", "blocks"] | None, RARE] = None,
    verdicts: Annotated[tuple[ExistingFile, ...], Parameter(metavar="FILE")] = (),
    rubric: Annotated[str, Parameter(metavar="TEXT")] = "",
    samples: Annotated[ExistingFile | None, Parameter(metavar="FILE")] = None,
    by: Annotated[TeacherFlags, FLAT] = NOBODY,
    template: Annotated[TemplateName, RARE] = "plain",
    completions: Annotated[PositiveInt | None, RARE, Parameter(metavar="N")] = None,
    max_new_tokens: Annotated[PositiveInt, RARE] = 64,
    temperature: Annotated[NonNegativeFloat, RARE] = 1.0,
    top_p: Annotated[PositiveShare, RARE] = 1.0,
    top_k: Annotated[NonNegativeInt, RARE] = 0,
    truncate_prompt: Annotated[bool, RARE] = False,
    seed: Seed = 0,
    dry_run: DryRun = False,
) -> Outcome:
    """Compare what models wrote, by judges: who wins, on which prompts, how sure.

    Each MODEL is a file of completions, a folder that `smidgen generate` made, or with --prompts a model's folder or
    hub name; NAME=MODEL names it. Judges: reward:model=FOLDER; chat, which asks --teacher with a rubric in both orders;
    human, the blind page of `smidgen view`; longer, shorter, less_repetitive, matches:pattern=REGEX; and every reward
    rule, such as refusal. Writes comparison.html, comparison.json, matches.jsonl, verdicts.jsonl, and ratings.png for
    more than two models. The same command goes on where an earlier one was interrupted, and takes in people's votes.

    Args:
        models: Completions (.txt, .jsonl) or a model; two or more.
        judge: reward:model=…, chat, human, longer, a rule; repeatable.
        prompts: Prompts for models to write after.
        prompt_format: A prompt in a text file: a line or a block.
        verdicts: Verdicts made elsewhere, JSONL; repeatable.
        rubric: What "better" means to the chat judge, in a sentence.
        samples: Sample preferences that show it: pairs, or PROMPT, CHOSEN and REJECTED sections in .txt.
        template: Of the models' own prompts.
        completions: Of each prompt by a model. 3 where not given, 1 at temperature 0.
        max_new_tokens: Longest completion by a model.
        temperature: 0 takes the most probable token each time.
        top_p: Draw from the most probable tokens that reach this sum.
        top_k: Draw from so many most probable tokens; 0 for all.
        truncate_prompt: Keep only the end of prompts that leave a model no room.
    """
    arguments = dict(locals())
    asked = [contender_of(text) for text in models]
    _check(asked, arguments)
    writers = [one for one in asked if one.is_model]
    drawing = drawing_of(arguments) if writers else None
    with claimed(out, "compare", arguments, _inputs(asked, arguments), scratch=(FOLDER,), stores=STORES):
        bench = _bench(arguments)
        given = [v for path in verdicts for v in read_verdicts(path)]
        if dry_run and drawing:
            return plan_of_writing(bench, asked, arguments, drawing)
        found, drawings = _completions(asked, arguments, drawing)
        matches = matches_of(found) if found else []
        if dry_run:
            return plan_of_judging(bench, matches, given)
        return _run(_Work(bench, matches, given, drawings, seed), out)


@dataclass(frozen=True, slots=True)
class _Work:
    judges: Mapping[str, Judge]
    matches: Sequence[Match]
    given: Sequence[Verdict]
    drawings: Mapping[str, Mapping[str, Any]]
    seed: int


def _check(asked: Sequence[Contender], given: Mapping[str, Any]) -> None:
    """UsageError where something is missing, or given without use."""
    judge, verdicts = given["judge"], given["verdicts"]
    if len(asked) < 2 and not (verdicts and not asked):
        raise UsageError(
            f"expected two models or more, or --verdicts alone, got {len(asked) or 'none'}. Give files of completions, "
            "or folders of models with --prompts."
        )
    if not judge and not verdicts:
        raise UsageError("expected --judge, got none; give longer, reward:model=FOLDER, chat or human, for example.")
    if judge and not asked:
        raise UsageError("expected models for --judge to judge, got --verdicts alone; give both models, or no --judge.")
    idle = [name for name, default in _FOR_WRITERS.items() if given[name] != default]
    if idle and not any(one.is_model for one in asked):
        raise UsageError(
            f"expected --{idle[0].replace('_', '-')} with a model that writes only, got completions that are written "
            "already; leave it out."
        )


def _files(judge: Sequence[str]) -> list[str]:
    """Files and folders that judges' settings name."""
    values = [value for spec in judge for value in parse_spec(spec)[1].values()]
    return [value for value in values if isinstance(value, str) and Path(value).exists()]


def labels(specs: Sequence[str]) -> dict[str, str]:
    """Judges as results name them, and what they are: paths by their last part, unless two would then be one.

    >>> labels(["longer", "reward:model=runs/rm/model"])
    {'longer': 'longer', 'reward:model=rm': 'reward:model=runs/rm/model'}
    >>> list(labels(["matches:pattern=yes/no"]))
    ['matches:pattern=yes/no']
    """
    if len(set(specs)) != len(specs):
        raise UsageError(f"expected distinct judges, got {', '.join(specs)}; leave the repeated one out.")
    short = [_short(spec) for spec in specs]
    return {one if short.count(one) == 1 else spec: spec for one, spec in zip(short, specs, strict=True)}


def _short(spec: str) -> str:
    name, colon, rest = spec.partition(":")
    parts = []
    for item in filter(None, rest.split(",")):
        key, _, value = item.partition("=")
        names = [part for part in Path(value).parts if part not in ("/", "model")]
        is_path = key in ("model", "samples") or Path(value).exists()
        parts.append(f"{key}={names[-1]}" if is_path and "/" in value and names else item)
    return f"{name}{colon}{','.join(parts)}"


def _inputs(asked: Sequence[Contender], given: Mapping[str, Any]) -> list[str | Path]:
    """Everything on this disk that the result depends on, and the models' names."""
    by: TeacherFlags = given["by"]
    local = [by.model] if by.model and Path(by.model).is_dir() else []
    single = [path for path in (given["prompts"], given["samples"]) if path]
    return [*(one.source for one in asked), *given["verdicts"], *single, *_files(given["judge"]), *local]


def _bench(given: Mapping[str, Any]) -> dict[str, Judge]:
    """The judges, by the names that results give them."""
    by: TeacherFlags = given["by"]
    desk = Desk(
        folder=given["out"],
        teacher=by.settings() if by.teacher else None,
        rubric=given["rubric"],
        samples=str(given["samples"] or ""),
        concurrency=by.concurrency,
        progress=asking_progress,
    )
    bench = {label: load_judge(spec, desk) for label, spec in labels(given["judge"]).items()}
    wanted = given["rubric"] or given["samples"] or by.teacher
    if wanted and not any(isinstance(one, Paid) for one in bench.values()):
        raise UsageError("expected --rubric, --samples and --teacher with --judge chat only, got none; leave them out.")
    return bench


def _completions(
    asked: Sequence[Contender], given: Mapping[str, Any], drawing: Drawing | None
) -> tuple[list[Completions], dict[str, Mapping[str, Any]]]:
    """What every model wrote, and of those that did so here the account."""
    prompts = load_prompts(given["prompts"], form=given["prompt_format"]) if asked and given["prompts"] else []
    local = Local(template=given["template"], truncate_prompt=given["truncate_prompt"], batch_size=32, dtype="float32")
    found, drawings = [], {}
    for one in asked:
        if one.is_model and drawing:
            here = drawn(one, prompts, drawing, local, given["out"])
            found.append(here.completions)
            drawings[here.completions.model] = here.facts
        else:
            found.append(read_completions(one.source, model=one.name or None, prompts=prompts or None))
    return found, drawings


def _run(work: _Work, out: Path) -> Outcome:
    """Judge, count, and write all of it down."""
    if work.matches:
        write_matches(out / "matches.jsonl", work.matches)
    lines = [f"{printable(name)}: {line}" for name, facts in work.drawings.items() for line in drawn_lines(facts)]
    verdicts, account = list(work.given), {}
    for label, one in work.judges.items():
        found = [replace(v, judge=label) for v in one(work.matches)]
        verdicts += found
        account[label] = {"verdicts": len(found)}
        if isinstance(one, Paid):
            lines += [f"{label}: {note}" for note in one.notes]
            account[label]["notes"] = list(one.notes)
            if one.spending:
                lines += [f"{label}: {line}" for line in spending_lines(one.spending)]
                account[label]["spending"] = one.spending.summary()
    given, verdicts = len(verdicts), latest(verdicts)
    if replaced := given - len(verdicts):
        lines.append(f"{counted(replaced, 'verdict')} gave way to later ones of the same judge on the same match")
    write_verdicts(out / "verdicts.jsonl", verdicts)
    if HUMAN in work.judges:
        n_votes = account[HUMAN]["verdicts"]
        lines.append(f"{n_votes} verdicts by people so far" if n_votes else "nobody has judged yet")
        lines.append(f"to judge blind: smidgen view {out}; then run this command again")
    if not verdicts:
        return Outcome({"matches": len(work.matches), "verdicts": 0, "out": str(out)}, "\n".join(lines))
    names = list(dict.fromkeys(name for m in work.matches for name in (m.model_a, m.model_b)))
    found = side_by_side(verdicts, work.matches, models=names, seed=work.seed)
    facts = {"account": account, "replaced": replaced, "written": work.drawings, "seed": work.seed}
    return _written(found, verdicts, work.matches, facts, lines, out)


def _written(
    found: Comparison,
    verdicts: Sequence[Verdict],
    matches: Sequence[Match],
    facts: Mapping[str, Any],
    lines: list[str],
    out: Path,
) -> Outcome:
    from smidgen.report.comparison import write_comparison
    from smidgen.report.ratings_figure import ratings_png

    said = conclusion(found)
    data = {**asdict(found), "conclusion": said, **facts}
    write_json(out / "comparison.json", data)
    write_comparison(out / "comparison.html", found, said, matches, verdicts)
    if any(board.rows[0].rating is not None for board in found.ratings.values()):
        ratings_png(found.ratings, out / "ratings.png")
    problems = Counter(problem for result in found.results for problem in Counter(result.missing).elements())
    if problems["waiting"]:
        lines.append("the budget is spent; run the same command with a larger --budget to go on")
    elif unanswered := problems.total() - sum(problems[name] for name in (*PROBLEMS, "unknown")):
        lines.append(f"{unanswered} matches got no reply; the same command asks again")
    lines.append(f"written to {out / 'comparison.html'}, comparison.json and verdicts.jsonl")
    return Outcome({**data, "out": str(out)}, "\n".join([comparison_text(found, said), "", *lines]), problems.total())
