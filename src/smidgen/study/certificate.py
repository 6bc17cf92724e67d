"""The certificate: what a study may claim, with the numbers the claim rests on. Pure: results in, a dictionary out."""

from __future__ import annotations

from typing import Any

from smidgen.evaluation.statistics import Estimate
from smidgen.study.confirm import Confirmation

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
) -> dict[str, Any]:
    """Put a study's outcome into one JSON-able value.

    Args:
        confirmation: The arms and the fixed sequence of tests.
        scores: Every arm's refusal score on the confirm prompts.
        assay: "full_minus_base" and "subset_minus_base" on the confirm prompts.
        delta: Non-inferiority margin of the score.
        full_size: Number of all pairs.
        n_prompts: Harmful and harmless confirm prompts.
        context: Further keys, kept as they are (seeds, recipe, best_size, …).
    """
    answer = confirmation.answer
    assay_passed = assay["full_minus_base"].lower_bound > delta and assay["subset_minus_base"].lower_bound > 0
    non_inferior = answer.passed and assay_passed
    size, (n_harmful, n_harmless) = answer.candidate.size, n_prompts
    terms = (
        f"{confidence:.0%} confidence, {n_seeds} fresh seeds, {n_harmful} harmful and {n_harmless} harmless prompts, "
        "under this recipe"
    )
    if not assay_passed:
        claim = (
            f"The metric cannot tell here: full data is not shown to be above the base model by more than {delta:.3g}, "
            f"or the subset not above it at all ({terms}); nothing is claimed."
        )
    elif non_inferior:
        claim = (
            f"{size:,} of {full_size:,} pairs: smallest found; non-inferior to full data at δ = {delta:.3g} "
            f"with {terms}."
        )
    else:
        claim = (
            f"No subset was shown to be enough: {size:,} of {full_size:,} pairs, the largest tested, failed on "
            f"{', '.join(answer.failed).replace('_', ' ')} at δ = {delta:.3g} ({terms})."
        )
    return {
        **context,
        "subset_size": size,
        "full_size": full_size,
        "subset_arm": answer.candidate.selector,
        "delta": delta,
        "confidence": confidence,
        "non_inferior": non_inferior,
        "n_harmful_prompts": n_harmful,
        "n_harmless_prompts": n_harmless,
        "n_seeds": n_seeds,
        "scores": {arm: _interval(interval) for arm, interval in scores.items()},
        "steps_tested": [
            {
                "budget": test.candidate.size,
                "selector": test.candidate.selector,
                "difference": _interval(test.difference),
                "lower_bound": round(test.difference.lower_bound, 6),
                "passed": test.passed,
                "failed": test.failed,
                "second_endpoint": {
                    name: {**_interval(i), "lower_bound": round(i.lower_bound, 6)} for name, i in test.endpoints.items()
                },
            }
            for test in confirmation.tests
        ],
        "assay": {
            "passed": assay_passed,
            **{name: {**_interval(i), "lower_bound": round(i.lower_bound, 6)} for name, i in assay.items()},
        },
        "second_endpoint": {
            name: {
                **_interval(i),
                "lower_bound": round(i.lower_bound, 6),
                "passed": name not in answer.failed,
            }
            for name, i in answer.endpoints.items()
        },
        "left_out": confirmation.left_out,
        "claim": claim,
        "limits": [*findings(scores, answer.endpoints), *ALWAYS_LIMITS],
    }


def findings(scores: dict[str, Estimate], endpoints: dict[str, Estimate]) -> list[str]:
    """What the baselines say about the claim, in words: each sentence appears only where the numbers make it true."""
    subset, found = scores["subset"], []
    for arm, meaning in (
        ("random_in_pool", "what works is the pool's composition; the order within it is not shown to add anything"),
        ("sft_on_chosen", "supervised training on the subset's chosen answers is not shown to do worse"),
        ("full_clean", "removing inverted pairs from all pairs is not shown to do worse"),
        ("random", "random pairs of the same number are not shown to do worse"),
    ):
        if arm in scores and scores[arm].high >= subset.low:
            found.append(f"{arm.replace('_', ' ')} scores {scores[arm].mean:.3f} against {subset.mean:.3f}: {meaning}.")
    if (degeneration := endpoints.get("no_degeneration")) and degeneration.high < 0:
        found.append(
            f"The subset's answers are more often empty or repeating, by {-degeneration.mean:.1%}; within the margin."
        )
    return found


def _interval(interval: Estimate) -> dict[str, float]:
    # Rounded, so that the last bit of a sum does not make two equal studies differ.
    return {name: round(float(getattr(interval, name)), 6) for name in ("mean", "low", "high")}
