"""Files of completions: what is written reads back to the character, and what others write is read or refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen.data.prompts import load_prompts
from smidgen.errors import InvalidData, UsageError
from smidgen.evaluation.completions import Completed, Completions
from smidgen.evaluation.completions_files import (
    model_name,
    name_for,
    read_completions,
    write_completions_jsonl,
    write_completions_text,
)
from smidgen.evaluation.completions_text import from_text, to_text

LOOKS_LIKE_A_HEADING = [
    *(
        "COMPLETION 2-B",
        "PROMPT 3",
        "SUMMARY 1",
        "POST 2",
        "**COMPLETION 1-A:**",
        "# PROMPT 1 #",
        "POEM 1-A: no",
        "PROMPT " + "9" * 5000,
    ),
    *("\\PROMPT 3", "\\\\COMPLETION 1-A", "\\", "\\ \\", "\\begin", "PROMPT 1\r", "", " ", "---", "\x0c", "\ufeff"),
]
line = st.one_of(st.text(alphabet=" \\\t\r#-*a:1A", max_size=5), st.sampled_from(LOOKS_LIKE_A_HEADING))
text = st.one_of(
    st.lists(line, max_size=5).map("\n".join),
    st.text(alphabet=st.characters(codec="utf-8"), max_size=20),
)


def rows(n: int) -> st.SearchStrategy[Completed]:
    texts = st.lists(text, min_size=n, max_size=n).map(tuple)
    cut = st.lists(st.booleans(), min_size=n, max_size=n).map(tuple)
    return st.builds(Completed, text, texts, cut)


written = st.builds(
    lambda rows, label, meta: Completions(model="m", rows=tuple(rows), label=label, meta=meta),
    st.integers(1, 3).flatmap(lambda n: st.lists(rows(n), min_size=1, max_size=3)),
    st.sampled_from(["COMPLETION", "SUMMARY", "POEM"]),
    st.dictionaries(text, st.one_of(st.none(), st.booleans(), st.integers(), text), max_size=2),
)


def texts(completions: Completions) -> list[tuple[str, tuple[str, ...]]]:
    return [(row.prompt, row.texts) for row in completions.rows]


@given(written)
def test_text_reads_back_to_the_character(found: Completions) -> None:
    back = from_text(to_text(found), source="f.txt", model="m")
    assert (texts(back), back.label) == (texts(found), found.label)


@given(written)
def test_both_files_read_back(tmp_path_factory: pytest.TempPathFactory, found: Completions) -> None:
    folder = tmp_path_factory.mktemp("files")
    write_completions_jsonl(folder / "c.jsonl", found)
    assert read_completions(folder / "c.jsonl") == found
    write_completions_text(folder / "output_plays_poems_m.txt", found)
    back = read_completions(folder / "output_plays_poems_m.txt", model="m")
    assert texts(back) == texts(found)


def test_a_plain_text_stands_as_it_is() -> None:
    found = Completions(model="m", rows=(Completed("ROMEO:\nIs the day\n\nso young?", (" But new.", "")),))
    assert to_text(found) == (
        "PROMPT 1\n\nROMEO:\nIs the day\n\nso young?\n\nCOMPLETION 1-A\n\n But new.\n\nCOMPLETION 1-B\n\n"
    )


LOOSE = {
    "tight": "PROMPT 1\nTo be\nCOMPLETION 1-A\nor not\nCOMPLETION 1-B\nthat is\nPROMPT 2\nYet\nCOMPLETION 2-A\nx\n"
    "COMPLETION 2-B\ny",
    "decorated": "Model: x\n\n=== PROMPT 1 ===\nTo be\n\n**COMPLETION 1-A:** or not\n\n### COMPLETION 1-B:\nthat is\n"
    "\nPROMPT 2: Yet\nCOMPLETION 2 - A: x\nCOMPLETION 2-B:\n\n\ny\n\n",
    "posts": "POST 1:\nTo be\n\nSUMMARY 1-A: or not\n\nSUMMARY 1-B\n that is\nPOST 2\nYet\nSUMMARY 2-A\nx\n"
    "SUMMARY 2-B\ny",
    "ruled": "To be\n-----\nCOMPLETION 1-A\nor not\n\nCOMPLETION 1-B\nthat is\n=====\nYet\n-----\nCOMPLETION 2-A\nx\n"
    "COMPLETION 2-B\ny\n=====\n",
}


@pytest.mark.parametrize("name", LOOSE)
@pytest.mark.parametrize("windows", [False, True])
def test_what_others_write_is_read(tmp_path: Path, name: str, windows: bool) -> None:
    path = tmp_path / "output_plays_completions_gpt2_xl.txt"
    content = LOOSE[name].replace("\n", "\r\n") if windows else LOOSE[name]
    path.write_bytes(gzip.compress(("\ufeff" + content).encode()))
    found = read_completions(path)
    assert found.model == "gpt2_xl"
    stripped = [(prompt, tuple(t.strip() for t in texts)) for prompt, texts in texts(found)]
    assert stripped == [("To be", ("or not", "that is")), ("Yet", ("x", "y"))]


def test_one_summary_a_post_needs_no_letter(tmp_path: Path) -> None:
    path = tmp_path / "output_reddit_summaries_week5-sft-tldr.txt"
    path.write_text("SUMMARY 1\nShort.\n\nSUMMARY 2\nShorter.\n")
    found = read_completions(path)
    assert (found.model, found.label) == ("week5-sft-tldr", "SUMMARY")
    assert texts(found) == [("", ("Short.",)), ("", ("Shorter.",))]
    assert texts(read_completions(path, prompts=["A post", "Two\n\nPROMPT 1"]))[1] == ("Two\n\nPROMPT 1", ("Shorter.",))


def test_prompts_tell_where_a_completion_ends(tmp_path: Path) -> None:
    path = tmp_path / "c.txt"
    path.write_text("First\n\nCOMPLETION 1-A\na\n\nb\n\nSecond  one,\nlong\n\nCOMPLETION 2-A\nc\n")
    prompts = ["First", "Second one, long"]
    assert texts(read_completions(path, prompts=prompts)) == [("First", ("a\n\nb",)), ("Second one, long", ("c",))]
    with pytest.raises(InvalidData, match=r"lines 3 to 11: expected a line of dashes .* Write PROMPT 2"):
        read_completions(path)
    with pytest.raises(InvalidData, match="lines 3 to 11: expected 'Another' as its last lines"):
        read_completions(path, prompts=["First", "Another"])
    with pytest.raises(InvalidData, match="expected completions of 1 prompts, got 2"):
        read_completions(path, prompts=["First"])


def test_other_words_and_numbers_are_no_headings() -> None:
    content = "PROMPT 1\nINPUT 3\nACT 2\nCOMPLETION 1-A\nFIGURE 1-A\nChapter 2\nSUMMARY 4\nPROMPT\n"
    found = from_text(content, source="f.txt", model="m")
    assert texts(found) == [("INPUT 3\nACT 2", ("FIGURE 1-A\nChapter 2\nSUMMARY 4\nPROMPT",))]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected completions below headings such as COMPLETION 1-A, got none"),
        ("PROMPT 1\nx\n", "expected completions below headings"),
        ("PROMPT 1\nx\nCOMPLETION 1-B\n", "line 3: expected COMPLETION 1-A, got COMPLETION 1-B"),
        ("PROMPT 1\nx\nCOMPLETION 1-A\nPROMPT 3\n", "line 4: expected PROMPT 2 or COMPLETION 1-B, got PROMPT 3"),
        ("PROMPT 1\nx\nPROMPT 2\ny\nCOMPLETION 2-A\n", "line 3: expected COMPLETION 1-A, got PROMPT 2"),
        ("COMPLETION 1-A\nPROMPT 1\n", "line 1: expected PROMPT 1, got COMPLETION 1-A"),
        ("POST 1\nSUMMARY 1\nSUMMARY 2\n", "line 3: expected POST 2 or SUMMARY 1-B, got SUMMARY 2-A"),
        ("COMPLETION 2-A\n", "line 1: expected .*1.*, got .* 2"),
        ("PROMPT 1\nCOMPLETION 1-A\nPROMPT 2\nCOMPLETION 2-A\nCOMPLETION 2-B\n", "same number for every prompt"),
        ("PROMPT 1\nCOMPLETION 1-A\nPROMPT 2\n", "same number for every prompt"),
    ],
)
def test_a_text_out_of_order_says_where(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "c.txt").write_text(content)
    with pytest.raises(InvalidData, match=message):
        read_completions(tmp_path / "c.txt")


def test_bytes_that_are_no_text_say_where(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_bytes(b"PROMPT 1\nb\xe4d\nCOMPLETION 1-A\n")
    with pytest.raises(InvalidData, match="line 2: expected text in UTF-8"):
        read_completions(tmp_path / "c.txt")


ROW = {"number": 1, "model": "m", "label": "COMPLETION", "prompt": "p", "completions": ["a"]}


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"number": 3}, "line 2: .* number 3 where 2 comes next"),
        ({"model": "n"}, "line 2: .* model 'n' behind rows of 'm'"),
        ({"completions": ["a", "b"]}, "line 2: .* completions A to B behind rows of 1"),
        ({"completions": []}, r"line 2: .* completions = \[\]"),
        ({"completions": "a"}, 'line 2: .* completions = "a"'),
        ({"completions": [None]}, r"line 2: .* completions = \[null\]"),
        ({"prompt": None}, "line 2: .* prompt = null"),
        ({"cut": [1]}, r"line 2: .* cut = \[1\]"),
        ({"settings": 3}, "line 2: .* settings = 3"),
        ("a text", "line 2: .* got str"),
    ],
)
def test_a_row_that_does_not_follow_says_where(tmp_path: Path, second: object, message: str) -> None:
    following = ROW | {"number": 2} | second if isinstance(second, dict) else second
    (tmp_path / "c.jsonl").write_text(json.dumps(ROW) + "\n" + json.dumps(following) + "\n")
    with pytest.raises(InvalidData, match=message):
        read_completions(tmp_path / "c.jsonl")


def test_a_row_without_its_columns_or_cut_short_says_where(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"number": 1, "model": "m"}')
    with pytest.raises(InvalidData, match=r"line 1: .* got no label"):
        read_completions(path)
    path.write_text(json.dumps(ROW) + '\n{"numb')
    with pytest.raises(InvalidData, match=r"line 2: .* malformed_json"):
        read_completions(path)
    path.write_text("")
    with pytest.raises(InvalidData, match="empty file"):
        read_completions(path)


def test_a_folder_stands_for_its_one_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="got 0 files"):
        read_completions(tmp_path)
    with pytest.raises(UsageError, match="got nothing there"):
        read_completions(tmp_path / "none")
    (tmp_path / "output_a_completions_m.jsonl").write_text(json.dumps(ROW))
    assert read_completions(tmp_path).model == "m"
    (tmp_path / "output_b_completions_m.jsonl").write_text(json.dumps(ROW))
    with pytest.raises(UsageError, match="got 2 files"):
        read_completions(tmp_path)


def test_the_jsonl_is_a_file_of_prompts(tmp_path: Path) -> None:
    found = Completions(model="m", rows=(Completed("One\n\ntwo", ("a",)), Completed("Three", ("b",))))
    write_completions_jsonl(tmp_path / "c.jsonl", found)
    assert load_prompts(tmp_path / "c.jsonl") == ["One\n\ntwo", "Three"]


def test_half_a_surrogate_pair_goes_into_jsonl_alone(tmp_path: Path) -> None:
    found = Completions(model="m", rows=(Completed("p", ("a\n\ud800",)),))
    with pytest.raises(InvalidData, match=r"line 8: .* U\+D800"):
        write_completions_text(tmp_path / "c.txt", found)
    write_completions_jsonl(tmp_path / "c.jsonl", found)
    assert read_completions(tmp_path / "c.jsonl") == found


@pytest.mark.parametrize("label", ["", "completion", "PROMPT", "POST", "TL;DR", "A B", "RÉSUMÉ"])
def test_a_label_is_a_word_in_capitals(label: str) -> None:
    with pytest.raises(UsageError, match="expected a label in capital letters"):
        to_text(Completions(model="m", rows=(Completed("p", ("a",)),), label=label))


@pytest.mark.parametrize(
    ("prompts", "label", "name"),
    [
        ("input_shakespeare_prefixes.txt", "COMPLETION", "shakespeare_completions"),
        ("x/input_reddit_posts.txt.gz", "SUMMARY", "reddit_summaries"),
        ("my questions?.csv", "ANSWER", "my-questions-_answers"),
        ("prompts.txt", "COMPLETION", "prompts_completions"),
        ("shakespeare_completions", "COMPLETION", "shakespeare_completions"),
        ("plays", "COMPLETION", "plays_completions"),
    ],
)
def test_completions_are_called_after_their_prompts(prompts: str, label: str, name: str) -> None:
    assert name_for(prompts, label) == name


def test_a_model_is_called_by_the_last_part_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sft" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "sft" / "model")
    names = {".": "sft", "runs/ppo/model": "ppo", "runs/ppo/": "ppo", "openai/gpt-4.1:x": "gpt-4.1-x", "model": "model"}
    assert {given: model_name(given) for given in names} == names
