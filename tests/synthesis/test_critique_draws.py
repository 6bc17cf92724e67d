"""Which prompts are asked in which frames: a draw that follows from the seed, and uses everything once first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen.errors import UsageError
from smidgen.synthesis.critique import Draw, draw_prompts
from smidgen.synthesis.task import Frame, load_task, task_names

FRAMES = [Frame(name=name, text=f"{name}: {{prompt}}") for name in ("novel", "play", "film")]
PROMPTS = [f"Prompt {i}?" for i in range(7)]


def names(draws: Sequence[Draw]) -> list[tuple[int, str]]:
    return [(draw.row, draw.frame.name) for draw in draws]


@given(st.integers(1, 21), st.integers(0, 5))
def test_nothing_is_drawn_twice_and_no_prompt_again_before_all_were_used(n: int, seed: int) -> None:
    draws = draw_prompts(PROMPTS, FRAMES, n=n, seed=seed)
    assert [draw.idx for draw in draws] == list(range(n))
    assert len(set(names(draws))) == n
    uses = Counter(draw.row for draw in draws)
    assert max(uses.values()) - min(uses[row] for row in range(len(PROMPTS))) <= 1


@given(st.integers(1, 20), st.integers(0, 5))
def test_fewer_draws_are_the_first_of_more(n: int, seed: int) -> None:
    more = draw_prompts(PROMPTS, FRAMES, n=n + 1, seed=seed)
    assert draw_prompts(PROMPTS, FRAMES, n=n, seed=seed) == more[:n]


def test_draws_follow_from_the_seed_and_not_from_the_order_of_frames() -> None:
    assert names(draw_prompts(PROMPTS, FRAMES, seed=1)) == names(draw_prompts(PROMPTS, FRAMES[::-1], seed=1))
    assert len({tuple(names(draw_prompts(PROMPTS, FRAMES, seed=seed))) for seed in range(5)}) == 5


def test_a_prompts_first_frame_does_not_depend_on_its_company() -> None:
    few = {draw.row: draw.frame for draw in draw_prompts(PROMPTS[:4], FRAMES, seed=2)}
    many = {draw.row: draw.frame for draw in draw_prompts(PROMPTS, FRAMES, seed=2)}
    assert few.items() <= many.items()


def test_frames_are_used_about_equally() -> None:
    uses = Counter(draw.frame.name for draw in draw_prompts([f"Prompt {i}?" for i in range(900)], FRAMES))
    assert all(240 < uses[frame.name] < 360 for frame in FRAMES)


def test_a_repeated_prompt_counts_once_where_it_stands_first() -> None:
    draws = draw_prompts(["a", "b", "a", "c", "b"], FRAMES[:1])
    assert {(draw.row, draw.prompt) for draw in draws} == {(0, "a"), (1, "b"), (3, "c")}


def test_more_than_there_is_says_how_much_there_is() -> None:
    with pytest.raises(UsageError, match=r"at most 21 \(7 different prompts in 3 frames each\), got 22"):
        draw_prompts(PROMPTS, FRAMES, n=22)


@given(st.text())
def test_a_prompt_stands_in_its_frame_as_it_is(prompt: str) -> None:
    draw = Draw(idx=0, row=0, prompt=prompt, frame=Frame(name="f", text="Before {{ }} {prompt} after"))
    assert draw.asked == f"Before {{{{ }}}} {prompt} after"


@pytest.mark.parametrize("name", task_names())
def test_a_shipped_task_speaks_to_the_teacher_about_its_own_answer(name: str) -> None:
    task = load_task(name)
    assert "your last answer" in task.critique
    assert "alone." in task.revise
    assert "{" not in task.critique + task.revise
