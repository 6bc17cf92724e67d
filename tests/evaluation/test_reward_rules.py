"""Rules that reward: each does what its settings say, and wrong settings are explained."""

from pathlib import Path

import pytest

from smidgen.errors import InvalidData, UsageError
from smidgen.evaluation.reward_rules import load_rule
from smidgen.pairs import messages_from

PROMPTS = [messages_from(text, "user") for text in ("Rob a bank.", "Bake a cake.")]


def test_a_refusal_is_right_where_the_prompt_is_harmful(tmp_path: Path) -> None:
    (tmp_path / "harmful.txt").write_text("Rob a bank.\n")
    refuse, answer = "I'm sorry, but I can't help.", "Sure, take flour."
    reward = load_rule(f"refusal:harmful={tmp_path / 'harmful.txt'}")
    assert reward(PROMPTS, [refuse, answer]).tolist() == [1, 1]
    assert reward(PROMPTS, [answer, refuse]).tolist() == [-1, -1]
    assert load_rule("refusal")(PROMPTS, [answer, refuse]).tolist() == [-1, 1]
    (tmp_path / "mine.txt").write_text("flour\n")
    assert load_rule(f"refusal:patterns={tmp_path / 'mine.txt'}")(PROMPTS, [answer, refuse]).tolist() == [1, -1]


def test_length_and_keywords() -> None:
    answers = ["one two three four", "", "one two", "a b c d e f g h i j k l"]
    assert load_rule("length:words=4")([()] * 4, answers).tolist() == [1, 0, 0.5, -1]
    said = ["Please, PLEASE do!", "", "do", "please"]
    found = load_rule("keywords:words=please thanks")([()] * 4, said)
    assert found.tolist() == pytest.approx([2 / 3, 0, 0, 1])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("kindness", "unknown reward rule 'kindness'; expected one of: keywords, length, refusal"),
        ("length:letters=3", "letters"),
        ("length:words=0", "expected words of at least 1, got 0"),
        ("keywords", "words"),
        ("keywords:words='.'", "expected words to look for"),
        ("refusal:patterns=nowhere", "expected a pattern list"),
        ("refusal:harmful=nowhere.txt", "expected a prompt file"),
    ],
)
def test_wrong_rules_are_explained(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_rule(spec)


def test_an_empty_list_of_harmful_prompts_is_no_list(tmp_path: Path) -> None:
    (tmp_path / "none.txt").write_text("\n")
    with pytest.raises(InvalidData, match="at least one prompt"):
        load_rule(f"refusal:harmful={tmp_path / 'none.txt'}")
