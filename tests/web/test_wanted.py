"""What a reader wants is what the address says: written and read back it is the same, whatever the address holds."""

from __future__ import annotations

from urllib.parse import parse_qsl

from hypothesis import given
from hypothesis import strategies as st

from smidgen.web.wanted import Wanted, query_of, read_wanted

LABELS, FEATURES = ["status", "kind <b>"], ["n", "a&b", "é"]
NUMBERS = st.none() | st.floats(-1e9, 1e9, allow_nan=False).map(lambda value: float(f"{value:.12g}"))
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20).map(str.strip)
WANTED = st.builds(
    Wanted,
    text=TEXTS,
    labels=st.dictionaries(st.sampled_from(LABELS), TEXTS.filter(bool)),
    why=TEXTS,
    ranges=st.dictionaries(
        st.sampled_from(FEATURES), st.tuples(NUMBERS, NUMBERS).filter(lambda ends: ends != (None, None))
    ),
    among=st.sampled_from(["", "f0cd00fd2331e836"]),
    sort=st.sampled_from(["idx", *FEATURES]),
    down=st.booleans(),
    page=st.integers(1, 10**6),
    shown=st.lists(st.sampled_from(FEATURES), unique=True).map(tuple),
    pair=st.none() | st.sampled_from(["first", "last"]) | st.integers(0, 10**9),
)


@given(WANTED)
def test_the_address_holds_everything(wanted):
    again = read_wanted(parse_qsl(query_of(wanted)), labels=LABELS, features=FEATURES)
    assert again == wanted


@given(st.lists(st.tuples(st.sampled_from(["q", "sort", "page", "pair", "from.n", "to.n", "is.status", "show", "x"]),
                          st.text(max_size=12))))  # fmt: skip
def test_any_address_can_be_read(parameters):
    wanted = read_wanted(parameters, labels=LABELS, features=FEATURES)
    assert wanted.page >= 1 and wanted.sort in ("idx", *FEATURES) and set(wanted.shown) <= set(FEATURES)


def test_a_plain_address_is_short():
    assert query_of(Wanted()) == "" and query_of(Wanted(sort="n", down=True)) == "sort=-n"


def test_choosing_a_column_twice_turns_the_order_round():
    once = Wanted(page=7, pair=3).sorted_by("n")
    assert (once.sort, once.down, once.page, once.pair) == ("n", True, 1, None)
    assert not once.sorted_by("n").down and Wanted(sort="n", down=True).sorted_by("idx") == Wanted()
