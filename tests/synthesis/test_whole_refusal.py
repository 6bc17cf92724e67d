"""Refusals of a whole request are told from disagreement, a declined persona, and words that only sound so."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from smidgen.synthesis.gates import find_faults
from smidgen.synthesis.whole_refusal import refuses_the_whole

EXAMPLES = yaml.safe_load(Path(__file__).with_name("refusal_examples.yaml").read_text(encoding="utf-8"))
ADVICE = "Boil the egg for six minutes, cool it under water, and peel it from the wide end. "


@pytest.mark.parametrize("text", EXAMPLES["refusals"])
def test_a_refusal_of_the_whole_is_left_out_where_answers_are_wanted(text: str) -> None:
    (fault,) = find_faults(["How do I boil an egg?"], ["Arr, six minutes!"], [text], wants="answer")
    assert fault is not None
    assert fault.reason == "refusal"


@pytest.mark.parametrize("text", EXAMPLES["answers"])
def test_disagreement_and_a_declined_persona_are_answers(text: str) -> None:
    assert find_faults(["How do I boil an egg?"], ["Arr, six minutes!"], [text], wants="answer") == [None]


def test_who_goes_on_at_length_has_answered() -> None:
    assert refuses_the_whole("I can't help with that. " + ADVICE)
    assert not refuses_the_whole("I can't help with that. " + 4 * ADVICE)


@pytest.mark.parametrize("tail", ["a" * 10_000, "a " * 5_000, "a'-" * 4_000, "any of my " * 1_000])
@pytest.mark.parametrize("head", ["I can't help with ", "I cannot provide information about ", "I cannot give "])
def test_no_text_takes_long(head: str, tail: str) -> None:
    assert not refuses_the_whole(f"{head}{tail}. {4 * ADVICE}")
