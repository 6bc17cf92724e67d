"""Text made ready for paper: nothing is lost, nothing acts, lines can break."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen.report.pdf_text import breakable, clusters, is_right_to_left, printable, said, undrawn_counts, with_signs

any_text = st.text(st.characters(), max_size=60)
JOINED = {"Mn", "Me", "Mc", "Cf", "Sk"}


@given(any_text)
def test_nothing_that_acts_or_cannot_be_drawn_is_left(text):
    shown = printable(text)
    assert all(c == "\n" or unicodedata.category(c) not in ("Cc", "Cs", "Cn", "Co") for c in shown)
    assert not {*map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028, 0x2029))} & {*shown}
    assert printable(shown) == shown
    shown.encode("utf-8")


@given(st.text(st.characters(whitelist_categories=["Lu", "Ll", "Lo", "Nd", "Po", "Sm", "So"]), max_size=60))
def test_letters_digits_and_signs_stay_as_they_are(text):
    assert printable(text) == text


@given(any_text)
def test_breaking_words_adds_places_and_nothing_else(text):
    assert breakable(text).replace("\u200b", "") == text.replace("\u200b", "")


@pytest.mark.parametrize(
    "word", ["W" * 10_000, "/" * 500, "a/b_c." * 300, "https://example.org/" + "x" * 400, "é" * 90]
)
def test_no_part_of_a_long_word_is_long(word):
    assert max(map(len, breakable(word).split("\u200b"))) <= 36


@given(any_text)
def test_clusters_are_the_text_and_start_with_what_carries_marks(text):
    parts = clusters(text)
    assert "".join(parts) == text
    assert all(part[0].isascii() or unicodedata.category(part[0]) not in JOINED for part in parts[1:])


def test_signs_take_the_place_of_whole_clusters():
    assert with_signs("a日b日\u0301c", {"日"}) == "a□b日\u0301c"
    assert with_signs("a日b日\u0301c", {"日", "日\u0301"}) == "a□b□c"
    assert undrawn_counts({"a": ["日本", {"b": "の🧨"}], "n": 1}, {"日", "本", "の", "🧨"}) == {
        "Chinese and Japanese": 3,
        "emoji and symbols": 1,
    }


def test_marks_piled_up_are_cut_with_a_sign():
    assert printable("Z" + "\u0301" * 900) == "Z" + "\u0301" * 6 + "□"
    assert printable("e\u0301\u0302") == "e\u0301\u0302"


def test_a_text_that_goes_on_says_so():
    assert said("abc", 5) == {"text": "abc", "rtl": False}
    assert said("abcdefgh", 5)["text"] == "abcde …"
    assert said("a\n\n\n\n\nb\n", 99)["text"] == "a\n\nb"
    assert said("\n".join("abcdefghijklmnopqrst"), 99)["text"] == "\n".join("abcdefghijklmn") + " …"
    assert said("a\nb  c", 99, one_line=True)["text"] == "a b c"


def test_direction_is_that_of_the_first_letter():
    assert is_right_to_left("123 «עברית» then English") and is_right_to_left("العربية")
    assert not is_right_to_left("English, then עברית") and not is_right_to_left("123 …")
