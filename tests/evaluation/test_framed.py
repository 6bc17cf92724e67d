"""Means over frames, and intervals that know that rows of one prompt belong together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

from smidgen.errors import InvalidData, UsageError
from smidgen.evaluation.framed import (
    Measure,
    answers,
    check_prompts,
    differences,
    encode_turns,
    mean_by_prompt,
    of_sets,
    placed,
    share,
    some_prompts,
    summarize,
)
from smidgen.evaluation.statistics import mean_difference, mean_over_prompts, mean_over_seeds


@dataclass(frozen=True)
class Around:
    name: str
    text: str = "Tell me: {prompt}"
    marks: tuple[str, ...] = ()
    breaks: tuple[str, ...] = ()
    stance: None = None

    def around(self, prompt: str) -> str:
        return self.text.replace("{prompt}", prompt)


FRAMES = {"train": [Around("a"), Around("b")], "other": [Around("c")]}


def test_every_prompt_stands_in_every_frame_once() -> None:
    rows = [(name, frame.name, i) for name, frame, i in placed(FRAMES, ["p", "q"])]
    expected = [("train", "a", 0), ("train", "a", 1), ("train", "b", 0), ("train", "b", 1), ("other", "c", 0)]
    assert rows == [*expected, ("other", "c", 1)]


def test_sets_are_chosen_by_name() -> None:
    assert list(of_sets(FRAMES, ["other"])) == ["other"]
    assert of_sets(FRAMES, ()) == FRAMES
    with pytest.raises(UsageError, match="unknown set of frames 'revised'; expected one of: train, other"):
        of_sets(FRAMES, ["revised"])


def test_fewer_prompts_are_some_of_more_and_order_decides_nothing() -> None:
    prompts = [f"Question {i}?" for i in range(20)]
    few, more = some_prompts(prompts, 5), some_prompts(prompts, 9)
    assert set(few) < set(more)
    assert [p for p in prompts if p in few] == few
    assert set(some_prompts(prompts[::-1], 5)) == set(few)
    assert some_prompts(prompts, 100) == prompts


def test_the_mean_of_a_prompt_is_over_its_own_rows() -> None:
    assert mean_by_prompt([2, 0, 2, 0, 1], [1.0, 0.0, 0.0, 0.0, 3.0]).tolist() == [0.0, 3.0, 0.5]


def test_more_frames_that_say_the_same_make_no_result_surer() -> None:
    outcomes = [0.0, 1.0, 1.0, 0.0, 1.0]
    once = share(mean_by_prompt(range(5), outcomes)).interval()
    eight_times = share(mean_by_prompt([*range(5)] * 8, outcomes * 8)).interval()
    assert once == eight_times


def test_a_share_has_the_interval_of_one_seed_and_a_difference_that_of_paired_arms() -> None:
    a, b = np.array([0.0, 0.5, 1.0, 1.0]), np.array([0.0, 0.0, 0.5, 1.0])
    assert share(a).interval() == mean_over_seeds(a).interval
    found = (share(a) - share(b)).interval(0.9)
    expected = mean_difference(a, b, confidence=0.9).interval
    assert (found.mean, found.low, found.high) == pytest.approx((expected.mean, expected.low, expected.high))


def test_nats_have_students_interval() -> None:
    values = [0.3, -1.2, 2.0, 0.4, 0.9]
    found = Measure(np.array(values)).interval()
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(values), low, high))


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        chance = rng.beta(2, 2, size=30)  # prompts differ, and frames share what a prompt is like
        found = share(rng.binomial(8, chance) / 8).interval()
        hits += found.low <= 0.5 <= found.high
    assert hits / 400 >= 0.93


@pytest.mark.parametrize("values", [[0.5], [[0.5, 0.5]], [0.0, np.nan], [0.0, 1.5]])
def test_values_without_an_interval_are_refused(values: list) -> None:
    with pytest.raises(ValueError, match="expected"):
        mean_over_prompts(values, least=0.0, most=1.0)


def test_differences_are_of_the_same_prompts() -> None:
    before, after = ({"train": {"kept": share(np.array(values))}} for values in ([0.0, 0.5], [1.0, 0.5]))
    change = differences(after, before)["train"]["kept"]
    assert (change.values.tolist(), change.least, change.most) == ([1.0, 0.0], -1.0, 1.0)
    assert summarize({"train": {"kept": change}})["train"]["kept"]["n"] == 2
    with pytest.raises(ValueError, match="same prompts, got 2 and 3"):
        assert change - share(np.zeros(3))


def test_a_system_turn_stands_before_the_users(lm, plain) -> None:
    def text(system: str) -> str:
        return lm.tokenizer.decode(list(encode_turns(lm, plain, system, ["Hi"])[0]))

    assert text("Be brief.") == "system: Be brief. user: Hi assistant:"
    assert text("") == "user: Hi assistant:"


def test_prompts_without_room_or_company_are_named(lm, plain) -> None:
    with pytest.raises(InvalidData, match="1 that do not, the first 'very very"):
        answers(lm, plain, "", ["Hi", "very " * 80], max_new_tokens=4)
    with pytest.raises(InvalidData, match="at least two questions, got 1"):
        check_prompts(questions=["Hi"])
