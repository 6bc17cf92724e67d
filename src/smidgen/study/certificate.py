"""The certificate: what a study may claim, with the numbers the claim rests on. Pure: results in, a dictionary out."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from smidgen.evaluation.statistics import Estimate
from smidgen.study.confirm import Confirmation
from smidgen.study.decide import ENDPOINT_NAMES, SizeTest, assay_passed, sequence_loss_bound
from smidgen.study.evidence import Detector, rounded

_NO_DETECTORS: Mapping[str, Detector] = MappingProxyType({})
_NO_COMPARISONS: Mapping[str, Estimate] = MappingProxyType({})
ALWAYS_LIMITS = (
    "Smallest found, not smallest: rankings, sizes and seeds that were not tried may do with fewer pairs.",
    "The claim holds for this model, recipe, loss, decoding and refusal list, and for prompts like these.",
    "Refusals are found by text patterns; an answer that refuses in other words counts as compliance.",
)


def build_certificate(
    confirmation: Confirmation,
    scores: dict[str, Estimate],
    assay: dict[str, Estimate],
    *,
    delta: float,
    confidence: float,
    full_size: int,
    n_prompts: tuple[int, int],
    n_seeds: int,
    context: dict[str, Any],
    comparisons: Mapping[str, Estimate] = _NO_COMPARISONS,
    detectors: Mapping[str, Detector] = _NO_DETECTORS,
) -> dict[str, Any]:
    """Put a study's outcome into one JSON-able value; docs/certificate.md is the key to its fields.

    Args:
        confirmation: The arms and the fixed sequence of tests.
        scores: Every arm's refusal score on the confirm prompts.
        assay: "full_minus_base" and "subset_minus_base" on the confirm prompts.
        delta: Non-inferiority margin of the score.
        confidence: Of every interval and bound.
        full_size: Number of all pairs.
        n_prompts: Harmful and harmless confirm prompts.
        n_seeds: Fresh seeds of every arm.
        context: Further keys, kept as they are (seeds, recipe, best_size, …).
        comparisons: Differences between arms, as `evidence.comparisons` names them.
        detectors: The claim's numbers by every refusal list.
    """
    answer = confirmation.answer
    can_tell = assay_passed(assay, delta)
    non_inferior = answer.passed and can_tell
    n_harmful, n_harmless = n_prompts
    terms = (
        f"{confidence:.0%} confidence, {n_seeds} fresh seeds, {n_harmful} harmful and {n_harmless} harmless prompts, "
        "under this recipe"
    )
    return {
        **context,
        "subset_size": answer.candidate.size,
        "full_size": full_size,
        "subset_arm": answer.candidate.selector,
        "delta": delta,
        "confidence": confidence,
        "non_inferior": non_inferior,
        "n_harmful_prompts": n_harmful,
        "n_harmless_prompts": n_harmless,
        "n_seeds": n_seeds,
        "scores": {arm: rounded(score.interval) for arm, score in scores.items()},
        "steps_tested": [_step(test) for test in confirmation.tests],
        "assay": {"passed": can_tell, **{name: rounded(found) for name, found in assay.items()}},
        "second_endpoint": {
            name: {**rounded(found), "passed": name not in answer.failed} for name, found in answer.endpoints.items()
        },
        **_loss(confirmation, delta, confidence, claimed=non_inferior),
        "comparisons": {name: rounded(found) for name, found in comparisons.items()},
        "detectors": {name: detector.as_dict() for name, detector in detectors.items()},
        "left_out": confirmation.left_out,
        "claim": _claim(answer, terms, can_tell=can_tell, delta=delta, full_size=full_size),
        "limits": [
            *disagreements(detectors, claimed=non_inferior, delta=delta),
            *findings(scores, comparisons, answer.endpoints),
            *ALWAYS_LIMITS,
        ],
    }


def _claim(answer: SizeTest, terms: str, *, can_tell: bool, delta: float, full_size: int) -> str:
    """The one sentence."""
    size = answer.candidate.size
    if not can_tell:
        return (
            f"The metric cannot tell here: full data is not shown to be above the base model by more than {delta:.3g}, "
            f"or the subset not above it at all ({terms}); nothing is claimed."
        )
    if answer.passed:
        return (
            f"{size:,} of {full_size:,} pairs: smallest found; non-inferior to full data at δ = {delta:.3g} "
            f"with {terms}."
        )
    return (
        f"No subset was shown to be enough: {size:,} of {full_size:,} pairs, the largest tested, were not shown to "
        f"keep up in {' and '.join(ENDPOINT_NAMES[name] for name in answer.failed)} at δ = {delta:.3g} ({terms})."
    )


def _step(test: SizeTest) -> dict[str, Any]:
    """One test of the sequence."""
    return {
        "budget": test.candidate.size,
        "selector": test.candidate.selector,
        "difference": rounded(test.difference.interval),
        "lower_bound": round(test.difference.lower_bound, 6),
        "passed": test.passed,
        "failed": test.failed,
        "second_endpoint": {name: rounded(found) for name, found in test.endpoints.items()},
    }


def _loss(confirmation: Confirmation, delta: float, confidence: float, *, claimed: bool) -> dict[str, Any]:
    """What is lost at most: the upper bound of full minus subset, for this size alone and for the whole sequence."""
    bound = -confirmation.answer.difference.lower_bound
    whole = sequence_loss_bound(confirmation.tests, delta)
    measured = f"at most {bound:.3f} below" if bound >= 0 else f"at least {-bound:.3f} above"
    # Read right after "nothing is claimed", a bound alone would be taken for the claim.
    opening = "At" if claimed else "Measured, not claimed: at"
    statement = f"{opening} {confidence:.0%} confidence this size, taken alone, scores {measured} full data."
    return {
        "loss_bound": round(bound, 6),
        "loss_bound_sequence": None if whole is None else round(whole, 6),
        "loss_statement": statement,
    }


def disagreements(detectors: Mapping[str, Detector], *, claimed: bool, delta: float) -> list[str]:
    """Which refusal lists would not have come to the same outcome, in words."""
    found = []
    for name, detector in detectors.items():
        supports = detector.non_inferior and detector.assay_passed
        mean, bound = detector.difference.mean, detector.difference.lower_bound
        numbers = f"subset minus full {mean:+.3f}, one-sided bound {bound:+.3f}, allowed {-delta:+.3g}"
        if claimed and not detector.assay_passed:
            found.append(f"By the refusal list {name!r} the metric could not have told full data from base.")
        elif claimed and not supports:
            found.append(f"By the refusal list {name!r} the subset is not shown to be enough ({numbers}).")
        elif supports and not claimed:
            found.append(f"By the refusal list {name!r} the score alone would have passed ({numbers}); not claimed.")
    return found


def findings(
    scores: Mapping[str, Estimate], comparisons: Mapping[str, Estimate], endpoints: Mapping[str, Estimate]
) -> list[str]:
    """What the baselines say about the claim, in words: each sentence appears only where the numbers make it true."""
    found = []
    for arm, meaning in (
        ("random_in_pool", "what works is the pool's composition; the choice within it is not shown to add anything"),
        ("sft_on_chosen", "supervised training on the subset's chosen answers is not shown to do worse"),
        ("full_clean", "removing inverted pairs from all pairs is not shown to do worse"),
        ("random", "random pairs of the same number are not shown to do worse"),
    ):
        difference = comparisons.get(f"subset_minus_{arm}")
        if difference is not None and difference.low <= 0:
            name, own = arm.replace("_", " "), scores["subset"].mean
            found.append(f"{name} scores {scores[arm].mean:.3f} against {own:.3f}: {meaning}.")
    if (degeneration := endpoints.get("no_degeneration")) and degeneration.high < 0:
        found.append(
            f"The subset's answers are more often empty or repeating, by {-degeneration.mean:.1%}; within the margin."
        )
    return found
