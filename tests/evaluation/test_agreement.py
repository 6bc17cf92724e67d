from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from smidgen.evaluation.agreement import krippendorff

# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C: four observers, missing values.
_PUBLISHED = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815)])
def test_alpha_is_krippendorffs_own_example(level: Literal["nominal", "ordinal"], alpha: float) -> None:
    found = krippendorff([dict(enumerate(row)) for row in _PUBLISHED], level=level)

    assert found is not None
    assert found.alpha == pytest.approx(alpha, abs=5e-4)
    assert (found.n_items, found.n_raters) == (11, 4)
    assert found.low is not None and found.high is not None and found.low < found.alpha < found.high


def test_no_overlap_one_rater_or_one_value_has_no_alpha() -> None:
    assert krippendorff([]) is None
    assert krippendorff([{"a": 1.0}]) is None
    assert krippendorff([{"a": 1.0}, {"b": 0.0}]) is None
    assert krippendorff([{"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 1.0}]) is None
    assert krippendorff([{"a": 1.0}, {"a": None}]) is None


def test_reversing_every_verdict_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    raters = [{(i, "A"): float(v) for i, v in enumerate(rng.choice([0, 0.5, 1], 40))} for _ in range(3)]
    mirrored = [{item: 1.0 - value for item, value in mine.items()} for mine in raters]
    assert krippendorff(raters) == krippendorff(mirrored)
    assert krippendorff(raters, level="ordinal") == krippendorff(mirrored, level="ordinal")


def test_complete_agreement_on_few_items_is_no_certainty() -> None:
    mine = {i: float(i % 2) for i in range(4)}
    found = krippendorff([mine, mine])

    assert found is not None and found.low is not None
    assert found.alpha == found.high == found.observed == 1.0
    assert found.low < 0.5


def _raters(rng: np.random.Generator, n_prompts: int, letters: int) -> list[dict[tuple[int, int], float]]:
    """Two raters who, per prompt, either both follow the truth or both guess: letters of a prompt hang together."""
    first, second = {}, {}
    for prompt in range(n_prompts):
        clear = rng.random() < 0.6
        for k in range(letters):
            truth = float(rng.random() < 0.5)
            first[prompt, k] = truth if clear else float(rng.random() < 0.5)
            second[prompt, k] = truth if clear else float(rng.random() < 0.5)
    return [first, second]


def test_intervals_hold_the_truth_as_often_as_they_say_although_letters_hang_together() -> None:
    rng = np.random.default_rng(1)
    # Equal with .6 + .4 / 2 = .8, by chance .5: alpha is .6 in the long run.
    clustered = naive = 0
    for _ in range(80):
        raters = _raters(rng, 16, 3)
        found = krippendorff(raters, cluster_of=lambda item: item[0])
        apart = krippendorff(raters)
        assert found and apart and found.low is not None and apart.low is not None
        clustered += found.low <= 0.6 <= (found.high or 0)
        naive += apart.low <= 0.6 <= (apart.high or 0)
    assert clustered / 80 >= 0.92
    assert naive <= clustered
