"""What was checked beside the claim, as rows: what choosing was worth, other detectors, winner's curse, transfer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from smidgen.evaluation.statistics import Interval
from smidgen.report.certificate import Certificate, interval


@dataclass(frozen=True, slots=True)
class DetectorRow:
    """The claim's numbers by one refusal list; `decides` marks the list the claim rests on."""

    name: str
    subset: Interval | None
    full: Interval | None
    difference: Interval
    lower_bound: float | None
    non_inferior: bool | None
    decides: bool


@dataclass(frozen=True, slots=True)
class CurseRow:
    """One nominee's change against full data, where it was chosen and where it was not."""

    name: str
    size: int | None
    dev: Interval
    corrected: Interval
    confirm: Interval
    shrinkage: Interval


@dataclass(frozen=True, slots=True)
class TransferRow:
    """Subset and full data under something that the search never saw."""

    what: str
    n_seeds: int | None
    subset: Interval | None
    full: Interval | None
    difference: Interval


def comparison_rows(certificate: Certificate) -> list[tuple[str, str, Interval]]:
    """Names of two arms, and the first's score less the second's."""
    found = ((*name.split("_minus_", 1), interval(value)) for name, value in certificate.comparisons.items())
    return [(row[0], row[1], row[2]) for row in found if len(row) == 3 and row[2] is not None]


def detector_rows(certificate: Certificate) -> list[DetectorRow]:
    """Every refusal list, the deciding one first."""
    rows = []
    for name, found in certificate.detectors.items():
        if not isinstance(found, Mapping) or (difference := interval(found.get("difference"))) is None:
            continue
        scores, bound, passed = found.get("scores") or {}, found["difference"].get("lower_bound"), found["non_inferior"]
        rows.append(
            DetectorRow(
                str(name),
                interval(scores.get("subset")),
                interval(scores.get("full")),
                difference,
                bound if isinstance(bound, float) else None,
                passed if isinstance(passed, bool) else None,
                name == certificate.patterns,
            )
        )
    return sorted(rows, key=lambda row: not row.decides)


def agreement_text(certificate: Certificate) -> str:
    """Cohen's kappa of every two lists, in words; "" where it is not known."""
    known = [(names, found) for names, kappa in certificate.detector_agreement.items() if (found := interval(kappa))]
    return ", ".join(f"{names} {found.mean:.2f}" for names, found in known)


def curse_rows(certificate: Certificate) -> list[CurseRow]:
    """The reported subset and the best at any size."""
    rows = []
    for arm, name in (("subset", "subset"), ("best", "best at any size")):
        found = certificate.winners_curse.get(arm)
        if not isinstance(found, Mapping):
            continue
        parts = [interval(found.get(key)) for key in ("dev", "dev_corrected", "confirm", "shrinkage")]
        if all(part is not None for part in parts):
            rows.append(CurseRow(name, found.get("size"), *[part for part in parts if part is not None]))
    return rows


def transfer_rows(certificate: Certificate) -> list[TransferRow]:
    """Another objective and another model, where they were tried."""
    rows = []
    for name, found in certificate.transfer.items():
        if isinstance(found, Mapping) and (difference := interval(found.get("difference"))) is not None:
            seeds: Any = found.get("n_seeds")
            rows.append(
                TransferRow(
                    f"{name}: {found.get(name)}",
                    seeds if isinstance(seeds, int) else None,
                    interval(found.get("subset")),
                    interval(found.get("full")),
                    difference,
                )
            )
    return rows
