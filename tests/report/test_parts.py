"""What the report's parts compute: shares, samples of completions, verdicts."""

from __future__ import annotations

import numpy as np
import pytest

from smidgen.report.artefacts import Answer, KeptPair, read_run
from smidgen.report.contents import distributions, kind_rows, typical_words
from smidgen.report.samples import sample
from smidgen.report.verdict import number, verdict


def test_kinds_and_histograms_count_every_pair_once(make_run):
    run = read_run(make_run())
    assert run.features is not None
    rows = kind_rows(run.features, run.kept)
    assert sum(row.n_full for row in rows) == 2000 and sum(row.n_subset for row in rows) == 62
    for found in distributions(run.features, run.kept):
        assert found.subset_shares.sum() == pytest.approx(1) and found.full_shares.sum() == pytest.approx(1)


def test_histogram_of_everything_is_that_of_the_full_data(make_run):
    run = read_run(make_run(n_kept=2000))
    assert run.features is not None
    for found in distributions(run.features, run.kept):
        np.testing.assert_allclose(found.subset_shares, found.full_shares)
        assert found.subset_median == found.full_median


def test_typical_words_are_those_of_one_kind():
    def pair(idx: int, prompt: str, kind: str) -> KeptPair:
        return KeptPair(idx, prompt, "", "", {"kind": kind})

    kept = [pair(i, f"how to pick a lock {i}", "refusal") for i in range(10)]
    kept += [pair(10 + i, f"how to bake good bread {i}", "answering") for i in range(10)]
    found = {group.kind: dict(group.words) for group in typical_words(kept)}
    assert found["refusal"] == {"pick": 10, "a": 10, "lock": 10}
    assert found["answering"] == {"bake": 10, "good": 10, "bread": 10}


def answers(refused: set[int], n: int = 50) -> tuple[Answer, ...]:
    return tuple(Answer(True, i, f"prompt {i}", f"answer {i}", i in refused) for i in range(n))


def test_sample_shows_disagreements_first_and_counts_all():
    found = sample({"base": answers(set()), "subset": answers({1, 2, 3}), "full": answers({3, 4})}, harmful=True)
    assert [row.differ for row in found.shown] == [True] * 3 + [False] * 9
    assert (found.n_prompts, found.n_differ, found.n_refused) == (50, 3, {"base": 0, "subset": 3, "full": 2})


def test_disagreements_take_at_most_half_unless_there_is_nothing_else():
    many = {"subset": answers(set(range(40))), "full": answers(set())}
    assert sum(row.differ for row in sample(many, harmful=True).shown) == 6
    only = {"subset": answers(set(range(50))), "full": answers(set())}
    assert sum(row.differ for row in sample(only, harmful=True).shown) == 12


def test_sample_does_not_depend_on_the_order_of_rows():
    arms = {"base": answers(set()), "subset": answers({1, 20}), "full": answers({3})}
    turned = {arm: rows[::-1] for arm, rows in arms.items()}
    assert sample(arms, harmful=True) == sample(turned, harmful=True)


def test_sample_without_a_class_or_an_arm():
    assert sample({"subset": answers(set())}, harmful=False).shown == ()
    only_base = sample({"base": answers({1})}, harmful=True)
    assert len(only_base.shown) == 12 and not any(row.differ for row in only_base.shown)


@pytest.mark.parametrize(("outcome", "status"), [("pass", "pass"), ("fail", "fail"), ("blind", "cannot tell")])
def test_verdict(make_run, outcome, status):
    assert verdict(read_run(make_run(outcome=outcome)).certificate).status == status


def test_a_second_endpoint_that_fails_is_named(make_run):
    step = {"budget": 250, "difference": {"mean": 0.0, "low": -0.1, "high": 0.1}, "lower_bound": -0.08, "passed": False}
    endpoint = {"no_degeneration": {"mean": -0.2, "low": -0.3, "high": -0.1, "passed": False}}
    changes = {"steps_tested": [step | {"failed": ["no_degeneration"]}], "second_endpoint": endpoint}
    reasons = verdict(read_run(make_run(outcome="fail", **changes)).certificate).reasons
    assert reasons[0] == "250 pairs were not shown to keep up in answers neither empty nor repeating."


@pytest.mark.parametrize(("value", "text"), [(-0.0471, "−0.047"), (0.5, "0.500"), (-0.0001, "0.000"), (1.0, "1.000")])
def test_number(value, text):
    assert number(value) == text
