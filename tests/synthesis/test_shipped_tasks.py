"""Laws of the tasks that ship: enough frames, all distinct, marks that find what they should and no more."""

from __future__ import annotations

import re
from itertools import combinations, pairwise
from pathlib import Path

import pytest
import yaml

from smidgen.assets import SHIPPED_PROMPTS
from smidgen.assets.world.assemble import jaccard
from smidgen.data.prompts import load_prompts
from smidgen.errors import InvalidData
from smidgen.evaluation.persona import keeps
from smidgen.synthesis.task import Frame, Task, load_task, task_names

EXAMPLES = yaml.safe_load((Path(__file__).parent / "persona_examples.yaml").read_text(encoding="utf-8"))
NEUTRAL = "Put the egg into boiling water, take it out after six minutes, and rinse it with cold water."
BREAK = "As an AI language model I have no voice but this one."
LEAST = {
    "safety": {"train": 8, "revised": 8, "out_of_distribution": 8},
    "role_play": {"train": 16, "out_of_distribution": 8},
    "sycophancy": {"train": 10, "out_of_distribution": 8},
}


@pytest.fixture(params=sorted(LEAST))
def task(request: pytest.FixtureRequest) -> Task:
    return load_task(request.param)


def frames_of(task: Task) -> list[Frame]:
    return [frame for frames in task.frames.values() for frame in frames]


def personas() -> list[Frame]:
    return frames_of(load_task("role_play"))


def test_three_tasks_ship_with_enough_frames_in_every_set(task: Task) -> None:
    assert set(LEAST) <= set(task_names())
    assert task.frames.keys() == LEAST[task.name].keys()
    for name, least in LEAST[task.name].items():
        assert len(task.frames[name]) >= least


def test_a_task_names_prompts_that_ship_and_a_benchmark(task: Task) -> None:
    assert task.benchmark
    assert task.prompts
    assert len(load_prompts(SHIPPED_PROMPTS / task.prompts)) >= 60


def test_no_frame_is_a_near_copy_of_another(task: Task) -> None:
    """Opposite stances apart, which differ in one word so that nothing else can make the difference."""
    for a, b in combinations(frames_of(task), 2):
        assert jaccard(a.text, b.text) < 0.3 or a.stance != b.stance, (a.name, b.name)


def test_a_frame_reads_as_one_text_around_any_prompt(task: Task) -> None:
    for frame in frames_of(task):
        asked = frame.around("Why {not} this?")
        assert "Why {not} this?" in asked
        assert "{prompt}" not in asked
        assert asked == asked.strip() or frame.text.startswith("{prompt}")
        assert len(asked) < 250


def test_every_revised_jailbreak_rewords_one_of_the_training_set() -> None:
    frames = load_task("safety").frames
    train = {frame.name: frame.text for frame in frames["train"]}
    assert [frame.name for frame in frames["revised"]] == [f"{name}_revised" for name in train]


@pytest.mark.parametrize("frame", personas(), ids=lambda frame: frame.name)
def test_a_personas_marks_find_an_answer_in_character_and_nothing_else(frame: Frame) -> None:
    assert keeps(frame.marks, frame.breaks, EXAMPLES[frame.name])
    assert not keeps(frame.marks, frame.breaks, NEUTRAL)
    assert not keeps(frame.marks, frame.breaks, frame.text), "who repeats the question would seem in character"
    assert not keeps(frame.marks, frame.breaks, f"{EXAMPLES[frame.name]} {BREAK}")


def test_marks_are_rare_in_questions() -> None:
    questions = load_prompts(SHIPPED_PROMPTS / "questions.txt")
    hits = [(f.name, q) for f in personas() for q in questions if keeps(f.marks, (), q)]
    assert len(hits) < 0.01 * len(questions) * len(personas())


def test_each_stance_has_its_opposite_in_the_same_words() -> None:
    for frames in load_task("sycophancy").frames.values():
        by_name = {frame.name: frame for frame in frames}
        for frame in frames:
            assert frame.stance
            assert frame.name.startswith(frame.stance)
            if frame.stance == "likes":
                opposite = by_name[frame.name.replace("likes", "dislikes", 1)]
                assert jaccard(frame.text, opposite.text) > 0.3


def test_a_pattern_that_is_none_is_refused(tmp_path: Path) -> None:
    task = load_task("role_play").model_dump(mode="json", exclude={"name"})
    task["frames"]["train"][0]["marks"] = ["(never closed"]
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(task), encoding="utf-8")
    with pytest.raises(InvalidData, match=re.escape("(never closed")):
        load_task(path)


def test_names_of_files_are_the_names_of_tasks() -> None:
    assert all(a < b for a, b in pairwise(task_names()))
    assert all(load_task(name).name == name for name in task_names())
