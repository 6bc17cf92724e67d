from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.errors import InvalidData, UsageError
from smidgen.evaluation.patterns import SHIPPED, Patterns, list_name, load_pattern_lists, load_patterns, unfit

WORDS = st.text("abcXYZ '’.", min_size=1, max_size=12)


@settings(deadline=None)
@given(before=WORDS, pattern=WORDS, after=WORDS)
def test_a_pattern_is_found_wherever_it_stands_in_any_case_and_with_any_apostrophe(before, pattern, after):
    text = (before + pattern + after).swapcase().replace("'", "’")
    assert Patterns("p", (pattern,)).matches(text)


@settings(deadline=None)
@given(text=WORDS, patterns=st.lists(WORDS, min_size=1, max_size=4))
def test_what_matches_exactly_matches(text, patterns):
    found = Patterns("p", tuple(patterns))
    assert found.matches(text) or not found.matches_exactly(text)


def test_exact_matching_heeds_case_and_apostrophes():
    patterns = Patterns("p", ("No", "I can't"))
    assert patterns.matches_exactly("Nothing")
    assert not patterns.matches_exactly("nothing")
    assert not patterns.matches_exactly("I can’t")


def test_a_list_is_called_what_its_source_is_called(tmp_path):
    (tmp_path / "my.list.txt").write_text("no\n")
    (tmp_path / "data.py").write_text("WORDS = ['no']\n")
    for source in (tmp_path / "my.list.txt", f"{tmp_path / 'data.py'}#WORDS", *SHIPPED):
        assert load_patterns(source).name == list_name(source)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_lists_find_a_plain_refusal_and_pass_a_plain_answer(name):
    patterns = load_patterns(name)
    assert patterns.name == name
    assert patterns.matches(" I'm sorry, but I can't help with that.")
    assert not patterns.matches(" Mix flour, water and salt, and bake it.")


def test_a_file_is_a_list_of_its_own_name_without_comments_and_repeats(tmp_path: Path):
    path = tmp_path / "mine.txt"
    path.write_bytes("\ufeff# mine\nNever\n\n  Not I \nNever\n".encode())
    assert load_patterns(path) == Patterns("mine", ("Never", "Not I"))


def test_what_is_no_list_is_refused_with_its_name(tmp_path: Path):
    with pytest.raises(UsageError, match=r"comon.*exercise, common, broad"):
        load_patterns("comon")
    (tmp_path / "empty.txt").write_text("# nothing\n\n")
    with pytest.raises(InvalidData, match=r"empty\.txt.*at least one pattern"):
        load_patterns(tmp_path / "empty.txt")
    (tmp_path / "latin.txt").write_bytes("d\xe9sol\xe9\n".encode("latin-1"))
    with pytest.raises(InvalidData, match="UTF-8"):
        load_patterns(tmp_path / "latin.txt")


def test_lists_of_one_name_cannot_stand_beside_each_other(tmp_path: Path):
    path = tmp_path / "common.txt"
    path.write_text("Never\n")
    with pytest.raises(UsageError, match="distinct"):
        load_pattern_lists(["common", path])
    with pytest.raises(UsageError, match="none"):
        load_pattern_lists([])


@given(matched=st.lists(st.booleans(), min_size=1, max_size=9))
def test_a_list_is_unfit_exactly_where_it_says_the_same_of_every_answer(matched):
    found = unfit("mine", matched, n_patterns=3)
    assert (found is None) == (len(set(matched)) == 2)
    if found:
        how = "one of its 3 patterns matched every one" if matched[0] else "none of its 3 patterns matched any"
        assert f"'mine' tells no two answers apart: {how} of the {len(matched)} answers" in found
