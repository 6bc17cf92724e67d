"""The catalogue finds what a plain loop over all pairs finds, in the same order, and quickly."""

from __future__ import annotations

import random
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen.web.catalogue import PAGE, Catalogue, Listed
from smidgen.web.wanted import Wanted

WORDS = ("tea", "Tee", "green", "naïve", "don't", "x1", "日本語の文です", "50%", "a_b")
rng = random.Random(4)
PAIRS = [
    Listed(
        idx=idx,
        prompt=" ".join(rng.choices(WORDS, k=4)),
        chosen=" ".join(rng.choices(WORDS, k=6)) if idx % 50 else "",
        rejected="no",
        labels={"status": rng.choice(["kept", "left out"]), "kind": rng.choice("abc")},
        reason=f"ranked {idx} of 300",
        features={"n": float(rng.randrange(9)), "m": rng.gauss(0, 1)} if idx % 7 else {},
    )
    for idx in rng.sample(range(10_000), 300)
]
CATALOGUE = Catalogue(PAIRS)


def naive(wanted: Wanted) -> list[int]:
    """By a loop, for conditions on labels and ranges."""
    found = [p for p in PAIRS if all(p.labels.get(name) == value for name, value in wanted.labels.items())]
    for name, (low, high) in wanted.ranges.items():
        found = [
            p
            for p in found
            if name in p.features and (low is None or p.features[name] >= low)
            and (high is None or p.features[name] <= high)
        ]  # fmt: skip

    def place(p: Listed):
        value = float(p.idx) if wanted.sort == "idx" else p.features.get(wanted.sort)
        return (value is None, 0.0 if value is None else -value if wanted.down else value, p.idx)

    return [p.idx for p in sorted(found, key=place)]


def everything(wanted: Wanted, catalogue: Catalogue = CATALOGUE) -> list[int]:
    pages = catalogue.find(wanted).n_pages
    return [row.idx for page in range(1, pages + 1) for row in catalogue.find(replace(wanted, page=page)).rows]


ENDS = st.none() | st.floats(-3, 9)


@given(
    st.builds(
        Wanted,
        labels=st.dictionaries(st.sampled_from(["status", "kind"]), st.sampled_from(["kept", "a", "nothing"])),
        ranges=st.dictionaries(
            st.sampled_from(["n", "m"]), st.tuples(ENDS, ENDS).filter(lambda ends: ends != (None, None))
        ),
        sort=st.sampled_from(["idx", "n", "m"]),
        down=st.booleans(),
    )
)
def test_filters_orders_and_pages_as_a_loop_does(wanted):
    assert everything(wanted) == naive(wanted)


@pytest.mark.parametrize("word", ["tea", "TEA", "naive", "naïve", "x1", "日本語", "本語の"])
def test_a_word_is_found_whatever_its_case_its_accents_and_without_spaces(word):
    def plain(text: str) -> str:
        return text.lower().replace("ï", "i")

    wanted = {p.idx for p in PAIRS if plain(word) in plain(f"{p.prompt} {p.chosen}")}
    assert set(everything(Wanted(text=word))) == wanted != set()


def test_words_are_all_needed_and_quotes_keep_them_together():
    both = {p.idx for p in PAIRS if {"tea", "green"} <= set(f"{p.prompt} {p.chosen}".lower().split())}
    assert set(everything(Wanted(text="green tea"))) == both
    together = set(everything(Wanted(text='"green tea"')))
    assert together == {p.idx for p in PAIRS if any("green tea" in t.lower() for t in (p.prompt or "", p.chosen or ""))}
    assert together < both


@given(st.text(max_size=30))
def test_any_text_can_be_searched_for(text):
    assert CATALOGUE.find(Wanted(text=text)).n <= len(PAIRS)


def test_a_pair_comes_back_whole():
    for pair in PAIRS[:20]:
        assert CATALOGUE.pair(pair.idx) == pair
    assert CATALOGUE.pair(10**17) is None


def test_a_page_beyond_the_last_is_the_last():
    assert CATALOGUE.find(Wanted(page=10**6)).page == -(-300 // PAGE)
    assert CATALOGUE.find(Wanted(labels={"kind": "nothing"})).n_pages == 1


def test_pairs_a_trial_was_trained_on():
    idxs = [pair.idx for pair in PAIRS[:9]]
    assert [row.idx for row in CATALOGUE.find(Wanted(among="x"), [*idxs, 10**9]).rows] == sorted(idxs)
    assert CATALOGUE.find(Wanted(), None).n == 300


def test_labels_that_divide_nothing_are_not_offered():
    same = [replace(pair, labels={"source": "one"}) for pair in PAIRS]
    assert Catalogue(same).labels == {} and Catalogue([]).find(Wanted()).n == 0


def test_a_feature_counts_every_value_once():
    spread = CATALOGUE.spreads["n"]
    values = [pair.features["n"] for pair in PAIRS if pair.features]
    assert sum(spread.counts) == len(values) and (spread.low, spread.high) == (min(values), max(values))


def test_a_hundred_thousand_pairs_are_found_without_a_wait():
    values = np.random.default_rng(0).normal(size=100_000)
    many = [
        Listed(idx=i, prompt=f"prompt {i} {i % 977}", chosen="yes", rejected="no", labels={"half": "ab"[i % 2]},
               reason="", features={"v": float(values[i])})
        for i in range(100_000)
    ]  # fmt: skip
    catalogue = Catalogue(many)
    for wanted in (
        Wanted(),
        Wanted(text="prompt", sort="v"),
        Wanted(text="976"),
        Wanted(labels={"half": "a"}, sort="v", down=True, page=900),
    ):
        start = time.perf_counter()
        assert len(catalogue.find(wanted).rows) == 50
        # A tenth of what people notice, times ten for a machine that does other things too.
        assert time.perf_counter() - start < 1.0
