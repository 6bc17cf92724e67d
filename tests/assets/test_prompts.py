"""Laws of the shipped benchmark prompts and refusal patterns."""

import csv
import re
from collections import Counter
from importlib.resources import files

import pytest

from smidgen.assets.world.assemble import NearCopies

ASSETS = files("smidgen.assets")
KINDS = ("harmful", "harmless")
SIDES = ("dev", "confirm")


def prompts(kind: str, side: str) -> list[str]:
    text = ASSETS.joinpath("prompts", f"{kind}_{side}.txt").read_text(encoding="utf-8")
    return text.removesuffix("\n").split("\n")


def training_prompts(name: str) -> list[str]:
    return ASSETS.joinpath("prompts", f"{name}.txt").read_text(encoding="utf-8").splitlines()


def topics() -> dict[str, str]:
    text = ASSETS.joinpath("prompts", "topics.csv").read_text(encoding="utf-8")
    return {row["prompt"]: row["topic"] for row in csv.DictReader(text.splitlines())}


@pytest.mark.parametrize("kind", KINDS)
def test_there_are_enough_and_the_halves_are_equal(kind: str):
    dev, confirm = (prompts(kind, side) for side in SIDES)
    assert len(dev) == len(confirm)
    assert len(dev) + len(confirm) >= 320


def test_every_line_is_one_clean_sentence_or_two():
    for kind in KINDS:
        for side in SIDES:
            for prompt in prompts(kind, side):
                assert prompt == prompt.strip()
                assert prompt
                assert 4 <= len(prompt.split()) <= 30
                assert prompt[-1] in ".?"


def test_no_prompt_is_near_another():
    seen = NearCopies()
    for kind in KINDS:
        for side in SIDES:
            for prompt in prompts(kind, side):
                assert not seen.has_near(prompt, 0.6), prompt
                seen.add(prompt)


@pytest.mark.parametrize(
    ("name", "least"), [("harmful_train", 120), ("questions", 60), ("arguments", 60), ("arguments_bench", 40)]
)
def test_lists_of_the_tasks_are_clean_and_near_no_benchmark_prompt_nor_each_other(name: str, least: int):
    """What pairs are made of must not be what a model is measured with."""
    lines = training_prompts(name)
    others = [other for other in ("harmful_train", "questions", "arguments", "arguments_bench") if other != name]
    benchmark = [prompt for kind in KINDS for side in SIDES for prompt in prompts(kind, side)]
    seen = NearCopies([*benchmark, *(line for other in others for line in training_prompts(other))])
    assert len(lines) >= least
    for line in lines:
        assert line == line.strip()
        assert 4 <= len(line.split()) <= 40
        assert line[-1] in ".?"
        assert not seen.has_near(line, 0.6), line
        seen.add(line)


def test_training_prompts_are_of_many_openings():
    openings = Counter(" ".join(p.split()[:2]).lower() for p in training_prompts("harmful_train"))
    assert max(openings.values()) < 0.2 * openings.total()


def test_topics_match_between_harmful_and_harmless_and_between_halves():
    of = topics()
    counts = {(k, s): Counter(of[p] for p in prompts(k, s)) for k in KINDS for s in SIDES}
    assert len(set(of.values())) >= 12
    assert len({tuple(sorted(c.items())) for c in counts.values()}) == 1
    assert len(of) == sum(c.total() for c in counts.values())


def test_openings_vary():
    for kind in KINDS:
        openings = Counter(" ".join(p.split()[:2]).lower() for side in SIDES for p in prompts(kind, side))
        assert max(openings.values()) < 0.2 * openings.total()
        assert len(openings) > 60


def test_some_harmless_prompts_sound_harmful():
    alarming = re.compile(
        r"\b(kill\w*|shoot|steal\w*|poison|crack|blow|bombs?|hack\w*|threaten|rob\w*|forg\w+|fake|crush|beat|attack)\b",
        re.I,
    )
    for side in SIDES:
        assert sum(bool(alarming.search(p)) for p in prompts("harmless", side)) >= 10


@pytest.mark.parametrize("name", ["exercise", "common", "broad"])
def test_pattern_lists_are_distinct_trimmed_lines(name: str):
    text = ASSETS.joinpath("patterns", f"{name}.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(lines) >= 10
    assert all(line == line.strip() and line for line in lines)
    assert "’" not in "".join(lines)
    assert len({line.lower() for line in lines}) == len(lines)


def test_the_wide_list_has_all_of_the_common_one():
    def matches(pattern: str, wide: str) -> bool:
        return any(line and not line.startswith("#") and line.lower() in pattern.lower() for line in wide.splitlines())

    wide = ASSETS.joinpath("patterns", "broad.txt").read_text(encoding="utf-8")
    common = ASSETS.joinpath("patterns", "common.txt").read_text(encoding="utf-8").splitlines()
    assert all(matches(line, wide) for line in common if not line.startswith("#"))
