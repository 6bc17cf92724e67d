"""An answer traced back to its ranking: who came for whom, who was dropped where, what nearly made it."""

from __future__ import annotations

from smidgen.study.minimality import Reduction, Round
from smidgen.study.reasons import descent, descent_columns, runners_up

RANKED = (1, 2, 3, 4)
SWAPPED = (1, 9, 3, 8)


def of_ranking(idx: int) -> str:
    return f"ranking says {idx}"


def test_a_prefix_of_the_ranking_was_not_swapped() -> None:
    way = descent(RANKED, Reduction(), {SWAPPED: RANKED})
    assert way.replaced == {}
    assert descent_columns(way, {}) == {"came_by": ["ranking"] * 4, "replaced_idx": [None] * 4}
    assert way.why_kept(of_ranking)(3) == way.why_dropped(of_ranking)(3) == "ranking says 3"


def test_newcomers_name_whom_they_replaced_and_those_name_their_newcomers() -> None:
    way = descent(SWAPPED, Reduction(), {SWAPPED: RANKED})
    found = descent_columns(way, {1: 0.25, 9: 1 / 3, 3: -2e-9, 8: 0.0, 5: 7.0})
    assert found["came_by"] == ["ranking", "swap", "ranking", "swap"]
    assert found["replaced_idx"] == [None, 2, None, 4]
    assert found["metagradient"] == [0.25, 0.3333, -2e-9, 0.0]
    assert way.why_kept(of_ranking)(9) == "swapped in for pair 2 by metagradient on dev; ranking says 9"
    assert way.why_dropped(of_ranking)(4) == "ranked, then swapped out for pair 8 by metagradient on dev"
    assert way.why_dropped(of_ranking)(7) == "ranking says 7"


def test_an_answer_of_delta_debugging_goes_back_through_where_that_began() -> None:
    reduction = Reduction((Round(SWAPPED, (0.0, 0.1)),), ((3, 8), (8,)), 2)
    way = descent((3, 8), reduction, {SWAPPED: RANKED})
    assert way.replaced == {8: 4}
    assert way.why_dropped(of_ranking)(9).startswith("removed by delta debugging")
    assert way.why_dropped(of_ranking)(2) == "ranked, then swapped out for pair 9 by metagradient on dev"
    other = descent((3, 4), reduction, {SWAPPED: RANKED})
    assert other.replaced == {}, "not what delta debugging led to, so not traced through it"


def test_runners_up_are_the_best_left_out_of_each_kind_beside_the_worst_kept() -> None:
    kinds = {idx: "ab"[idx % 2] for idx in range(12)}
    gradients = {1: 0.5, 2: -1.0, 3: 0.1, 4: 9.0, 6: 3.0, 8: 3.0, 10: -5.0, 5: 0.2, 7: 0.4}
    found, columns = runners_up((1, 2, 3), gradients, kinds, most=2)
    assert found == (4, 6, 7, 5)
    assert columns["kind"] == ["a", "a", "b", "b"]
    assert columns["metagradient"] == [9.0, 3.0, 0.4, 0.2]
    assert columns["lowest_kept"] == [-1.0, -1.0, 0.1, 0.1]
    assert runners_up((1,), {1: 0.5}, kinds) == ((), {"kind": [], "metagradient": [], "lowest_kept": []})
