"""The report: one page that opens offline, made from a run's artefacts alone.

All text of models and data passes through Jinja's escaping; the page's own style and script are allowed by their hash,
and nothing else runs or loads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from markupsafe import Markup

from smidgen.evaluation.statistics import Interval
from smidgen.report.artefacts import Run, confirm_trials, read_run
from smidgen.report.certificate import interval
from smidgen.report.checks import agreement_text, comparison_rows, curse_rows, detector_rows, transfer_rows
from smidgen.report.contents import distributions, kind_rows, typical_words
from smidgen.report.figures import comparators, distributions_svg, selector_roles
from smidgen.report.frontier import ARM_NAMES, Frontier, frontier
from smidgen.report.page import render_page
from smidgen.report.reasons import bars, facts
from smidgen.report.samples import sample
from smidgen.report.spots import frontier_svg
from smidgen.report.verdict import ENDPOINT_NAMES, number, verdict
from smidgen.runs import content_hash, write_text

MOST_PAIRS = 500
FIRST_PAIRS = 20
MOST_CHARACTERS = 2000


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
    filters = {
        "number": number, "count": _count, "percent": _percent, "clip": _clip, "duration": _duration, "facts": facts
    }  # fmt: skip
    return render_page("report.html.j2", filters, script="report.js", **_view(run))


@dataclass(frozen=True, slots=True)
class ArmRow:
    """A row of the table of arms; rates are means over seeds, None where not measured."""

    arm: str
    name: str
    size: int | None
    score: Interval
    harmful: float | None
    harmless: float | None


@dataclass(frozen=True, slots=True)
class Strip:
    """A scale for the small interval drawings in tables: positions in percent of their width."""

    low: float
    high: float
    marks: tuple[tuple[str, float], ...]

    def at(self, value: float) -> str:
        share = (value - self.low) / (self.high - self.low)
        return f"{100 * min(1.0, max(0.0, share)):.2f}%"


def _view(run: Run) -> dict[str, Any]:
    """Everything the template shows, by name."""
    certificate, found = run.certificate, frontier(run)
    full = certificate.scores.get("full")
    marks = () if full is None else (("enough", full.mean - certificate.delta), ("full", full.mean))
    steps = [step.difference for step in certificate.steps]
    return {
        "certificate": certificate,
        "verdict": verdict(certificate),
        "share": certificate.subset_size / certificate.full_size if certificate.subset_size else None,
        "run_id": content_hash([dict(run.identity), certificate.claim]),
        "frontier": found,
        "frontier_figure": Markup(frontier_svg(found)),
        "selector_roles": selector_roles(found),
        "any_refined": any(trial.is_search and trial.stage == "refine" for trial in run.trials),
        "comparators": {arm: (marker, role) for arm, (marker, role, _) in comparators(found).items()},
        "arm_names": ARM_NAMES,
        "arms": _arm_rows(run, found),
        "arm_strip": _strip(list(certificate.scores.values()), marks),
        "step_strip": _strip(steps, (("enough", -certificate.delta), ("full", 0.0))),
        "assay": _interval_rows(certificate.assay),
        "endpoints": _interval_rows(certificate.second_endpoint, certificate.endpoint_deltas),
        "endpoint_names": ENDPOINT_NAMES,
        "comparisons": comparison_rows(certificate),
        "detectors": detector_rows(certificate),
        "agreement": agreement_text(certificate),
        "curse": curse_rows(certificate),
        "transfers": transfer_rows(certificate),
        "correlation": _correlation(certificate.surrogate_correlation),
        **_contents_view(run),
        "pairs": run.kept[:MOST_PAIRS],
        "runners_up": run.runners_up,
        "bars": bars([*run.kept[:MOST_PAIRS], *run.runners_up]),
        "first_pairs": FIRST_PAIRS,
        "most_characters": MOST_CHARACTERS,
        "n_kept": len(run.kept),
        "pair_kinds": sorted({pair.extra["kind"] for pair in run.kept[:MOST_PAIRS] if "kind" in pair.extra}),
        "samples": [sample(run.answers, harmful=side) for side in (True, False)],
        "settings": _flat(run.settings),
        "recipe": _flat(certificate.recipe),
        "environment": _flat(run.environment),
        "inputs": _flat(run.inputs),
        "identity": _flat(run.identity),
        "n_trials": len(run.trials),
        "trial_seconds": math.fsum(trial.wall_seconds for trial in run.trials),
        "stages": _stages(run),
    }


def _contents_view(run: Run) -> dict[str, Any]:
    kinds, found = [], []
    if run.features is not None and run.kept:
        found = distributions(run.features, run.kept)
        if {"chosen_refuses", "rejected_refuses", "prompt_harmfulness"} <= set(run.features.columns):
            kinds = kind_rows(run.features, run.kept)
    return {
        "kinds": kinds,
        "distributions": found,
        "distributions_figure": Markup(distributions_svg(found)),
        "typical_words": typical_words(run.kept),
    }


def _arm_rows(run: Run, found: Frontier) -> list[ArmRow]:
    rows = []
    for arm, (size, score) in found.arms.items():
        trials = confirm_trials(run.trials, run.certificate, arm)
        rates = []
        for name in ("harmful_refusal_rate", "harmless_refusal_rate"):
            values = [trial.metrics[name] for trial in trials if name in trial.metrics]
            rates.append(float(np.mean(values)) if values else None)
        rows.append(ArmRow(arm, ARM_NAMES.get(arm, arm.replace("_", " ")), size, score, *rates))
    return rows


def _strip(intervals: Sequence[Interval], marks: tuple[tuple[str, float], ...]) -> Strip:
    values = [v for i in intervals for v in (i.mean, i.low, i.high) if math.isfinite(v)]
    values += [0.0, *(mark for _, mark in marks)]
    low, high = min(values), max(values)
    pad = 0.04 * max(high - low, 0.05)
    return Strip(low - pad, high + pad, marks)


def _interval_rows(found: Mapping[str, Any], deltas: Mapping[str, Any] = MappingProxyType({})) -> list[dict[str, Any]]:
    """The entries of `found` that hold an interval, with its one-sided bound, its margin and whether it passed."""
    rows = []
    for name, value in found.items():
        if (measured := interval(value)) is None:
            continue
        rest = value if isinstance(value, Mapping) else {}
        rows.append({
            "name": name,
            "interval": measured,
            "lower_bound": rest.get("lower_bound"),
            "passed": rest.get("passed"),
            "allowed": deltas.get(name),
        })  # fmt: skip
    return rows


def _correlation(value: Any) -> str:
    """The surrogate's correlation in words; "" where it is not known."""
    if not isinstance(value, Mapping):
        return "" if (known := interval(value)) is None else number(known.mean)
    parts = [
        f"{name.capitalize()} {number(found.mean)}"
        for name in ("spearman", "pearson")
        if (found := interval(value.get(name)))
    ]
    return ", ".join(parts) + (f" over {n.mean:,.0f} trials" if parts and (n := interval(value.get("n"))) else "")


def _stages(run: Run) -> list[tuple[str, int, float]]:
    """Each stage with its number of trials and their seconds together, in the order of the protocol."""
    order = ["tune", "search", "refine", "confirm"]
    names = sorted({trial.stage for trial in run.trials}, key=lambda s: (order.index(s) if s in order else 9, s))
    groups = [(name, [trial.wall_seconds for trial in run.trials if trial.stage == name]) for name in names]
    return [(name, len(seconds), math.fsum(seconds)) for name, seconds in groups]


def _flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as rows of dotted name and value."""
    return list(_flatten(value, prefix))


def _flatten(value: Any, prefix: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flatten(item, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, (list, tuple)):
        if any(isinstance(item, (Mapping, list, tuple)) for item in value):
            for i, item in enumerate(value):
                yield from _flatten(item, f"{prefix}[{i}]")
        else:
            yield prefix, ", ".join(str(item) for item in value) or "none"
    elif value is not None or prefix:
        yield prefix, "none" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _count(value: int) -> str:
    return f"{value:,}"


def _percent(value: float) -> str:
    """A share with one decimal below ten percent, none above."""
    return f"{value:.1%}" if 0 < value < 0.0995 else f"{value:.0%}"


def _clip(text: str, most: int = MOST_CHARACTERS) -> str:
    return text if len(text) <= most else f"{text[:most].rstrip()} …"


def _duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> _duration(4521)
    '1 h 15 min'
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
