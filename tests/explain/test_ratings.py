"""Bradley–Terry tables, rules and pooled models of groups equal hand-worked values; what is not defined is said so."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from smidgen.errors import UsageError
from smidgen.explain.preferences import by_strength, fit, mixture, why_no_fit
from smidgen.explain.ratings import ratings
from smidgen.explain.rules import best_mixture, weights_with

SHEET = ((1.0, 1.0, 2.0), (2.0, 1.0, 2.0), (3.0, 1.0, 0.0), (0.0, 2.0, 3.0))
STRENGTH = [(0.5, 0.3333, 0.3333), (0.6667, 0.5, 0.3333), (0.75, 1, 1), (0, 0, 0.4)]
EXPONENTIAL = [(0.5, 0.2689, 0.2689), (0.7311, 0.5, 0.2689), (0.8808, 0.9526, 0.7311), (0.1192, 0.0474, 0.2689)]


def test_the_sheet_by_both_conventions() -> None:
    groups = ratings(groups=SHEET).data["groups"]
    for group, strengths, logits in zip(groups, STRENGTH, EXPONENTIAL, strict=True):
        for convention, expected in (("strength", strengths), ("exponential", logits)):
            found = [group[convention][pair] for pair in ("y1>y2", "y1>y3", "y2>y3")]
            assert [round(value, 4) for value in found] == list(expected)
    assert groups[2]["strength"]["y1>y3"] == 1.0  # exactly
    assert groups[3]["strength"]["y1>y2"] == 0.0


def test_the_sheet_by_every_rule() -> None:
    found = ratings(groups=SHEET).data
    assert [group["favourites"] for group in found["groups"]] == [["y3"], ["y1", "y3"], ["y1"], ["y3"]]
    assert found["rules"]["MaxMin"]["values"] == {"y1": 0, "y2": 1, "y3": 0}
    assert found["rules"]["MaxMin"]["picks"] == ["y2"]
    assert found["rules"]["mean"]["values"] == {"y1": 1.5, "y2": 1.25, "y3": 1.75}
    assert found["rules"]["mean"]["picks"] == ["y3"]


def test_groups_without_a_finite_fit_are_named() -> None:
    found = ratings(groups=SHEET)
    problems = [group["no_finite_fit"] for group in found.data["groups"]]
    assert problems == [None, None, "y1 and y2 never lose to y3", "y2 and y3 never lose to y1"]
    text = " ".join(found.conclusion)
    assert "no finite Bradley–Terry model fits group 3" in text
    assert "One does fit the mixture" in text


def test_the_pooled_model_wins_as_often_as_the_groups_do() -> None:
    wins, n = mixture(by_strength(np.array(SHEET)), np.full(4, 0.25))
    expected = n * expit(np.subtract.outer(*[fit(wins)] * 2))
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(expected.sum(1), wins.sum(1), atol=1e-9)


@settings(max_examples=30)
@given(st.lists(st.floats(-3, 3), min_size=2, max_size=5))
def test_a_fit_to_probabilities_of_one_group_gives_its_strengths_back(logits: list[float]) -> None:
    values = np.array(logits)
    wins, _ = mixture(by_strength(np.exp(values)[None]), np.ones(1))
    np.testing.assert_allclose(fit(wins), values - values.mean(), atol=1e-6)


def test_when_no_finite_model_fits() -> None:
    names = ("a", "b", "c")
    always = np.array([[0, 1, 1], [0, 0, 0.5], [0, 0.5, 0]])
    assert why_no_fit(always, names) == "a never loses to b or c"
    apart = np.array([[0, 0.5, 0], [0.5, 0, 0], [0, 0, 0]])
    assert why_no_fit(apart, names) == "a and b and c are never compared"
    cycle = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    assert why_no_fit(cycle, names) == ""
    np.testing.assert_allclose(fit(cycle), 0, atol=1e-9)


def test_zero_against_zero_is_undefined_and_counts_nowhere() -> None:
    found = ratings(groups=((0.0, 0.0, 1.0), (1.0, 3.0, 1.0)))
    assert found.data["groups"][0]["strength"]["y1>y2"] is None
    mixed = next(table for table in found.tables if "strength" in table.title).rows[-1]
    assert mixed[1] == pytest.approx(0.25)  # the second group's alone
    assert "0 against 0 is undefined: y1 against y2 in group 1" in " ".join(found.conclusion)


def test_a_pooled_model_without_a_finite_fit_is_said_so() -> None:
    found = ratings(groups=((1.0, 0.0), (2.0, 0.0)))
    pooled = found.data["rules"]["pooled Bradley–Terry, strength"]
    assert pooled == {"values": None, "picks": [], "no_finite_fit": "y1 never loses to y2"}
    assert found.data["rules"]["pooled Bradley–Terry, exponential"]["picks"] == ["y1"]
    text = " ".join(found.conclusion)
    assert "by strengths it has no finite fit (y1 never loses to y2). By logits it picks y1" in text
    assert "Nor does one fit the mixture" in text


def test_logits_too_far_apart_are_said_so() -> None:
    found = ratings(groups=((10.0, 1000.0), (10.0, 900.0)))
    assert "By logits it has no finite fit (y2 never loses to y1, as far as double" in " ".join(found.conclusion)


def test_the_winner_changes_where_it_says() -> None:
    """With equally many comparisons of all answers, the pooled order is that of expected wins, which are linear."""
    found = ratings(groups=SHEET).data["pooled_winner_by_share"]
    (third,) = (f for f in found if f["group"] == "group 3" and f["convention"] == "strength")
    assert [s["winners"] for s in third["stretches"]] == [["y3"], ["y2"], ["y1"]]
    for before, after in zip(third["stretches"], third["stretches"][1:], strict=False):
        assert before["high"] == pytest.approx(after["low"], abs=1e-6)
        weights = weights_with(np.full(4, 0.25), 2, before["high"])
        wins, _ = mixture(by_strength(np.array(SHEET)), weights)
        a, b = (int(s["winners"][0][1]) - 1 for s in (before, after))
        assert wins.sum(1)[a] == pytest.approx(wins.sum(1)[b], abs=1e-7)


def test_the_most_wins_are_the_greatest_strength_where_all_are_compared_equally_often() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        wins, _ = mixture(by_strength(generator.uniform(0.1, 5, (3, 5))), np.full(3, 1 / 3))
        assert (np.argsort(wins.sum(1)) == np.argsort(fit(wins))).all()


def test_two_groups_that_disagree_split_at_a_half() -> None:
    found = ratings(groups=((3.0, 1.0), (1.0, 3.0)), weights=(10, 1))
    assert found.data["groups"][0]["share"] == pytest.approx(10 / 11)
    assert found.data["rules"]["mean"]["picks"] == ["y1"]
    assert found.data["rules"]["MaxMin"]["picks"] == ["y1", "y2"]
    for turn in found.data["pooled_winner_by_share"]:
        assert turn["stretches"][0]["high"] == pytest.approx(0.5, abs=1e-6)


def test_mixing_beats_every_single_answer_where_it_says() -> None:
    found = ratings(groups=SHEET)
    shares, least = best_mixture(np.array(SHEET))
    assert least == pytest.approx(1.5)
    assert (np.array(SHEET) @ shares).min() == pytest.approx(1.5)
    assert "every group gets at least 1.5 on average" in " ".join(found.conclusion)
    assert "may mix" not in " ".join(ratings(groups=((1.0, 3.0), (2.0, 3.0))).conclusion)


def test_the_conclusion_turns_with_the_numbers() -> None:
    apart = " ".join(ratings(groups=SHEET).conclusion)
    assert "MaxMin picks y2: no group rates it below 1. The mean picks y3, with 1.75 against 1.25" in apart
    assert "by strengths it picks y2" in apart
    agreed = " ".join(ratings(groups=((1.0, 3.0), (2.0, 5.0))).conclusion)
    assert "MaxMin and the mean agree on y2: no group rates it below 3; the mean is 4" in agreed
    assert "No group’s share alone" in agreed
    weighted = " ".join(ratings(groups=SHEET, weights=(1, 1, 8, 1)).conclusion)
    assert "The mean picks y1" in weighted
    alone = " ".join(ratings(groups=((1.0, 2.0),)).conclusion)
    assert "With one group" in alone
    assert "pooled" not in alone
    alike = " ".join(ratings(groups=((1.0, 1.0), (2.0, 2.0))).conclusion)
    assert "Both conventions give the same probabilities" in alike


def test_names_are_used_throughout() -> None:
    found = ratings(groups=SHEET[:2], answers=("tea", "rum", "milk"), names=("young", "old"))
    text = " ".join(found.conclusion) + repr(found.tables)
    assert "milk" in text
    assert "young" in text
    assert "y1" not in text
    assert "group 1" not in text


def test_large_ratings_do_not_overflow() -> None:
    found = ratings(groups=((1e308, 1e308),)).data["groups"][0]
    assert found["strength"]["y1>y2"] == 0.5
    assert found["exponential"]["y1>y2"] == 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": ()}, "at least one group, got none"),
        ({"groups": ((1.0, 2.0), (1.0,))}, "same two or more answers, got 2 and 1 ratings"),
        ({"groups": ((1.0,),)}, "two or more answers"),
        ({"groups": ((1.0, -2.0),)}, "at least 0, got -2 in group 1; shift"),
        ({"groups": ((1.0, math.nan),)}, "at least 0, got nan"),
        ({"groups": ((1.0, math.inf),)}, "at least 0, got inf"),
        ({"answers": ("a",)}, "expected 3 names of answers, all different, got a"),
        ({"names": ("a", "a", "b", "c")}, "expected 4 names of groups, all different"),
        ({"weights": (1.0, 1.0, 0.0, 1.0)}, "4 weights above 0"),
        ({"weights": (1.0,)}, "4 weights above 0, one a group, got 1"),
    ],
)
def test_what_are_no_ratings(changes: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ratings(**({"groups": SHEET} | changes))


def test_whether_the_pooled_model_picks_what_most_people_like_best() -> None:
    against = " ".join(ratings(groups=((2.0, 1.0), (0.1, 3.0)), weights=(60, 40)).conclusion)
    assert "By strengths, the pooled model picks y2; the favourite of 60 % of the people is y1, but how" in against
    with_them = " ".join(ratings(groups=((2.0, 1.0), (0.1, 3.0)), weights=(40, 60)).conclusion)
    assert "the pooled model picks y2; it is the favourite of 60 % of the people. Its winner changes" in with_them
    nobody = " ".join(ratings(groups=((3.0, 1.0), (1.0, 3.0))).conclusion)
    assert "picks y1 and y2 alike; no answer alone is the favourite of more than half of the people" in nobody


def test_a_pick_that_two_rules_share_is_no_disagreement() -> None:
    text = " ".join(ratings(groups=((1.0, 2.0), (3.0, 2.0))).conclusion)
    assert (
        "MaxMin picks y2: no group rates it below 2. The mean picks y1 and y2 alike, with 2: y2 is best by both."
        in text
    )
    other = " ".join(ratings(groups=((3.0, 1.0), (1.0, 3.0)), weights=(10, 1)).conclusion)
    assert "MaxMin picks y1 and y2 alike" in other and "The mean picks y1, with 2.8182: y1 is best by both." in other
