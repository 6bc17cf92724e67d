"""certificate.json as a typed object: what a study may claim, and the tests behind it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smidgen.errors import InvalidData
from smidgen.evaluation.statistics import Interval
from smidgen.runs import read_json
from smidgen.selection.texts import DEFAULT_LIST

# No measure comes near; beyond it, numbers overflow in arithmetic on them.
_MOST = 1e100


@dataclass(frozen=True, slots=True)
class Step:
    """One test of the fixed sequence: a size, the score's paired difference from full data, and the outcome.

    Attributes:
        lower_bound: One-sided, which is what the test looks at; the interval's low where the certificate has none.
        failed: The endpoints that failed, "score" or one of the second endpoint's.
    """

    budget: int
    difference: Interval
    passed: bool
    selector: str
    lower_bound: float
    failed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What the study may claim, as certificate.json says it. Scores are refusal-rate differences, -1 to 1."""

    claim: str
    non_inferior: bool
    subset_size: int | None
    full_size: int
    delta: float
    confidence: float
    n_harmful_prompts: int
    n_harmless_prompts: int
    n_seeds: int
    scores: Mapping[str, Interval]
    steps: tuple[Step, ...] = ()
    subset_arm: str | None = None
    best_size: int | None = None
    seeds: tuple[Any, ...] = ()
    surrogate_correlation: Any = None
    assay: Mapping[str, Any]
    second_endpoint: Mapping[str, Any]
    endpoint_deltas: Mapping[str, Any]
    recipe: Mapping[str, Any]
    left_out: Mapping[str, Any]
    comparisons: Mapping[str, Any]
    detectors: Mapping[str, Any]
    detector_agreement: Mapping[str, Any]
    winners_curse: Mapping[str, Any]
    minimality: Mapping[str, Any]
    transfer: Mapping[str, Any]
    loss_bound: float | None = None
    loss_statement: str = ""
    patterns: str = DEFAULT_LIST
    limits: tuple[str, ...] = ()


def read_certificate(path: Path | str) -> Certificate:
    """Read certificate.json.

    Raises:
        InvalidData: Not JSON, a key missing, or a value of the wrong kind.
    """
    found = read_object(Path(path))
    try:
        return Certificate(
            claim=str(found["claim"]),
            non_inferior=bool(found["non_inferior"]),
            subset_size=_count(found["subset_size"]),
            full_size=int(found["full_size"]),
            delta=float(found["delta"]),
            confidence=float(found["confidence"]),
            n_harmful_prompts=int(found["n_harmful_prompts"]),
            n_harmless_prompts=int(found["n_harmless_prompts"]),
            n_seeds=int(found["n_seeds"]),
            scores={arm: score for arm, value in found["scores"].items() if (score := interval(value)) is not None},
            steps=tuple(_step(step) for step in found.get("steps_tested") or ()),
            subset_arm=found.get("subset_arm"),
            best_size=_count(found.get("best_size")),
            seeds=tuple(found.get("seeds") or ()),
            surrogate_correlation=found.get("surrogate_correlation"),
            assay=_mapping(found.get("assay")),
            second_endpoint=_mapping(found.get("second_endpoint")),
            endpoint_deltas=_mapping(found.get("endpoint_deltas")),
            patterns=str(found.get("patterns") or DEFAULT_LIST),
            recipe=_mapping(found.get("recipe")),
            left_out=_mapping(found.get("left_out")),
            comparisons=_mapping(found.get("comparisons")),
            detectors=_mapping(found.get("detectors")),
            detector_agreement=_mapping(found.get("detector_agreement")),
            winners_curse=_mapping(found.get("winners_curse")),
            minimality=_mapping(found.get("minimality")),
            transfer=_mapping(found.get("transfer")),
            loss_bound=_number(found.get("loss_bound")),
            loss_statement=str(found.get("loss_statement") or ""),
            limits=tuple(str(limit) for limit in found.get("limits") or ()),
        )
    except KeyError as error:
        raise InvalidData(f"{path}: expected the key {error}, found none. Run the study again to rewrite it.") from None
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InvalidData(f"{path}: expected a certificate, got {error}. Run the study again to rewrite it.") from None


def interval(value: Any) -> Interval | None:
    """An interval from `{mean, low, high}` or a bare number, with NaN for unknown bounds; None for anything else."""
    if isinstance(value, Mapping):
        mean = _number(value.get("mean"))
        low, high = (_number(value.get(bound)) for bound in ("low", "high"))
    else:
        mean, low, high = _number(value), None, None
    if mean is None:
        return None
    return Interval(mean, math.nan, math.nan) if low is None or high is None else Interval(mean, low, high)


def read_object(path: Path) -> Mapping[str, Any]:
    """A JSON object from a file; InvalidData for anything else."""
    try:
        found = read_json(path)
    except ValueError as error:
        raise InvalidData(f"{path}: expected JSON; {error}. Run the study again to rewrite it.") from None
    if not isinstance(found, Mapping):
        raise InvalidData(f"{path}: expected a JSON object, got {type(found).__name__}. Run the study again.")
    return found


def _step(step: Mapping[str, Any]) -> Step:
    difference = interval(step["difference"])
    if difference is None:
        raise ValueError(f"a tested step without a difference: {step}")
    return Step(
        int(step["budget"]),
        difference,
        bool(step["passed"]),
        str(step.get("selector") or ""),
        difference.low if (bound := _number(step.get("lower_bound"))) is None else bound,
        tuple(map(str, step.get("failed") or ())),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -_MOST <= value <= _MOST:
        return None
    return float(value)


def _count(value: Any) -> int | None:
    return None if value is None else int(value)
