"""Near-duplicates against brute force, and what order may not change."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.data.checks import normal_words
from smidgen.synthesis import near_duplicates
from smidgen.synthesis.near_duplicates import SHINGLE_WORDS, Shingles, Twin, find_near_duplicates, shingles

TEXT = [
    "the",
    "dough",
    "rests",
    "for",
    "an",
    "hour",
    "then",
    "it",
    "goes",
    "into",
    "the",
    "oven",
    "until",
    "the",
    "crust",
    "is",
    "brown",
    "and",
    "sounds",
    "hollow",
]


def near_copies(n: int, seed: int, *, swaps: int = 3) -> list[str]:
    """Texts that differ from one another in a few words, so that similarities lie on both sides of any threshold."""
    rng = random.Random(seed)
    texts = []
    for _ in range(n):
        words = list(TEXT)
        for _ in range(rng.randint(0, swaps)):
            words[rng.randrange(len(words))] = rng.choice(["alpha", "beta", "gamma"])
        texts.append(" ".join(words))
    return texts


def runs_of_words(text: str) -> frozenset[tuple[str, ...]]:
    """A text's shingles as they are, and not as numbers."""
    words = normal_words(text)
    n_runs = max(len(words) - SHINGLE_WORDS + 1, min(len(words), 1))
    return frozenset(words[i : i + SHINGLE_WORDS] for i in range(n_runs))


def by_brute_force(views: list[list[str]], idxs: list[int], threshold: float) -> list[Twin | None]:
    def similarity(a: int, b: int) -> float:
        pairs = ((runs_of_words(x), runs_of_words(y)) for x, y in zip(views[a], views[b], strict=True))
        return min(len(x & y) / len(x | y) for x, y in pairs)

    kept: list[int] = []
    twins: list[Twin | None] = [None] * len(views)
    for row in sorted(range(len(views)), key=lambda i: idxs[i]):
        found = [(similarity(row, other), -idxs[other], other) for other in kept]
        if found and max(found)[0] >= threshold:
            twins[row] = Twin(max(found)[2], max(found)[0])
        else:
            kept.append(row)
    return twins


@given(seed=st.integers(0, 10_000), n=st.integers(0, 12), threshold=st.sampled_from([0.3, 0.5, 0.7, 0.8, 0.9, 1.0]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_what_is_found_is_what_comparing_every_pair_finds(seed: int, n: int, threshold: float) -> None:
    views = [[text] for text in near_copies(n, seed)]
    idxs = random.Random(seed).sample(range(1000), n)
    assert find_near_duplicates(views, idxs, threshold=threshold) == by_brute_force(views, idxs, threshold)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_the_order_of_rows_changes_nothing(seed: int) -> None:
    n = 10
    views, idxs = [[text] for text in near_copies(n, seed)], random.Random(seed).sample(range(100), n)
    order = random.Random(seed + 1).sample(range(n), n)
    straight = find_near_duplicates(views, idxs)
    shuffled = find_near_duplicates([views[i] for i in order], [idxs[i] for i in order])
    moved = [twin and Twin(order.index(twin.position), twin.similarity) for twin in straight]
    expected = [moved[i] for i in order]
    assert shuffled == expected


@given(texts=st.lists(st.text(alphabet="ab c", max_size=16), max_size=6))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_numbers_are_shared_where_runs_of_words_are(texts: list[str]) -> None:
    for a in texts:
        for b in texts:
            assert len(np.intersect1d(shingles(a), shingles(b))) == len(runs_of_words(a) & runs_of_words(b))


def test_every_view_must_be_near() -> None:
    same, other = " ".join(TEXT), "quite another text about trains, ships and the price of coal in winter"
    assert find_near_duplicates([[same, same], [same, other]], [0, 1]) == [None, None]
    assert find_near_duplicates([[same, same], [same, same]], [0, 1]) == [None, Twin(0, 1.0)]


def test_texts_without_words_have_no_twins() -> None:
    assert find_near_duplicates([["?!"], ["?!"], [""]], [0, 1, 2]) == [None, None, None]


def test_short_texts_are_compared_whole() -> None:
    assert find_near_duplicates([["No."], ["no"], ["No way"]], [0, 1, 2]) == [None, Twin(0, 1.0), None]


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.1])
def test_a_threshold_out_of_range_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        find_near_duplicates([], [], threshold=threshold)


@pytest.mark.parametrize("n_words", range(2, 15))
def test_one_answer_to_many_prompts_is_compared_with_few(monkeypatch: pytest.MonkeyPatch, n_words: int) -> None:
    n, n_compared, similarity = 400, 0, near_duplicates._similarity

    def counted(*sets: Sequence[Shingles]) -> float:
        nonlocal n_compared
        n_compared += 1
        return similarity(*sets)

    monkeypatch.setattr(near_duplicates, "_similarity", counted)
    prompts = [" ".join(f"{word}{i}" for word in TEXT[:n_words]) for i in range(n)]
    find_near_duplicates([[f"{prompt}\n{' '.join(TEXT)}"] for prompt in prompts], range(n))
    # Comparing all pairs would be 200 a row.
    assert n_compared <= 2 * n
