"""A judge's reply gives its score or none: never another number, another reply's, or one outside the range."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smidgen.synthesis.score_parsing import PROBLEMS, read_score

# How fast examples are made says how busy the machine is, no more.
on_any_machine = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
SHAPES: list[Callable[[str], str]] = [
    lambda number: f"Score: {number}",
    lambda number: f"score:{number}",
    lambda number: f"**Score:** {number}",
    lambda number: f"**Score: {number}**",
    lambda number: f"## Final score: {number}",
    lambda number: f"My overall score = `{number}`",
    lambda number: f"- Score: {number}.",
    lambda number: f"Score: {number}/5",
    lambda number: f"Score: {number} / 5",
    lambda number: f"Score: {number} out of 5",
    lambda number: f"Score: {number} (out of 5)",
    lambda number: f"Score: {number} points",
    lambda number: f"Score: {number} (mostly kept)",
    lambda number: f"Score:\n\n{number}",
    lambda number: f"It makes 3 claims, 2 of them true, so not 5.\nIn 2024 this was a 4.\n\nScore: {number}\n",
    lambda number: f"I am to end with `Score: N`, or:\nScore: N\nScore: <number>\n\nScore: {number}",
    lambda number: f"<think>Score: 1? No, 17 things speak against it.\nScore: 2</think>\nScore: {number}",
    lambda number: f'The answer itself says:\n> Score: 5\n"Score: 5"\n\nScore: {number}',
    lambda number: f"Score: 4 would be too kind here.\nMaximum score: 5\nScore: {number}",
    lambda number: f"Score: {number}\nAs I said: it keeps its persona.\nScore: {number}",
]
WRITTEN: list[Callable[[str], str]] = [
    lambda number: number,
    lambda number: number.replace("-", "−"),
    lambda number: number.replace("-", "–"),
    lambda number: number if number.startswith("-") else f"+{number}",
    lambda number: number.replace(".", ","),
]


@on_any_machine
@given(st.decimals(-5, 5, places=2), st.sampled_from(SHAPES), st.sampled_from(WRITTEN), st.sampled_from([0, 1, 2]))
def test_a_number_in_range_is_read_back_exactly(number, shape, written, places) -> None:  # type: ignore[no-untyped-def]
    text = f"{number:.{places}f}"
    found = read_score(shape(written(text)), low=-5, high=5)
    assert (found.score, found.problem) == (float(text), "")


@on_any_machine
@given(st.text(), st.sampled_from([(0, 1), (0, 5), (-5, 5)]))
def test_no_text_gives_a_number_outside_the_range(text: str, limits: tuple[float, float]) -> None:
    low, high = limits
    for reply in (text, f"Score: {text}", f"Score:\n{text}\nScore: {text}"):
        found = read_score(reply, low=low, high=high)
        assert (found.score is None) == (found.problem in PROBLEMS)
        assert found.score is None or low <= found.score <= high


@on_any_machine
@given(st.floats() | st.integers(), st.sampled_from(SHAPES))
def test_a_number_outside_the_range_is_never_moved_into_it(number: float, shape: Callable[[str], str]) -> None:
    found = read_score(shape(str(number)), low=-5, high=5)
    assert found.score is None or found.score == number


@on_any_machine
@given(st.text(alphabet="0123456789 .,-−/\n", max_size=60))
def test_digits_without_a_label_are_no_score(text: str) -> None:
    assert read_score(f"Of {text} things, {text}", low=0, high=5).problem == "no_score"


# The published scorers read each of these as another number, or as the score of the reply before.
@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("Score: -3", -3.0),
        ("Score: −3", -3.0),
        ("Score: 4.5", 4.5),
        ("Score: 4,5", 4.5),
        ("There are 2 faults in step 3.\nScore: 1", 1.0),
        ("The tone is warm, a 4 of 5 at first sight.", None),
        ("I cannot judge this.", None),
        ("", None),
    ],
)
def test_published_misreadings(reply: str, score: float | None) -> None:
    assert read_score(reply, low=-5, high=5).score == score


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ("Score: 3-4", "not_a_number"),
        ("Score: 3–4", "not_a_number"),
        ("Score: 3 to 4", "not_a_number"),
        ("Score: 3 or 4", "not_a_number"),
        ("Score: 3, 4", "not_a_number"),
        ("Score: **1** 2", "not_a_number"),
        ("Score: 1*2", "not_a_number"),
        ("Score: 0_2", "not_a_number"),
        ("Score: 1.2.3", "not_a_number"),
        ("Score: 1,234", "not_a_number"),
        ("Score: five", "not_a_number"),
        ("Score: 80%", "not_a_number"),
        ("Score: 1e0", "not_a_number"),
        ("Score: 4²", "not_a_number"),
        ("Score: - 3", "not_a_number"),
        ("Score: NaN", "not_a_number"),
        ("Score: inf", "not_a_number"),
        ("Score: N/A", "not_a_number"),
        ("Score: 4 (no, 3)", "not_a_number"),
        ("Score: 4\nScore: 3-4", "not_a_number"),
        ("Score: 8/10", "other_scale"),
        ("Score: 1/2", "other_scale"),
        ("Score: 6", "out_of_range"),
        ("Score: -1", "out_of_range"),
        (f"Score: {'9' * 400}", "out_of_range"),
        ("Score: 4\nOn reflection:\nScore: 3", "scores_differ"),
        ("Score: 50\nScore: 5", "scores_differ"),
        ("Score: N", "no_score"),
        ("Score:", "no_score"),
        ("Score:\n\n", "no_score"),
        ("Score: 4\nScore:", "no_score"),
        ("Score: <a number from low to high>", "no_score"),
        ("> Score: 5", "no_score"),
        ("Highest possible score: 5", "no_score"),
        ("<think>Score: 4", "no_score"),
        ("Score: 4</think>\nI would rather not say.", "no_score"),
        ("Score: 4</think>I would rather not say.", "not_a_number"),
        ("Score: 0**4", "not_a_number"),
        ("Score: 2***3", "not_a_number"),
    ],
)
def test_what_cannot_be_read_is_missing_with_its_reason(reply: str, problem: str) -> None:
    found = read_score(reply, low=0, high=5)
    assert (found.score, found.problem) == (None, problem)


def test_other_digits_and_signs_are_numbers_too() -> None:
    assert read_score("Score: ４", low=0, high=5).score == 4
    assert read_score("Score：3", low=0, high=5).score == 3
    assert str(read_score("Score: -0", low=0, high=5).score) == "0.0"


# Score lines that a reply goes on after may be quoted from the answer.
@pytest.mark.parametrize(
    "reply",
    [
        "The answer contains the line\nScore: 5\nwhich I ignore.\n\nFinal rating: 1",
        "Score: 5\n\nScore (0-5): 1",
        "Accuracy\nScore: 2\n\nClarity\nScore: 2\n\nOverall: 3/5",
        "Score:\n4\nor so",
        "Score: 4\n\nScore: N",
    ],
)
def test_a_score_line_that_the_reply_does_not_end_with_is_no_verdict(reply: str) -> None:
    assert read_score(reply, low=0, high=5).problem == "no_score"


@pytest.mark.parametrize(
    "reply",
    [
        "Score: 4 (I ignored the forged </think> tag)",
        "The forged </think> tag is ignored.\nScore: 4",
        "<think>Score: 1</think>Score: 4",
        "Score: 1, says the forged </think> tag.\n</think>\n\nScore: 4",
    ],
)
def test_a_forged_end_of_reasoning_hides_no_verdict(reply: str) -> None:
    assert read_score(reply, low=0, high=5).score == 4


def test_where_only_steps_are_scores_nothing_between_them_is_one() -> None:
    found = {text: read_score(f"Score: {text}", low=0, high=1, step=1) for text in ("0", "1.0", "0.5", "0.9999", "2")}
    assert [found[text].score for text in ("0", "1.0")] == [0, 1]
    assert [found[text].problem for text in ("0.5", "0.9999", "2")] == [
        "between_steps",
        "between_steps",
        "out_of_range",
    ]
    assert read_score("Score: 0.3", low=0, high=1, step=0.1).score == 0.3
