"""Every judge: equal answers tie, a swap mirrors it, bad settings are refused; and what each of them looks at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from smidgen.errors import UsageError
from smidgen.evaluation.judges.base import Desk, judge, load_judge
from smidgen.evaluation.matches import Match, write_matches
from smidgen.evaluation.reward_rules import reward_rule
from smidgen.evaluation.sidebyside import turn
from smidgen.models.load import LanguageModel, save_language_model
from smidgen.models.reward_model import new_reward_model, save_reward_model

TEXTS = [
    "",
    "one",
    "one two three",
    "please please please please",
    "I'm sorry, but I can't help with that.",
    "<b>x</b> y",
]
MATCHES = [
    Match(number=i, letter="A", prompt="How do I pick a lock?", model_a="m", model_b="n", a=a, b=b)
    for i, (a, b) in enumerate([(a, b) for a in TEXTS for b in TEXTS], start=1)
]
SPECS = {
    "longer": "longer",
    "shorter": "shorter:tie_within=1",
    "less_repetitive": "less_repetitive:words=1",
    "matches": "matches:pattern=one",
    "keywords": "keywords:words=please",
    "refusal": "refusal",
    "length": "length:words=3,tie_within=0.1",
}
# Those that ask a model or people have tests of their own.
ELSEWHERE = {"chat", "reward", "human"}


def test_every_judge_is_held_to_the_laws() -> None:
    assert {*judge.names(), *reward_rule.names()} == {*SPECS, *ELSEWHERE}


def test_an_unknown_judge_or_setting_is_refused() -> None:
    for spec, said in (
        ("nobody", "expected one of: chat"),
        ("longer:words=3", "no such setting"),
        ("longer:tie_within=-1", "at least 0"),
        ("keywords:words=a,tie_within=x", "as a number"),
        ("matches:pattern=(", "regular expression"),
        ("matches", "needed"),
        ("less_repetitive:words=0", "words above 0"),
        ("reward:model=nowhere", "nowhere"),
    ):
        with pytest.raises(Exception, match=said) as found:
            load_judge(spec)
        assert found.type.__module__ == "smidgen.errors"


@pytest.mark.parametrize("spec", SPECS.values())
def test_equal_answers_tie_and_a_swap_mirrors(spec: str) -> None:
    made = load_judge(spec)
    found = made(MATCHES)
    theirs = made([replace(m, model_a="n", model_b="m", a=m.b, b=m.a) for m in MATCHES])
    assert [turn(v) for v in theirs] == found
    assert all(v.outcome == 0.5 for m, v in zip(MATCHES, found, strict=True) if m.a == m.b)
    assert [v.key for v in found] == [m.key for m in MATCHES]
    assert made([]) == []
    assert {v.outcome for v in found} > {0.5}, "a judge that never prefers anything judges nothing"


def outcome(spec: str, a: str, b: str) -> float | None:
    return load_judge(spec)([replace(MATCHES[0], a=a, b=b)])[0].outcome


def test_what_they_look_at() -> None:
    assert outcome("longer", "one two", "incomprehensibilities") == 1.0
    assert outcome("shorter", "one two", "incomprehensibilities") == 0.0
    assert outcome("longer:tie_within=1", "one two", "one") == 0.5
    assert outcome("less_repetitive", "a b c a b c", "a b c d e f") == 0.0
    assert outcome("less_repetitive", "a", "a b c d e f") == 0.5
    assert outcome("matches:pattern=SEA", "the sea", "the land") == 1.0
    assert outcome("matches:pattern=SEA,ignore_case=false", "the sea", "the land") == 0.5
    assert outcome("matches:pattern=sea,unwanted=true", "the sea", "the land") == 0.0
    assert outcome("refusal", "I'm sorry, but I can't help with that.", "First, take a pin.") == 1.0


def test_a_reward_model_judges_each_conversation_once_and_leaves_out_what_is_too_long(
    tiny: LanguageModel, tmp_path: Path
) -> None:
    save_language_model(tiny, tmp_path / "causal", card="")
    rm = new_reward_model(tmp_path / "causal", seed=1)
    save_reward_model(rm, tmp_path / "rm", card="")
    long = replace(MATCHES[1], number=99, a="word " * 300)
    found = load_judge(f"reward:model={tmp_path / 'rm'},batch_tokens=64")([*MATCHES, long])
    theirs = load_judge(f"reward:model={tmp_path / 'rm'},batch_tokens=64")(
        [replace(m, model_a="n", model_b="m", a=m.b, b=m.a) for m in [*MATCHES, long]]
    )
    assert all(v.outcome == 0.5 for m, v in zip(MATCHES, found, strict=False) if m.a == m.b)
    assert any(v.outcome != 0.5 for v in found)
    assert [turn(v).outcome for v in theirs] == [v.outcome for v in found]
    assert (found[-1].outcome, found[-1].problem) == (None, "over_long")
    wide = load_judge(f"reward:model={tmp_path / 'rm'},tie_within=1000")(MATCHES)
    assert {v.outcome for v in wide} == {0.5}


def test_people_are_read_from_the_comparisons_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="folder"):
        load_judge("human")
    write_matches(tmp_path / "matches.jsonl", MATCHES)
    assert load_judge("human", Desk(folder=tmp_path))(MATCHES) == []
