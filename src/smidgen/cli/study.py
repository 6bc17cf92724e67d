"""`smidgen minimize` and `smidgen demo`: the whole study, on the user's data or on the project's own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

from pydantic import TypeAdapter

from smidgen.assets import DEMO
from smidgen.cli import flags
from smidgen.cli.outcome import Outcome, claimed
from smidgen.cli.progress import study_progress
from smidgen.report.frontier import frontier_text
from smidgen.report.html import write_report
from smidgen.settings import read_settings
from smidgen.study.minimize import minimize as run_study
from smidgen.study.plan import StudySettings

_FLAGS = {
    "out": flags.Out,
    "pairs": flags.PairSources,
    "model": flags.Model,
    "harmful": flags.Harmful,
    "harmless": flags.Harmless,
    "confirm_harmful": flags.ConfirmHarmful,
    "confirm_harmless": flags.ConfirmHarmless,
    "heldout": flags.Heldout,
    "heldout_share": Annotated[float, flags.RARE],
    "aligned": flags.Aligned,
    "template": flags.TemplateName,
    "max_length": flags.MaxLength,
    "answer_head": flags.AnswerHead,
    "max_bad_fraction": flags.MaxBadFraction,
    "allow_leaks": flags.AllowLeaks,
    "settings": Annotated[StudySettings, flags.SETTINGS],
    "threads": Annotated[int, flags.RARE],
    "dry_run": flags.DryRun,
}


@flags.takes_arguments_of(run_study, but=("watch", "say"), flags=_FLAGS)
def minimize(**arguments: Any) -> Outcome:
    out = arguments["out"]
    files = [arguments[name] for name in ("harmful", "harmless", "confirm_harmful", "confirm_harmless", "aligned")]
    inputs = [*arguments["pairs"], *arguments["heldout"], arguments["model"], *filter(None, files)]
    with claimed(out, "minimize", arguments, inputs), study_progress() as watch:
        certificate = run_study(**arguments, watch=watch, say=lambda line: print(line, file=sys.stderr))
    if arguments["dry_run"]:
        return Outcome(certificate, "dry run: no trial was run")
    report = write_report(out)
    lines = [frontier_text(out), "", certificate["claim"], "", str(out / "subset.csv"), str(report)]
    n_quarantined = len((out / "quarantine.jsonl").read_text(encoding="utf-8").splitlines())
    return Outcome(certificate, "\n".join(lines), n_quarantined)


def demo(
    *, out: flags.Out = Path("runs/demo"), seed: flags.Seed = 0, workers: int = 2, dry_run: flags.DryRun = False
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
        dry_run=dry_run,
        **prompts,
    )
    # The world has duplicates on purpose, so that rows left out are no news here.
    return Outcome(outcome.data, outcome.text)
