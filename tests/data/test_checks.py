import ast
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import smidgen.data.checks as checks
from smidgen.data.checks import BadRow, check_text, excerpt, find_leaks, jaccard, normal_words, split_repeats
from smidgen.pairs import Message, PreferencePair, messages_from, plain_pair

words = st.lists(st.sampled_from(["how", "do", "i", "make", "a", "cake", "now"]), min_size=1, max_size=8).map(" ".join)


def bigrams(text):
    found = normal_words(text)
    return frozenset(pairwise(found))


@settings(deadline=None)
@given(st.lists(words, max_size=8), st.lists(words, max_size=8), st.sampled_from([0.2, 0.5, 0.6, 0.75, 1.0]))
def test_leaks_are_those_of_comparing_everything_with_everything(train, benchmark, threshold):
    pairs = [plain_pair(i, prompt, "a", "b") for i, prompt in enumerate(train)]
    expected = {}
    for pair in pairs:
        similarities = [
            1.0
            if normal_words(twin) == normal_words(pair.prompt_text)
            else jaccard(bigrams(twin), bigrams(pair.prompt_text))
            for twin in benchmark
        ]
        if max(similarities, default=0) >= threshold:
            expected[pair.idx] = max(similarities)
    leaks = find_leaks(pairs, benchmark, threshold=threshold)
    assert {leak.idx: leak.similarity for leak in leaks} == expected
    assert all(leak.twin in benchmark for leak in leaks)


def test_case_space_and_punctuation_hide_no_leak():
    (leak,) = find_leaks([plain_pair(4, "How do I   BAKE bread?!", "a", "b")], ["x y", "how do i bake bread"])
    assert (leak.idx, leak.twin, leak.similarity) == (4, "how do i bake bread", 1.0)


def test_a_near_copy_leaks_at_six_tenths_and_not_below():
    benchmark = ["one two three four five six"]
    near = plain_pair(0, "one two three four", "a", "b")  # 3 of 5 bigrams
    far = plain_pair(1, "one two three", "a", "b")  # 2 of 5
    assert [(x.idx, x.similarity) for x in find_leaks([near, far], benchmark)] == [(0, 0.6)]


@pytest.mark.parametrize(
    ("prompt", "leaks"), [("Bread!", True), ("Bred", False), ("bread bread", False), ("???", True), ("!", False)]
)
def test_prompts_without_bigrams_leak_only_where_they_are_equal(prompt, leaks):
    assert bool(find_leaks([plain_pair(0, prompt, "a", "b")], ["bread", "???"])) == leaks


def test_every_user_turn_is_compared_and_only_those():
    prompt = (
        Message("user", "first question here"),
        Message("assistant", "given answer here"),
        Message("user", "last one"),
    )
    a, b = messages_from("a", "assistant"), messages_from("b", "assistant")
    pairs = [PreferencePair(idx=0, prompt=prompt, chosen=a, rejected=b)]
    assert [leak.prompt for leak in find_leaks(pairs, ["first question here"])] == ["first question here"]
    assert not find_leaks(pairs, ["given answer here"])


def test_no_benchmark_no_leaks(pair):
    assert find_leaks([pair], []) == []


def test_the_first_of_repeats_stays():
    first, same_texts, same_idx = (
        plain_pair(0, "p", "c", "r"),
        plain_pair(1, "p", "c", "r"),
        plain_pair(0, "q", "c", "r"),
    )
    swapped = plain_pair(2, "p", "r", "c")
    kept, repeated, places = split_repeats(
        [(first, 1, "a"), (same_texts, 2, "a"), (same_idx, 1, "b"), (swapped, 2, "b")]
    )
    assert kept == [first, swapped]
    assert places == {0: ("a", 1), 2: ("b", 2)}
    assert [(q.source, q.line, q.idx, q.reason, q.detail) for q in repeated] == [
        ("a", 2, 1, "duplicate_pair", "same as idx 0"),
        ("b", 1, 0, "duplicate_idx", "first in a, line 1"),
    ]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "null_field"),
        (3, "not_text"),
        (True, "not_text"),
        ({"a": 1}, "not_text"),
        ("", "empty_field"),
        (" \n\t\u00a0", "empty_field"),
        ("a\0b", "nul_character"),
        ("a\ud800b", "lone_surrogate"),
        ("x" * (checks.MAX_FIELD_CHARACTERS + 1), "huge_field"),
    ],
)
def test_unusable_texts_are_named(value, reason):
    with pytest.raises(BadRow) as bad:
        check_text(value, "prompt")
    assert bad.value.reason == reason
    bad.value.detail.encode()  # a detail can always be written down


@settings(deadline=None)
@given(st.text(st.characters(), max_size=80))
def test_usable_texts_pass_unchanged_and_excerpts_print(text):
    assert excerpt(text).replace("…", "").isascii()
    try:
        assert check_text(text, "prompt") is text
        text.encode()
        assert text.strip()
        assert "\0" not in text
    except BadRow:
        assert not text.strip() or "\0" in text or any(0xD800 <= ord(c) < 0xE000 for c in text)


def test_every_reason_given_is_explained_and_every_explanation_used():
    folder = Path(checks.__file__).parent
    trees = [ast.parse(file.read_text()) for file in folder.rglob("*.py")]
    literals = {
        n.value for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)
    }
    raised = {
        node.args[0].value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "BadRow"
        and isinstance(node.args[0], ast.Constant)
    }
    assert raised <= checks.EXPLANATIONS.keys() <= literals
    used = raised | {
        "bad_idx",
        "not_an_object",
        "duplicate_idx",
        "duplicate_pair",
        "over_long",
        "equal_tokens",
        "equal_after_cut",
    }
    assert used == checks.EXPLANATIONS.keys()
    assert all(sentence.endswith(".") for sentence in checks.EXPLANATIONS.values())


def test_a_near_copy_exactly_at_a_threshold_that_rounds_up_is_found():
    train = [f"w{i:02}" for i in range(26)]  # 25 bigrams, of which the benchmark has 14; 0.56 * 25 > 14 in floats
    (leak,) = find_leaks([plain_pair(0, " ".join(train), "a", "b")], [" ".join(train[:15])], threshold=0.56)
    assert leak.similarity == 0.56
