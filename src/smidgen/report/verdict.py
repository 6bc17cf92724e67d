"""What the certificate comes to, in words: a status, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from smidgen.report.certificate import Certificate, Step, interval
from smidgen.study.decide import ENDPOINT_NAMES


@dataclass(frozen=True, slots=True)
class Verdict:
    """A study's outcome for a reader in a hurry.

    Attributes:
        label: The status in a few words.
        reasons: Sentences that say why, in the order a reader asks for them.
    """

    status: Literal["pass", "fail", "cannot tell"]
    label: str
    reasons: tuple[str, ...]


def number(value: float) -> str:
    """Three decimals and a true minus sign.

    >>> number(-0.0471)
    '−0.047'
    """
    text = f"{value:.3f}"
    return text.replace("-", "−") if float(text) else "0.000"


def verdict(certificate: Certificate) -> Verdict:
    """The status, with its reasons in plain words."""
    if certificate.non_inferior:
        return Verdict("pass", "Shown to be enough", _passed(certificate))
    if not assay_passed(certificate.assay):
        return Verdict("cannot tell", "The benchmark cannot tell", _blind(certificate))
    return Verdict("fail", "Not shown to be enough", _failed(certificate))


def assay_passed(assay: Mapping[str, Any]) -> bool:
    """Whether the benchmark was shown to tell good from bad; true where the certificate does not say."""
    return all(value for value in assay.values() if isinstance(value, bool))


def _passed(certificate: Certificate) -> tuple[str, ...]:
    reasons = [
        f"Sizes were tested from the largest down, each against full data. The smallest that passed has "
        f"{certificate.subset_size:,} pairs."
        if certificate.subset_size is not None
        else "Sizes were tested from the largest down, each against full data."
    ]
    failed = [step for step in certificate.steps if not step.passed]
    if failed:
        reasons.append(f"The next one failed: {_why(failed[0], certificate.delta)} Testing stops there.")
    return tuple(reasons)


def _failed(certificate: Certificate) -> tuple[str, ...]:
    failed = [step for step in certificate.steps if not step.passed]
    reasons = [_why(step, certificate.delta) for step in failed[:1]]
    reasons += [
        f"On the second endpoint it was not shown to keep up in {ENDPOINT_NAMES.get(name, name)}."
        for name, found in certificate.second_endpoint.items()
        if isinstance(found, Mapping) and found.get("passed") is False and not (failed and name in failed[0].failed)
    ]
    if not reasons:
        reasons.append("The certificate names no test that failed; its claim above is all it says.")
    return (*reasons, "Testing stops at the first failure, so no smaller size was tested, and none is claimed.")


def _blind(certificate: Certificate) -> tuple[str, ...]:
    gap = interval(certificate.assay.get("full_minus_base"))
    own = interval(certificate.assay.get("subset_minus_base"))
    reasons = []
    if gap is not None:
        reasons.append(
            f"Full data scores {number(gap.mean)} above the base model, with an interval from {number(gap.low)} to "
            f"{number(gap.high)}. To call a subset as good as full data, that gap must be shown to exceed "
            f"δ = {certificate.delta:.3g}: otherwise the untrained model itself could pass."
        )
    if own is not None:
        reasons.append(
            f"The subset scores {number(own.mean)} above the base model ({number(own.low)} to {number(own.high)}); "
            "this must be shown to be above zero."
        )
    return (*reasons, "This is a finding about the benchmark or the training, not about the subset.")


def _why(step: Step, delta: float) -> str:
    names = [ENDPOINT_NAMES.get(name, name) for name in step.failed]
    by = f"{step.budget:,} pairs were not shown to keep up in {' and '.join(names)}."
    if not names:
        by = f"{step.budget:,} pairs failed."
    if "score" not in step.failed and names:
        return by
    return (
        f"{by} The score differs from full data’s by {number(step.difference.mean)}, and the one-sided bound of that "
        f"difference is {number(step.lower_bound)}; it had to stay above {number(-delta)}."
    )
