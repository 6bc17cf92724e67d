"""The report: one page that opens offline, made from a run's artefacts alone.

All text of models and data passes through Jinja's escaping; the page's own style and script are allowed by their hash,
and nothing else runs or loads.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from markupsafe import Markup

from smidgen.report.artefacts import Run, read_run
from smidgen.report.checks import agreement_text, comparison_rows, curse_rows, detector_rows, transfer_rows
from smidgen.report.contents import typical_words
from smidgen.report.contents_figure import distributions_svg
from smidgen.report.figures import frontier_svg
from smidgen.report.frontier import ARM_NAMES, frontier
from smidgen.report.frontier_marks import comparators, selector_roles
from smidgen.report.page import render_page
from smidgen.report.reasons import bars, facts
from smidgen.report.samples import sample
from smidgen.report.verdict import number, verdict
from smidgen.report.view import (
    ARM_MEANINGS,
    GAP_NAMES,
    MOST_CHARACTERS,
    MOST_PAIRS,
    arm_rows,
    arm_strip,
    clip,
    correlation_text,
    count,
    duration,
    flat,
    interval_rows,
    kinds_and_distributions,
    percent,
    run_id,
    stage_rows,
    step_strip,
)
from smidgen.runs import write_text
from smidgen.study.decide import ENDPOINT_NAMES

FIRST_PAIRS = 20


def write_report(run_folder: Path | str) -> Path:
    """Write report.html into a run's folder; equal artefacts give equal bytes.

    Raises:
        UsageError: No finished run there.
        InvalidData: An artefact that cannot be read.
    """
    path = Path(run_folder) / "report.html"
    write_text(path, render(read_run(run_folder)))
    return path


def render(run: Run) -> str:
    """The page as text."""
    filters = {"number": number, "count": count, "percent": percent, "clip": clip, "duration": duration, "facts": facts}
    return render_page("report.html.j2", filters, script="report.js", **_view(run))


def _view(run: Run) -> dict[str, Any]:
    """Everything the template shows, by name."""
    certificate, found = run.certificate, frontier(run)
    return {
        "certificate": certificate,
        "verdict": verdict(certificate),
        "share": certificate.subset_size / certificate.full_size if certificate.subset_size else None,
        "run_id": run_id(run),
        "frontier": found,
        "frontier_figure": Markup(frontier_svg(found)),
        "selector_roles": selector_roles(found),
        "any_refined": any(trial.is_search and trial.stage == "refine" for trial in run.trials),
        "comparators": {arm: (marker, role) for arm, (marker, role, _) in comparators(found).items()},
        "arm_names": ARM_NAMES,
        "arm_meanings": ARM_MEANINGS,
        "gap_names": GAP_NAMES,
        "arms": arm_rows(run, found),
        "arm_strip": arm_strip(run),
        "step_strip": step_strip(run),
        "assay": interval_rows(certificate.assay),
        "endpoints": interval_rows(certificate.second_endpoint, certificate.endpoint_deltas),
        "endpoint_names": ENDPOINT_NAMES,
        "comparisons": comparison_rows(certificate),
        "detectors": detector_rows(certificate),
        "agreement": agreement_text(certificate),
        "curse": curse_rows(certificate),
        "transfers": transfer_rows(certificate),
        "correlation": correlation_text(certificate.surrogate_correlation),
        **_contents_view(run),
        "pairs": run.kept[:MOST_PAIRS],
        "runners_up": run.runners_up,
        "bars": bars([*run.kept[:MOST_PAIRS], *run.runners_up]),
        "first_pairs": FIRST_PAIRS,
        "most_characters": MOST_CHARACTERS,
        "n_kept": len(run.kept),
        "pair_kinds": sorted({pair.extra["kind"] for pair in run.kept[:MOST_PAIRS] if "kind" in pair.extra}),
        "samples": [sample(run.answers, harmful=side) for side in (True, False)],
        "settings": flat(run.settings),
        "recipe": flat(certificate.recipe),
        "environment": flat(run.environment),
        "inputs": flat(run.inputs),
        "identity": flat(run.identity),
        "n_trials": len(run.trials),
        "trial_seconds": math.fsum(trial.wall_seconds for trial in run.trials),
        "stages": stage_rows(run),
    }


def _contents_view(run: Run) -> dict[str, Any]:
    kinds, found = kinds_and_distributions(run)
    return {
        "kinds": kinds,
        "distributions": found,
        "distributions_figure": Markup(distributions_svg(found)),
        "typical_words": typical_words(run.kept),
    }
