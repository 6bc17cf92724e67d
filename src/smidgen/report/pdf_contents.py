"""Everything a PDF report shows, as plain values by name: made from a run, and read by the template as data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from smidgen.evaluation.statistics import Interval
from smidgen.report.artefacts import Run
from smidgen.report.checks import agreement_text, comparison_rows, curse_rows, detector_rows, transfer_rows
from smidgen.report.figures import frontier_label, frontier_print
from smidgen.report.frontier import ARM_NAMES, Frontier, frontier
from smidgen.report.pdf_method import method
from smidgen.report.pdf_pairs import sample_values, subset_values
from smidgen.report.samples import sample
from smidgen.report.verdict import number, verdict
from smidgen.report.view import (
    ARM_MEANINGS,
    GAP_NAMES,
    Strip,
    arm_rows,
    arm_strip,
    clip,
    correlation_text,
    count,
    duration,
    flat,
    interval_rows,
    percent,
    run_id,
    stage_rows,
    step_strip,
)
from smidgen.study.decide import ENDPOINT_NAMES

_MOST = 600


def contents(run: Run) -> dict[str, Any]:
    """The report's values; the template's names for them are the keys. Texts are as they were, not yet printable."""
    certificate, found = run.certificate, frontier(run)
    told = verdict(certificate)
    of_full = f"{count(certificate.full_size)} pairs"
    size = certificate.subset_size
    return {
        "title": f"{told.label}: {count(size)} of {of_full}" if size else f"{told.label}: no subset of {of_full}",
        "status": told.status,
        "claim": certificate.claim,
        "reasons": list(told.reasons),
        "run": run_id(run),
        "full_size": count(certificate.full_size),
        "size": count(size) if size else None,
        "delta": f"{certificate.delta:.3g}",
        "confidence": percent(certificate.confidence),
        "n_seeds": certificate.n_seeds,
        "n_harmful": certificate.n_harmful_prompts,
        "n_harmless": certificate.n_harmless_prompts,
        "patterns": certificate.patterns,
        "key_numbers": _key_numbers(run),
        "method": method(run),
        **_frontier_values(run, found),
        **_certificate_values(run),
        **_check_values(run),
        **subset_values(run),
        "samples": [sample_values(sample(run.answers, harmful=side)) for side in (True, False)],
        "limits": list(certificate.limits),
        **_making_values(run),
    }


def _key_numbers(run: Run) -> list[dict[str, str]]:
    certificate = run.certificate
    size = certificate.subset_size
    share = "" if not size else f", {percent(size / certificate.full_size)}"
    found = [
        (
            "Smallest found" if certificate.non_inferior else "Size reported",
            count(size) if size else "none",
            f"of {count(certificate.full_size)} pairs{share}",
        )
    ]
    for arm, name in (("subset", "Score, subset"), ("full", "Score, full data"), ("base", "Score, base model")):
        if (score := certificate.scores.get(arm)) is not None:
            bounds = f"{number(score.low)} to {number(score.high)}" if math.isfinite(score.low) else ""
            found.append((name, number(score.mean), bounds))
    found.append(
        ("Allowed below full", f"{certificate.delta:.3g}", f"δ, at {percent(certificate.confidence)} confidence")
    )
    if (bound := certificate.loss_bound) is not None:
        note = "of score, this size alone" + ("" if certificate.non_inferior else "; not claimed")
        found.append(("Lost at most" if bound >= 0 else "Gained at least", number(abs(bound)), note))
    prompts = f"{certificate.n_harmful_prompts} harmful, {certificate.n_harmless_prompts} harmless prompts"
    found.append(("Fresh seeds", str(certificate.n_seeds), prompts))
    return [{"name": name, "value": value, "note": note} for name, value, note in found]


def _measured(found: Interval | None, strip: Strip | None = None, *, signed: bool = False) -> dict[str, Any] | None:
    """A value with its interval as a table shows it; with a scale, also where it stands on it, 0 to 1."""
    if found is None:
        return None
    known = math.isfinite(found.low)
    places = [strip.share(v) for v in (found.mean, found.low, found.high) if math.isfinite(v)] if strip else []
    return {
        "mean": f"{'+' if signed and found.mean > 0 else ''}{number(found.mean)}",
        "bounds": f"[{number(found.low)}, {number(found.high)}]" if known else "",
        "places": places,
    }


def _frontier_values(run: Run, found: Frontier) -> dict[str, Any]:
    certificate, strip = run.certificate, arm_strip(run)
    return {
        "frontier_figure": frontier_print(found),
        "frontier_label": frontier_label(found),
        "has_search": bool(found.search),
        "has_tested": bool(found.tested),
        "has_refined": any(trial.is_search and trial.stage == "refine" for trial in run.trials),
        "n_surrogate_only": found.n_surrogate_only,
        "arm_marks": {name: strip.share(value) for name, value in strip.marks},
        "arms": [
            {
                "name": row.name,
                "is_main": row.arm in ("subset", "full"),
                "size": "–" if row.size is None else count(row.size),
                "score": _measured(row.score, strip),
                "harmful": _rate(row.harmful),
                "harmless": _rate(row.harmless),
            }
            for row in arm_rows(run, found)
        ],
        "arm_meanings": [[ARM_NAMES[arm], text] for arm, text in ARM_MEANINGS.items() if arm in found.arms],
        "left_out": [[ARM_NAMES.get(arm, arm), str(reason)] for arm, reason in certificate.left_out.items()],
    }


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}%"


def _certificate_values(run: Run) -> dict[str, Any]:
    certificate, strip = run.certificate, step_strip(run)
    passed = certificate.assay.get("passed")
    return {
        "step_marks": {name: strip.share(value) for name, value in strip.marks},
        "steps": [
            {
                "size": count(step.budget),
                "selector": step.selector or "–",
                "difference": _measured(step.difference, strip, signed=True),
                "bound": number(step.lower_bound),
                "passed": step.passed,
                "failed": [ENDPOINT_NAMES.get(name, name) for name in step.failed],
            }
            for step in certificate.steps
        ],
        "assay": [
            {**_row(row), "name": GAP_NAMES.get(row["name"], row["name"].replace("_", " "))}
            for row in interval_rows(certificate.assay)
        ],
        "assay_passed": passed if isinstance(passed, bool) else None,
        "endpoints": [
            {**_row(row), "name": ENDPOINT_NAMES.get(row["name"], row["name"].replace("_", " "))}
            for row in interval_rows(certificate.second_endpoint, certificate.endpoint_deltas)
        ],
        "correlation": correlation_text(certificate.surrogate_correlation),
    }


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    bound, allowed = row["lower_bound"], row["allowed"]
    return {
        "difference": _measured(row["interval"], signed=True),
        "bound": number(bound) if isinstance(bound, (int, float)) else "–",
        "allowed": number(-allowed) if isinstance(allowed, (int, float)) else "–",
        "passed": row["passed"] if isinstance(row["passed"], bool) else None,
    }


def _check_values(run: Run) -> dict[str, Any]:
    certificate = run.certificate
    return {
        "loss_statement": certificate.loss_statement,
        "comparisons": [
            {"one": _arm(one), "other": _arm(other), "difference": _measured(difference, signed=True)}
            for one, other, difference in comparison_rows(certificate)
        ],
        "detectors": [
            {
                "name": row.name + (", which decides" if row.decides else ""),
                "is_main": row.decides,
                "subset": _measured(row.subset),
                "full": _measured(row.full),
                "difference": _measured(row.difference, signed=True),
                "bound": "–" if row.lower_bound is None else number(row.lower_bound),
                "passed": row.non_inferior,
            }
            for row in detector_rows(certificate)
        ],
        "agreement": agreement_text(certificate),
        "curse": [
            {
                "name": row.name + ("" if row.size is None else f", {row.size:,} pairs"),
                "values": [_measured(v, signed=True) for v in (row.dev, row.corrected, row.confirm, row.shrinkage)],
            }
            for row in curse_rows(certificate)
        ],
        "candidates": certificate.winners_curse.get("candidates"),
        "minimality": str(certificate.minimality.get("statement") or ""),
        "transfers": [
            {
                "what": row.what,
                "seeds": "–" if row.n_seeds is None else row.n_seeds,
                "subset": _measured(row.subset),
                "full": _measured(row.full),
                "difference": _measured(row.difference, signed=True),
            }
            for row in transfer_rows(certificate)
        ],
    }


def _arm(name: str) -> str:
    return ARM_NAMES.get(name, name.replace("_", " "))


def _making_values(run: Run) -> dict[str, Any]:
    seconds = math.fsum(trial.wall_seconds for trial in run.trials)
    # What makes a run the run that it is, is its settings and the content of its inputs.
    identity = {name: value for name, value in run.identity.items() if name not in run.settings}
    recipe = run.certificate.recipe
    settings = {name: value for name, value in run.settings.items() if name != "recipe" or value != recipe}
    known = {
        "Recipe, frozen before the search": recipe,
        "Environment": run.environment,
        "Inputs": run.inputs,
        "Identity of the run, beside its settings": identity,
        "Settings": settings,
    }
    return {
        "n_trials": len(run.trials),
        "trial_time": duration(seconds),
        "stages": [f"{name} {count(n)} in {duration(spent)}" for name, n, spent in stage_rows(run)],
        "seeds": ", ".join(map(str, run.certificate.seeds)),
        "tables": [
            {"title": title, "rows": [[key, clip(value, _MOST)] for key, value in flat(found)]}
            for title, found in known.items()
            if found
        ],
    }
