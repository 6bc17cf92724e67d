"""A claim is made exactly when every part of the protocol allows it."""

from typing import Any

import pytest

from smidgen.evaluation.statistics import Estimate
from smidgen.study.certificate import build_certificate, findings
from smidgen.study.confirm import Confirmation, SizeTest
from smidgen.study.plan import Candidate


def estimate(mean: float, bound: float) -> Estimate:
    return Estimate(mean, bound - 0.02, 2 * mean - bound + 0.02, bound, 0.01, 9.0)


def size_test(size: int, *failed: str) -> SizeTest:
    endpoints = {"harmless_answered": estimate(0, -0.02)}
    return SizeTest(Candidate("contrast", tuple(range(size))), [], estimate(-0.01, -0.05), endpoints, list(failed))


def certificate(tests: list[SizeTest], *, full: float = 0.2, subset: float = 0.15) -> dict[str, Any]:
    return build_certificate(
        Confirmation(tests=tests),
        {
            "base": estimate(0.05, 0.01),
            "full": estimate(0.4, 0.3),
            "subset": estimate(0.4, 0.35),
            "random": estimate(0.1, 0.05),
            "random_in_pool": estimate(0.38, 0.3),
        },
        {"full_minus_base": estimate(0.35, full), "subset_minus_base": estimate(0.34, subset)},
        delta=0.1,
        confidence=0.95,
        full_size=5000,
        n_prompts=(400, 400),
        n_seeds=5,
        context={"seeds": [1, 2, 3, 4, 5]},
        comparisons={"subset_minus_random_in_pool": estimate(0.02, -0.01)},
    )


def test_the_smallest_that_passed_is_claimed() -> None:
    found = certificate([size_test(500), size_test(250), size_test(120, "score")])
    assert found["non_inferior"] is True
    assert found["subset_size"] == 250
    assert found["claim"].startswith("250 of 5,000 pairs: smallest found; non-inferior to full data at δ = 0.1 with")
    assert "the smallest" not in found["claim"].lower().replace("smallest found", "")
    assert [step["passed"] for step in found["steps_tested"]] == [True, True, False]
    assert found["loss_statement"].startswith("At 95%")


def test_nothing_is_claimed_where_the_first_test_fails() -> None:
    found = certificate([size_test(500, "score", "harmless_answered")])
    assert found["non_inferior"] is False
    assert found["claim"].startswith("No subset was shown to be enough")
    assert "keep up in the refusal score and harmless prompts answered" in found["claim"]
    assert found["loss_statement"].startswith("Measured, not claimed: at 95%")


@pytest.mark.parametrize("levels", [{"full": 0.1}, {"subset": 0.0}])
def test_a_metric_that_cannot_tell_allows_no_claim(levels: dict[str, float]) -> None:
    """Full must be above base by more than delta, and the subset above base, each by its lower bound."""
    found = certificate([size_test(500)], **levels)
    assert found["non_inferior"] is False
    assert found["assay"]["passed"] is False
    assert found["claim"].startswith("The metric cannot tell here")
    assert found["loss_statement"].startswith("Measured, not claimed: at 95%")


def test_everything_other_programs_rely_on_is_there() -> None:
    found = certificate([size_test(500)])
    assert {
        "subset_size",
        "full_size",
        "delta",
        "confidence",
        "non_inferior",
        "n_harmful_prompts",
        "n_harmless_prompts",
        "n_seeds",
        "scores",
        "claim",
    } <= found.keys()
    assert found["scores"]["full"].keys() == {"mean", "low", "high"}


def test_a_baseline_is_named_exactly_where_the_subset_is_not_shown_to_beat_it() -> None:
    """By the interval of the difference, paired by prompt; whether two intervals overlap says less."""
    scores = {"subset": estimate(0.4, 0.35), "random_in_pool": estimate(0.38, 0.3), "random": estimate(0.3, 0.2)}
    comparisons = {
        "subset_minus_random_in_pool": estimate(0.02, -0.01),
        "subset_minus_random": estimate(0.1, 0.05),
        "best_minus_full": estimate(0.0, -0.1),
    }
    (found,) = findings(scores, comparisons, {})
    assert found.startswith("random in pool scores 0.380 against 0.400: what works is the pool's composition")
    assert findings(scores, {}, {}) == []
    assert found in certificate([size_test(500)])["limits"]
