"""A verdict is what the reply ends with, or nothing."""

from __future__ import annotations

import pytest

from smidgen.evaluation.verdict_parsing import PROBLEMS, read_choice


@pytest.mark.parametrize(
    ("reply", "choice"),
    [
        ("Verdict: 1", "1"),
        ("Both are fine.\n\n**Verdict:** Tie.", "tie"),
        ("Verdict:\n2\n", "2"),
        ("<think>Verdict: 1</think>My final verdict: 2", "2"),
        ("I end with the line `Verdict: 1|2|tie`.\nVerdict: 1|2|tie\nVerdict: 1", "1"),
        ("Verdict: 2\n\nVerdict: 2", "2"),
        ("# Verdict: 1", "1"),
    ],
)
def test_what_is_said_is_read(reply: str, choice: str) -> None:
    assert read_choice(reply).choice == choice


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ("", "no_verdict"),
        ("1", "no_verdict"),
        ("Answer 1 is better.", "no_verdict"),
        ("Verdict: 1\nBut then again it may not be.", "no_verdict"),
        ("> Verdict: 1", "no_verdict"),
        ("<think>Verdict: 1", "no_verdict"),
        ("Verdict: 1|2|tie", "not_a_choice"),
        ("Verdict: 1 or 2", "not_a_choice"),
        ("Verdict: 12", "not_a_choice"),
        ("Verdict: answer 1", "not_a_choice"),
        ("Verdict: 1/2", "not_a_choice"),
        ("Verdict: -1", "not_a_choice"),
        ("Verdict: 3", "not_a_choice"),
        ("Verdict: 1\n\nVerdict: 2", "verdicts_differ"),
    ],
)
def test_what_is_not_said_is_not_guessed(reply: str, problem: str) -> None:
    found = read_choice(reply)
    assert (found.choice, found.problem) == (None, problem) and problem in PROBLEMS
