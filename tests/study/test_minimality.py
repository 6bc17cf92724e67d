"""Delta debugging of subsets: what it drops, what it never drops, and what it says."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from smidgen.study.minimality import Pairs, Reduction, Round, delta_debug, minimality


def needing(*needed: int):
    """A score of 1 where all needed pairs are there, else less; and a list of every subset asked for."""
    asked: list[Pairs] = []

    def score(subsets: Sequence[Pairs]) -> list[float]:
        asked.extend(subsets)
        return [1.0 - 0.1 * len(set(needed) - set(subset)) for subset in subsets]

    return score, asked


@given(n=st.integers(2, 40), needed=st.sets(st.integers(0, 39), max_size=8), groups=st.integers(2, 5))
def test_with_trials_enough_what_is_left_is_what_is_needed(n: int, needed: set[int], groups: int) -> None:
    """A score that only counts what is missing has one minimal subset, which ddmin reaches; a pair always stays."""
    needed = {idx for idx in needed if idx < n}
    score, asked = needing(*needed)
    found = delta_debug(tuple(range(n)), score, whole=1.0, groups=groups, most_trials=10_000)
    left = found.shrunk[-1] if found.shrunk else tuple(range(n))
    assert needed <= set(left)
    assert len(left) == max(1, len(needed))
    assert found.trials == len(asked)


@given(most=st.integers(0, 30), groups=st.integers(2, 6))
def test_never_more_trials_than_allowed(most: int, groups: int) -> None:
    score, asked = needing(3, 17)
    found = delta_debug(tuple(range(60)), score, whole=1.0, groups=groups, most_trials=most)
    assert len(asked) == found.trials <= most
    assert len(found.rounds) == 0 or found.trials >= groups


def test_groups_are_fair_shares_of_the_ranking_and_halved_where_none_can_go() -> None:
    score, asked = needing(*range(8))
    found = delta_debug(tuple(range(8)), score, whole=1.0, groups=2, most_trials=6)
    assert asked[:2] == [(1, 3, 5, 7), (0, 2, 4, 6)]
    assert [len(round.losses) for round in found.rounds] == [2, 4]
    assert found.shrunk == ()


def test_small_losses_do_not_add_up() -> None:
    """Each further drop is held against the whole, not against what is left already."""
    found = delta_debug(
        tuple(range(16)), lambda subsets: [len(s) / 16 for s in subsets], whole=0.75, groups=4, most_trials=99
    )
    assert min(len(pairs) for pairs in found.shrunk) == 12


def test_the_statement_names_what_was_tried() -> None:
    reduction = Reduction((Round((1, 2, 3, 4), (0.2, 0.1)),), (), 2)
    found = minimality(reduction, (1, 2, 3, 4))
    assert (found["groups"], found["tested"], found["droppable"], found["is_claimed"]) == (2, 2, 0, True)
    assert "no group of 2 pairs could be dropped from the claimed subset without losing 0.100" in str(
        found["statement"]
    )
    other = minimality(reduction, (9,))
    assert "not the claimed subset" in str(other["statement"])
    could = minimality(Reduction((Round((1, 2), (-0.1, 0.3)),), ((2,),), 2), (1, 2))
    assert "1 of 2 groups of about 1 pairs could" in str(could["statement"])
    assert minimality(Reduction(), (1,))["tested"] == 0
