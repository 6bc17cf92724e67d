"""`smidgen minimize` and `smidgen demo`: the whole study, on the user's data or on the project's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from pydantic import NonNegativeInt, PositiveInt, TypeAdapter

from smidgen.assets import DEMO
from smidgen.cli import flags
from smidgen.cli.outcome import Outcome, claimed
from smidgen.cli.progress import study_progress
from smidgen.cli.shown import say
from smidgen.evaluation.patterns import SHIPPED
from smidgen.report.frontier import frontier_text
from smidgen.report.html import write_report
from smidgen.report.notebook import write_notebook
from smidgen.report.pdf import write_pdf
from smidgen.runs import read_json
from smidgen.settings import Share, read_settings
from smidgen.study.minimize import minimize as run_study
from smidgen.study.plan import StudySettings
from smidgen.study.public import PUBLIC_SCORES

_FLAGS = {
    "out": flags.Out,
    "pairs": flags.PairSources,
    "model": flags.Model,
    "harmful": flags.Harmful,
    "harmless": flags.Harmless,
    "confirm_harmful": flags.ConfirmHarmful,
    "confirm_harmless": flags.ConfirmHarmless,
    "public_harmful": Annotated[flags.PromptFile | None, flags.RARE, Parameter(metavar="FILE")],
    "public_harmless": Annotated[flags.PromptFile | None, flags.RARE, Parameter(metavar="FILE")],
    "public_patterns": Annotated[str, flags.RARE, Parameter(metavar="LIST")],
    "heldout": flags.Heldout,
    "heldout_share": Annotated[Share, flags.RARE],
    "aligned": flags.Aligned,
    "template": flags.TemplateName,
    "max_length": flags.MaxLength,
    "answer_head": flags.AnswerHead,
    "single_turn": flags.SingleTurn,
    "first": flags.First,
    "heldout_first": Annotated[PositiveInt | None, flags.RARE, Parameter(metavar="PAIRS")],
    "max_bad_fraction": flags.MaxBadFraction,
    "allow_leaks": flags.AllowLeaks,
    "settings": Annotated[StudySettings, flags.SETTINGS],
    "workers": NonNegativeInt,
    "threads": Annotated[PositiveInt, flags.RARE],
    "executor": flags.Executor,
    "address": flags.Address,
    "dry_run": flags.DryRun,
}


# What a finished study's user gives to others.
HANDED_IN = ("subset.csv", "main.ipynb", "report.html", "report.pdf")


@flags.takes_arguments_of(run_study, but=("watch", "say"), flags=_FLAGS)
def minimize(**arguments: Any) -> Outcome:
    out = arguments["out"]
    named = ("harmful", "harmless", "confirm_harmful", "confirm_harmless", "public_harmful", "public_harmless")
    files = [arguments[name] for name in (*named, "public_patterns", "aligned")]
    if arguments["settings"].patterns not in SHIPPED:
        files.append(arguments["settings"].patterns)
    inputs = [*arguments["pairs"], *arguments["heldout"], arguments["model"], *filter(None, files)]
    with claimed(out, "minimize", arguments, inputs), study_progress() as watch:
        certificate = run_study(**arguments, watch=watch, say=say)
        if arguments["dry_run"]:
            from smidgen.study.records import StudyRecords

            stored = StudyRecords(out / "study.sqlite").n_trials() if (out / "study.sqlite").exists() else 0
            kept = f"; {stored:,} trials are done already and are not run again" if stored else ""
            return Outcome({**certificate, "stored_trials": stored}, f"dry run: no trial was run{kept}")
        write_report(out)
        document = write_pdf(out)
        write_notebook(out)
    lines = [
        frontier_text(out),
        "",
        certificate["claim"],
        *_beside(certificate),
        *_public(out),
        "",
        *(str(out / name) for name in HANDED_IN),
        *filter(None, [document.note]),
    ]
    n_quarantined = len((out / "quarantine.jsonl").read_text(encoding="utf-8").splitlines())
    return Outcome(certificate, "\n".join(lines), n_quarantined)


def _beside(certificate: Mapping[str, Any]) -> list[str]:
    """What stands beside the claim, a line each; a certificate of an earlier version has none of it."""
    lines = [str(certificate.get("loss_statement") or "")]
    detectors = certificate.get("detectors") or {}
    if detectors:
        passed = [f"{name} {'yes' if found['non_inferior'] else 'no'}" for name, found in detectors.items()]
        lines.append(f"Score test by refusal list: {', '.join(passed)}.")
    curse = (certificate.get("winners_curse") or {}).get("subset")
    if curse:
        found = (f"{curse[key]['mean']:+.3f}" for key in ("dev", "dev_corrected", "confirm"))
        lines.append("Against full data: dev {}, dev corrected for the choice {}, confirm {}.".format(*found))
    lines.append(str((certificate.get("minimality") or {}).get("statement") or ""))
    return [line for line in lines if line]


def _public(out: Path) -> list[str]:
    """The scores on the user's public prompts, as the exercise counts and as this project does, where there are any."""
    path = out / PUBLIC_SCORES
    if not path.exists():
        return []
    found = read_json(path)
    first = next(iter(found["models"].values()))
    lines = [
        "",
        f"Public prompts, {first['n_harmful']} harmful and {first['n_harmless']} harmless ({len(found['leaks'])} pairs "
        "ask nearly the same); no claim rests on them.",
        f"{'':<10}{'compatible':>12}{'by number':>12}   ours, {first['confidence']:.0%} interval",
    ]
    for name, scored in found["models"].items():
        counted = scored["exercise_compatible"]
        fixed = counted.get("divided_by_20", {}).get("score")
        compatible = "-" if fixed is None else f"{fixed:+.3f}"
        ours = "{mean:+.3f} [{low:+.3f}, {high:+.3f}]".format_map(scored["score"])
        lines.append(f"{name:<10}{compatible:>12}{counted['score']['mean']:>+12.3f}   {ours}")
    return [
        *lines,
        "compatible: a pattern anywhere, also in the prompt, and divided by 20 however many prompts there are.",
    ]


def demo(
    *,
    out: flags.Out = Path("runs/demo"),
    seed: flags.Seed = 0,
    workers: NonNegativeInt = 2,
    executor: flags.Executor = "local",
    address: flags.Address = None,
    dry_run: flags.DryRun = False,
) -> Outcome:
    """Run a whole study on embedded data: offline, in minutes.

    A made-up world in which the truth is known: some pairs teach refusing, some teach not to refuse too much, some
    teach the opposite, and most teach neither. The study must find the first two kinds without being told.

    Args:
        workers: Trials at a time.
    """
    prompts = {name: DEMO / f"{name}.txt" for name in ("harmful", "harmless", "confirm_harmful", "confirm_harmless")}
    outcome = minimize(
        out=out,
        pairs=[str(DEMO / "pairs.jsonl")],
        heldout=(str(DEMO / "heldout.jsonl"),),
        model=str(DEMO / "model"),
        settings=TypeAdapter(StudySettings).validate_python(read_settings(DEMO / "settings.yaml") | {"seed": seed}),
        workers=workers,
        executor=executor,
        address=address,
        dry_run=dry_run,
        **prompts,
    )
    # The world has duplicates on purpose, so that rows left out are no news here.
    return Outcome(outcome.data, outcome.text)
