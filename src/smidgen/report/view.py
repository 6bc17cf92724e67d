"""What every form of the report shows, made from a run: rows of tables, scales, and numbers as people read them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from smidgen.evaluation.statistics import Interval
from smidgen.report.artefacts import Run, confirm_trials
from smidgen.report.certificate import interval
from smidgen.report.contents import Distribution, KindRow, distributions, kind_rows
from smidgen.report.frontier import ARM_NAMES, Frontier
from smidgen.report.verdict import number
from smidgen.runs import content_hash

MOST_PAIRS = 500
MOST_CHARACTERS = 2000
ARM_MEANINGS = {
    "base": "the model before any preference training",
    "full": "trained on every pair",
    "full_clean": "every pair but those that prefer complying with harm or refusing the harmless",
    "aligned": "the model given with --aligned, measured as it is",
    "subset": "the subset this report is about",
    "subset_equal_epochs": "the subset, seen as many times as full data sees each pair",
    "subset_equal_steps": "the subset, trained for as many steps as full data",
    "best": "the subset that scored best on dev at any size",
    "random": "as many pairs, drawn afresh from all of them for each seed",
    "random_in_pool": "as many pairs of the same composition, drawn from the pool the selector chose from",
    "sft_on_chosen": "supervised training on the chosen answers of the same pairs, no preferences",
}
GAP_NAMES = {"full_minus_base": "full − base", "subset_minus_base": "subset − base"}


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
    """A scale for the small interval drawings in tables."""

    low: float
    high: float
    marks: tuple[tuple[str, float], ...]

    def share(self, value: float) -> float:
        """Where a value stands on the scale, 0 to 1."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))

    def at(self, value: float) -> str:
        """The same in percent of the scale's width."""
        return f"{100 * self.share(value):.2f}%"


def run_id(run: Run) -> str:
    """A short name of the run, equal for equal runs."""
    return content_hash([dict(run.identity), run.certificate.claim])


def arm_rows(run: Run, found: Frontier) -> list[ArmRow]:
    """Every arm on the confirm prompts, in reading order."""
    rows = []
    for arm, (size, score) in found.arms.items():
        trials = confirm_trials(run.trials, run.certificate, arm)
        rates = []
        for name in ("harmful_refusal_rate", "harmless_refusal_rate"):
            values = [trial.metrics[name] for trial in trials if name in trial.metrics]
            rates.append(float(np.mean(values)) if values else None)
        rows.append(ArmRow(arm, ARM_NAMES.get(arm, arm.replace("_", " ")), size, score, *rates))
    return rows


def arm_strip(run: Run) -> Strip:
    """The scale of the arms' scores, with full data and the least that is enough marked on it."""
    full = run.certificate.scores.get("full")
    marks = () if full is None else (("enough", full.mean - run.certificate.delta), ("full", full.mean))
    return _strip(list(run.certificate.scores.values()), marks)


def step_strip(run: Run) -> Strip:
    """The scale of the tested differences from full data."""
    steps = [step.difference for step in run.certificate.steps]
    return _strip(steps, (("enough", -run.certificate.delta), ("full", 0.0)))


def _strip(intervals: Sequence[Interval], marks: tuple[tuple[str, float], ...]) -> Strip:
    values = [v for i in intervals for v in (i.mean, i.low, i.high) if math.isfinite(v)]
    values += [0.0, *(mark for _, mark in marks)]
    low, high = min(values), max(values)
    pad = 0.04 * max(high - low, 0.05)
    return Strip(low - pad, high + pad, marks)


def interval_rows(found: Mapping[str, Any], deltas: Mapping[str, Any] = MappingProxyType({})) -> list[dict[str, Any]]:
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


def kinds_and_distributions(run: Run) -> tuple[list[KindRow], list[Distribution]]:
    """What the subset is made of against the full data; nothing where the run's folder does not tell."""
    if run.features is None or not run.kept:
        return [], []
    known = {"chosen_refuses", "rejected_refuses", "prompt_harmfulness"} <= set(run.features.columns)
    return kind_rows(run.features, run.kept) if known else [], distributions(run.features, run.kept)


def correlation_text(value: Any) -> str:
    """The surrogate's correlation in words; "" where it is not known."""
    if not isinstance(value, Mapping):
        return "" if (known := interval(value)) is None else number(known.mean)
    parts = [
        f"{name.capitalize()} {number(found.mean)}"
        for name in ("spearman", "pearson")
        if (found := interval(value.get(name)))
    ]
    return ", ".join(parts) + (f" over {n.mean:,.0f} trials" if parts and (n := interval(value.get("n"))) else "")


def stage_rows(run: Run) -> list[tuple[str, int, float]]:
    """Each stage with its number of trials and their seconds together, in the order of the protocol."""
    order = ["tune", "search", "refine", "confirm"]
    names = sorted({trial.stage for trial in run.trials}, key=lambda s: (order.index(s) if s in order else 9, s))
    groups = [(name, [trial.wall_seconds for trial in run.trials if trial.stage == name]) for name in names]
    return [(name, len(seconds), math.fsum(seconds)) for name, seconds in groups]


def flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
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


def count(value: int) -> str:
    """A whole number with its thousands set apart."""
    return f"{value:,}"


def percent(value: float) -> str:
    """A share with one decimal below ten percent, none above."""
    return f"{value:.1%}" if 0 < value < 0.0995 else f"{value:.0%}"


def clip(text: str, most: int = MOST_CHARACTERS) -> str:
    """The first `most` characters, with a sign of it where there are more."""
    return text if len(text) <= most else f"{text[:most].rstrip()} …"


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> duration(4521)
    '1 h 15 min'
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
