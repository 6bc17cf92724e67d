"""Swaps keep size and composition, and rounds go on only from what a trial has shown to gain."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen.study.decide import Finalist
from smidgen.study.plan import Candidate
from smidgen.study.swap import Pairs, swap_pairs, swap_rounds

KINDS = {idx: "ab"[idx % 2] for idx in range(40)}


@given(
    gradients=st.fixed_dictionaries({idx: st.floats(-1, 1) for idx in range(40)}),
    subset=st.lists(st.integers(0, 39), min_size=1, max_size=30, unique=True),
    most=st.integers(0, 12),
)
def test_a_swap_keeps_size_composition_and_places_and_never_promises_a_loss(
    gradients: dict[int, float], subset: list[int], most: int
) -> None:
    swapped = swap_pairs(tuple(subset), gradients, KINDS, most=most)
    assert len(set(swapped)) == len(subset)
    assert sum(KINDS[i] == "a" for i in swapped) == sum(KINDS[i] == "a" for i in subset)
    moved = [(old, new) for old, new in zip(subset, swapped, strict=True) if old != new]
    assert len(moved) <= most
    assert all(KINDS[old] == KINDS[new] and new not in subset for old, new in moved)
    assert all(gradients[new] > gradients[old] for old, new in moved)


def test_the_most_promising_swaps_come_first() -> None:
    gradients = {1: 0.0, 3: -1.0, 5: 0.9, 7: 0.5, 2: 0.0, 4: 5.0}
    assert swap_pairs((1, 3, 2), gradients, KINDS, most=1) == (1, 3, 4)
    assert swap_pairs((1, 3, 2), gradients, KINDS, most=2) == (1, 5, 4)
    assert swap_pairs((1, 3, 2), gradients, KINDS, most=9) == (7, 5, 4)


def test_a_subset_of_the_best_pairs_stays() -> None:
    assert swap_pairs((5, 7), {5: 1.0, 7: 0.9, 9: 0.8}, KINDS, most=2) == (5, 7)


def rounds(gains: Sequence[dict[int, float]], *, share: float = 0.4) -> tuple[Candidate, list[tuple[int, ...]]]:
    """Ten pairs; in round i, k swaps lead to a score of gains[i][k]."""
    asked: list[tuple[int, ...]] = []
    scores: dict[Pairs, float] = {}

    def propose(pairs: Pairs, number: int, sizes: Sequence[int]) -> list[Pairs]:
        asked.append(tuple(sizes))
        found = []
        for most in sizes:
            swapped = (*pairs[most:], *(1000 * (number + 1) + i for i in range(most)))
            scores[swapped] = gains[number][most]
            found.append(swapped)
        return found

    def trial(subsets: Sequence[Pairs]) -> list[Finalist]:
        return [Finalist(Candidate("x", pairs), scores[pairs], sound=True) for pairs in subsets]

    start = Finalist(Candidate("x", tuple(range(10))), 0.5, sound=True)
    return swap_rounds(start, propose, trial, rounds=len(gains), share=share), asked


def test_rounds_go_on_from_the_better_of_two_gains() -> None:
    found, asked = rounds([{2: 0.6, 4: 0.7}, {2: 0.8, 4: 0.75}])
    assert asked == [(2, 4), (2, 4)]
    assert found.idxs == (6, 7, 8, 9, 1000, 1001, 1002, 1003, 2000, 2001)


def test_after_a_round_without_gain_fewer_are_swapped_and_then_none() -> None:
    found, asked = rounds([{2: 0.5, 4: 0.1}, {1: 0.4}, {1: 0.9}])
    assert asked == [(2, 4), (1,)]
    assert found.idxs == tuple(range(10))


def test_no_rounds_change_nothing() -> None:
    assert rounds([])[0].idxs == tuple(range(10))


@pytest.mark.parametrize("score", [0.5, 0.49])
def test_an_equal_score_is_no_gain(score: float) -> None:
    assert rounds([{2: score, 4: score}])[0].idxs == tuple(range(10))
