"""Ratings: worked by hand, against a peer's fit, the same for any order, honest where no finite fit exists."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from smidgen.evaluation.ratings import Leaderboard, leaderboard
from smidgen.evaluation.verdicts import Verdict


def verdict(number: int, model_a: str, model_b: str, outcome: float | None) -> Verdict:
    return Verdict(judge="j", number=number, letter="A", model_a=model_a, model_b=model_b, outcome=outcome)


def rated(verdicts: list[Verdict], **settings: int) -> Leaderboard:
    found = leaderboard(verdicts, **settings)  # pyright: ignore[reportArgumentType]
    assert found is not None
    return found


def test_two_models_by_hand() -> None:
    # Three wins, one loss and two ties are 4 to 2: odds of two to one, 120.4 Elo points apart.
    found = rated([verdict(i, "a", "b", outcome) for i, outcome in enumerate([1, 1, 1, 0, 0.5, 0.5])])
    first, second = found.rows

    assert (first.model, second.model) == ("a", "b")
    assert first.rating is not None and second.rating is not None
    assert first.rating - second.rating == pytest.approx(400 * np.log10(2), abs=1e-4)
    assert first.rating + second.rating == pytest.approx(2000)
    assert first.win_rate.mean == pytest.approx(2 / 3)


def drawn(rng: np.random.Generator, strengths: dict[str, float], n_prompts: int) -> list[Verdict]:
    names = list(strengths)
    return [
        verdict(number, a, b, float(rng.random() < expit(strengths[a] - strengths[b])))
        for number in range(n_prompts)
        for i, a in enumerate(names)
        for b in names[i + 1 :]
    ]


def test_ratings_maximise_the_likelihood() -> None:
    import statsmodels.api as sm

    verdicts = drawn(np.random.default_rng(0), {"a": 0.0, "b": 0.8, "c": 1.5, "d": 0.3}, 60)
    rows = {row.model: row.rating for row in rated(verdicts, resamples=10).rows}
    design = np.array([[(v.model_a == m) - (v.model_b == m) for m in "bcd"] for v in verdicts], float)
    peer = sm.GLM([v.outcome for v in verdicts], design, family=sm.families.Binomial()).fit()
    for name, log_strength in zip("bcd", peer.params, strict=True):
        mine, base = rows[name], rows["a"]
        assert mine is not None and base is not None
        assert (mine - base) * np.log(10) / 400 == pytest.approx(float(log_strength), abs=1e-4)


def test_neither_the_order_of_verdicts_nor_of_models_matters() -> None:
    verdicts = drawn(np.random.default_rng(1), {"a": 0.0, "b": 0.8, "c": 0.4}, 12)
    swapped = [verdict(v.number, v.model_b, v.model_a, None if v.outcome is None else 1 - v.outcome) for v in verdicts]
    mine, theirs = rated(verdicts, resamples=60), rated(swapped[::-1], resamples=60)
    for one, other in zip(mine.rows, theirs.rows, strict=True):
        assert one.model == other.model
        assert (one.rating, one.low, one.high) == pytest.approx((other.rating, other.low, other.high), abs=1e-4)


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ([("a", "b", 1.0), ("b", "a", 1.0), ("c", "d", 0.5)], "nothing compares {a, b} with {c, d}"),
        ([("a", "b", 1.0), ("b", "c", 0.5), ("a", "c", 1.0)], "no finite fit exists"),
        ([("a", "b", 1.0)], "no finite fit exists"),
    ],
)
def test_tables_without_a_finite_fit_have_no_ratings(results: list[tuple[str, str, float]], said: str) -> None:
    found = rated([verdict(i, *result) for i, result in enumerate(results)])
    assert said in found.problem
    assert all(row.rating is row.low is row.high is None for row in found.rows)
    # What was counted stands there all the same, best first.
    assert (found.rows[0].model == "a" and found.rows[0].win_rate.mean > 0.5) or "nothing" in said


def test_a_fit_that_hangs_on_one_prompt_has_no_ends() -> None:
    found = rated([verdict(i, "a", "b", float(i > 0)) for i in range(6)], resamples=200)
    assert found.rows[0].rating is not None
    assert found.rows[0].high is None and found.share_unbounded > 0.1 and "no finite fit" in found.problem


def test_intervals_without_ends_say_why_however_rare_the_cause() -> None:
    """Few prompts widen the levels, so that fewer resamples without a fit than 2.5 % take the ends away."""
    rng, shares = np.random.default_rng(7), []
    for _ in range(40):
        found = rated(drawn(rng, {"a": 0.0, "b": 0.3, "c": 0.6}, 8), resamples=200)
        if found.rows[0].rating is None:
            continue
        endless = any(end is None for row in found.rows for end in (row.low, row.high))
        assert endless == bool(found.problem)
        shares += [found.share_unbounded] if endless else []
    assert min(shares) < 0.025


def test_verdicts_repeated_alike_change_no_rating() -> None:
    once = drawn(np.random.default_rng(8), {"a": 0.0, "b": 0.5, "c": 0.2}, 20)
    for one, many in zip(rated(once, resamples=50).rows, rated(once * 100, resamples=50).rows, strict=True):
        assert (one.model, 100 * one.n_verdicts) == (many.model, many.n_verdicts)
        assert (one.rating, one.low, one.high) == pytest.approx((many.rating, many.low, many.high), abs=1e-3)


def test_nothing_to_rate() -> None:
    assert leaderboard([]) is None
    assert leaderboard([verdict(1, "a", "b", None)]) is None
    one = rated([verdict(1, "a", "b", 0.5)])
    assert one.rows[0].rating == pytest.approx(1000) and one.rows[0].low is None and "single prompt" in one.problem


def test_intervals_hold_the_truth() -> None:
    rng, held = np.random.default_rng(5), 0
    for _ in range(30):
        rows = {r.model: r for r in rated(drawn(rng, {"a": -0.7, "b": 0.0, "c": 0.7}, 25), resamples=150).rows}
        truth = 1000 + 0.7 * 400 / np.log(10)
        low, high = rows["c"].low, rows["c"].high
        held += (low is None or low <= truth) and (high is None or truth <= high)
    assert held >= 26
