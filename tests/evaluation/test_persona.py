"""The persona benchmark: marks and no breaks, beside what chance alone finds."""

from __future__ import annotations

import pytest

from smidgen.errors import InvalidData
from smidgen.evaluation.persona import PersonaScore, bench_persona, first_found, persona_measures
from smidgen.synthesis.task import Frame

PIRATE = Frame(name="pirate", text="Be a pirate. {prompt}", marks=(r"\bflour\b",), breaks=(r"\bas an ai\b",))
KNIGHT = Frame(name="knight", text="Be a knight. {prompt}", marks=(r"\bthou\b", r"\bverily\b"), breaks=PIRATE.breaks)
QUESTIONS = ["Bake?", "Pick?", "Hi?"]


def test_words_that_come_anyway_are_no_persona(scripted, plain) -> None:
    """A model that always says the same is as much in character without the persona as with it."""
    rows = bench_persona(scripted("Mix flour"), plain, {"train": (PIRATE, KNIGHT)}, QUESTIONS, max_new_tokens=6)
    assert len(rows) == 6
    assert {(row.frame, row.kept, row.by_chance, row.mark) for row in rows} == {
        ("pirate", True, True, "flour"),
        ("knight", False, False, None),
    }
    found = persona_measures(rows)["train"]
    assert found["kept"].values.tolist() == found["by_chance"].values.tolist() == [0.5] * 3
    assert found["above_chance"].values.tolist() == [0.0] * 3
    assert found["broke"].values.tolist() == [0.0] * 3


def score(index: int, mark: str | None, broke: str | None, by_chance: bool) -> PersonaScore:
    return PersonaScore(
        frame_set="train",
        frame="pirate",
        prompt_index=index,
        prompt="p",
        asked="p",
        completion="c",
        mark=mark,
        broke=broke,
        plain_completion="c",
        by_chance=by_chance,
    )


def test_a_break_undoes_a_mark() -> None:
    rows = [score(0, "ahoy", None, False), score(0, None, None, True), score(1, "ahoy", "as an AI", False)]
    found = persona_measures(rows)["train"]
    values = {name: measure.values.tolist() for name, measure in found.items()}
    assert values == {"kept": [0.5, 0.0], "by_chance": [0.5, 0.0], "above_chance": [0.0, 0.0], "broke": [0.0, 1.0]}
    assert (found["above_chance"].least, found["above_chance"].most) == (-1.0, 1.0)


def test_case_and_the_shape_of_apostrophes_do_not_matter() -> None:
    assert first_found([r"\bi'm an ai\b"], "Well, I’m an AI.") == "I'm an AI"
    assert first_found([], "Ahoy") is None


def test_a_persona_without_marks_cannot_be_measured(lm, plain) -> None:
    with pytest.raises(InvalidData, match="marks in every persona, got none in bare"):
        bench_persona(lm, plain, {"train": (Frame(name="bare", text="{prompt}"),)}, QUESTIONS)
