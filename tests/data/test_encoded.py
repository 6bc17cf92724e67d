"""A table of encoded pairs is the list of them, in a fraction of the memory."""

from __future__ import annotations

import pickle
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen.data.encoded import EncodedPair, EncodedTable

ids = st.lists(st.integers(0, 2**31 - 1), max_size=5).map(tuple)
number = st.none() | st.floats(allow_nan=False, allow_infinity=False)
pairs = st.builds(
    EncodedPair,
    st.integers(0, 2**63 - 1),
    ids,
    ids,
    ids,
    chosen_score=number,
    rejected_score=number,
    weight=number,
    group=st.none() | st.integers(0, 100),
)


@given(given=st.lists(pairs, max_size=5), at=st.slices(5))
def test_a_table_is_the_list_of_its_pairs(given: list[EncodedPair], at: slice) -> None:
    table = EncodedTable(iter(given))
    assert list(table) == given
    assert table == given
    assert table == EncodedTable(given)
    assert table != [*given, None]
    assert len(table) == len(given)
    assert table.idxs == [pair.idx for pair in given]
    assert table[at] == given[at]
    assert [table[i] for i in range(-len(given), len(given))] == [*given, *given]
    assert pickle.loads(pickle.dumps(table)) == table
    for outside in (len(given), -len(given) - 1):
        with pytest.raises(IndexError):
            table[outside]


def long_pairs(n: int) -> list[EncodedPair]:
    return [EncodedPair(i, (1000,) * 50, (2000,) * 100, (3000,) * 100, chosen_score=0.5) for i in range(n)]


def test_a_token_takes_four_bytes() -> None:
    given = iter(long_pairs(1000))
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    table = EncodedTable(given)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 4 * 250 * len(table) < after - before < 5 * 250 * len(table)


def test_who_keeps_pairs_keeps_one_object_an_id() -> None:
    kept = list(EncodedTable(long_pairs(3)))
    assert {id(number) for pair in kept for number in pair.prompt} == {id(kept[0].prompt[0])}
