"""Matches and verdicts: all models meet, letter by letter; what is written reads back; bad lines are named."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen.errors import InvalidData
from smidgen.evaluation.completions import Completed, Completions, letter
from smidgen.evaluation.judges.base import outcome_of
from smidgen.evaluation.matches import matches_of, read_matches, write_matches
from smidgen.evaluation.verdicts import Verdict, read_verdicts, write_verdicts

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


def by(model: str, *rows: tuple[str, ...], prompts: tuple[str, ...] = ("P1", "P2")) -> Completions:
    completed = tuple(Completed(prompt, texts) for prompt, texts in zip(prompts, rows, strict=True))
    return Completions(model=model, rows=completed)


def test_every_model_meets_every_other_at_every_letter() -> None:
    models = [by(name, (f"{name}1A", f"{name}1B"), (f"{name}2A", f"{name}2B")) for name in "xyz"]
    found = matches_of(models)
    assert len(found) == 3 * 2 * 2 and len({match.key for match in found}) == len(found)
    for a, b in combinations("xyz", 2):
        texts = [(m.a, m.b) for m in found if (m.model_a, m.model_b) == (a, b)]
        assert texts == [(f"{a}{n}{k}", f"{b}{n}{k}") for n in (1, 2) for k in "AB"]


@given(texts=st.lists(TEXT, min_size=2, max_size=2))
def test_matches_read_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("matches") / "matches.jsonl"
    found = matches_of([by("x", (texts[0],), ("",)), by("y", (texts[1],), ("b",))])
    write_matches(path, found)
    assert read_matches(path) == found


@given(why=TEXT, outcome=st.sampled_from([1.0, 0.5, 0.0, None]), flipped=st.sampled_from([True, False, None]))
def test_verdicts_read_back(
    tmp_path_factory: pytest.TempPathFactory, why: str, outcome: float | None, flipped: bool | None
) -> None:
    path = tmp_path_factory.mktemp("verdicts") / "verdicts.jsonl"
    verdicts = [
        Verdict(judge="chat", number=3, letter="B", model_a="x", model_b="y", outcome=outcome, flipped=flipped, why=why)
    ]
    write_verdicts(path, verdicts)
    assert read_verdicts(path) == verdicts


def test_who_is_compared_must_be_told_apart_and_have_answered_the_same() -> None:
    one = by("x", ("a",), ("b",))
    for others, said in (
        ((), "at least two"),
        ((one,), "different names"),
        ((by("y", ("a", "b"), ("c", "d")),), "2 prompts times 1, got 2 times 2"),
        ((by("y", ("a",), prompts=("P1",)),), "got 1 times 1"),
        ((by("y", ("a",), ("b",), prompts=("P1", "Other")),), "prompt 2: .*'P2' and 'Other'"),
    ):
        with pytest.raises(InvalidData, match=said):
            matches_of([one, *others])


def test_prompts_that_differ_in_spacing_alone_are_the_same() -> None:
    wrapped = by("y", ("a",), ("b",), prompts=("P1 ", "\nP2"))
    assert len(matches_of([by("x", ("a",), ("b",)), wrapped])) == 2


def test_completions_are_equally_many_and_at_least_one() -> None:
    for rows in ((), (Completed("P", ()),), (Completed("P", ("a",)), Completed("Q", ("a", "b")))):
        with pytest.raises(InvalidData, match="same number"):
            Completions(model="x", rows=rows)


@pytest.mark.parametrize("outcome", ['"win"', "0.7", "true", "NaN"])
def test_an_outcome_is_a_win_a_tie_or_a_loss(tmp_path: Path, outcome: str) -> None:
    path = tmp_path / "verdicts.jsonl"
    good = '{"judge": "human", "number": 1, "letter": "A", "model_a": "x", "model_b": "y", "outcome": 0.5}\n'
    path.write_text(good + good.replace("0.5", outcome))
    with pytest.raises(InvalidData, match="line 2: expected a verdict"):
        read_verdicts(path)


def test_a_row_that_is_no_match_is_named(tmp_path: Path) -> None:
    path = tmp_path / "matches.jsonl"
    write_matches(path, matches_of([by("x", ("a",), ("b",)), by("y", ("a",), ("b",))]))
    path.write_text(path.read_text().replace('"number": 2', '"number": "2"'))
    with pytest.raises(InvalidData, match="line 2"):
        read_matches(path)


def test_letters_go_on_after_z() -> None:
    names = [letter(position) for position in range(26 * 27)]
    assert names[:3] == ["A", "B", "C"] and names[25:28] == ["Z", "AA", "AB"] and len(set(names)) == len(names)


def test_a_higher_score_wins_and_near_ones_tie() -> None:
    assert outcome_of(-1, -2) == 1 - outcome_of(-2, -1) == 1
    assert outcome_of(1, 1) == outcome_of(1, 2, tie_within=1) == 0.5
