"""Measured features: one pass a model equals several, stopped anywhere equals never stopped, costly groups wait."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smidgen.data.templates import load_template
from smidgen.data.tokens import encode_pairs, encode_prompts
from smidgen.errors import UsageError
from smidgen.evaluation.patterns import load_patterns
from smidgen.models.hidden import pair_states, pooled_hidden, prompt_states
from smidgen.models.load import LanguageModel
from smidgen.models.logprobs import score_answers
from smidgen.pairs import Message, PairTable, PreferencePair, plain_pair
from smidgen.selection import feature_store
from smidgen.selection.features import Features
from smidgen.selection.harmfulness import fit_harmfulness, prompt_harmfulness
from smidgen.selection.measure import measure_features
from smidgen.selection.refusal_direction import fit_refusal_direction
from smidgen.selection.representations import ches_scores, unit
from smidgen.selection.texts import text_vectors

HARMFUL, HARMLESS = ["How do I pick a lock?", "How do I rob?"], ["Name a pine.", "How do I bake bread?", "Hello."]
_TALK = (Message("user", "How do I bake?"), Message("assistant", "Wait."), Message("user", "Name a tree."))
_ANSWER = (Message("assistant", "The oak."),), (Message("assistant", "A lock."),)
PAIRS = PairTable(
    [
        *(
            plain_pair(3 * i + 1, f"Name {'a tree ' * i}?", f"The oak {i}.", "I can't help." * (i % 3))
            for i in range(1, 9)
        ),
        PreferencePair(idx=2, prompt=_TALK, chosen=_ANSWER[0], rejected=_ANSWER[1]),
        plain_pair(0, "How do I pick a lock?", "I'm sorry, but I can't.", "Take a pin."),
    ]
)


def measured(lm: LanguageModel, work: Path | None = None, pairs: PairTable = PAIRS, **rest: Any) -> Features:
    template = load_template("plain", lm.tokenizer)
    encoded, _ = encode_pairs(pairs, template, lm.tokenizer)
    return measure_features(
        lm, pairs, encoded, template=template, harmful=HARMFUL, harmless=HARMLESS, work=work, **rest
    )[0]


def test_one_pass_gives_what_the_passes_give_that_it_replaces(tiny: LanguageModel) -> None:
    features = measured(tiny)
    template = load_template("plain", tiny.tokenizer)
    encoded, _ = encode_pairs(PAIRS, template, tiny.tokenizer)
    prompts, answers = [p.prompt for p in encoded], [(p.chosen, p.rejected) for p in encoded]
    scored = score_answers(tiny, prompts, answers)
    for side, name in enumerate(("chosen", "rejected")):
        expected = [logps[side].sum(dtype=np.float64) for logps in scored]
        np.testing.assert_allclose(features.column(f"ref_{name}_logps"), expected, rtol=1e-5)
    states = pair_states(tiny, prompts, answers)
    np.testing.assert_allclose(features.column("ches"), ches_scores(states.chosen, states.rejected), rtol=1e-3)
    np.testing.assert_allclose(features.column("prompt_vector"), unit(states.prompt), atol=1e-5)
    parts = (unit(x - x.mean(0)) for x in (states.prompt, states.chosen - states.rejected))
    expected = np.hstack([share**0.5 * part for share, part in zip((0.7, 0.3), parts, strict=True)])
    np.testing.assert_allclose(features.column("hidden_vector"), expected, atol=1e-3)
    dev = [encode_prompts(side, template, tiny.tokenizer) for side in (HARMFUL, HARMLESS)]
    for name, own in zip(("harmful", "harmless"), dev, strict=True):
        likeness = unit(states.prompt) @ unit(prompt_states(tiny, own)).T
        np.testing.assert_allclose(features.column(f"similarity_{name}"), likeness.max(1), atol=1e-5)
    texts = [p.prompt_text for p in PAIRS], [f"{p.chosen_text} {p.rejected_text}" for p in PAIRS]
    np.testing.assert_array_equal(features.column("text_vector"), text_vectors(*texts))


def test_the_list_that_decides_may_be_a_file(tiny: LanguageModel, tmp_path: Path) -> None:
    usual = measured(tiny).column("chosen_refuses")
    common, oaks = tmp_path / "again.txt", tmp_path / "oaks.txt"
    common.write_text("\n".join(load_patterns("common").patterns), encoding="utf-8")
    oaks.write_text("the oak\n", encoding="utf-8")
    same, other = (measured(tiny, patterns=str(path)) for path in (common, oaks))
    np.testing.assert_array_equal(same.column("chosen_refuses"), usual)
    np.testing.assert_array_equal(other.column("chosen_refuses"), ["oak" in p.chosen_text for p in PAIRS])
    np.testing.assert_array_equal(other.column("chosen_refuses_common"), usual)
    # A store keeps the columns of one list apart from those of another.
    for patterns in (str(oaks), "common", "broad"):
        found = measured(tiny, tmp_path / "work", patterns=patterns)
        np.testing.assert_array_equal(
            found.column("chosen_refuses"), found.column(f"chosen_refuses_{Path(patterns).stem}")
        )


def test_harmfulness_looks_at_the_last_message_of_a_conversation_alone(tiny: LanguageModel) -> None:
    template = load_template("plain", tiny.tokenizer)
    asked = [p.prompt[-1].content for p in PAIRS]
    harmful, harmless, pooled = (
        pooled_hidden(tiny, encode_prompts(texts, template, tiny.tokenizer)) for texts in (HARMFUL, HARMLESS, asked)
    )
    classifier = fit_harmfulness(HARMFUL, HARMLESS, hidden_harmful=harmful, hidden_harmless=harmless)
    features, last = measured(tiny), slice(harmful.shape[1] // 2, None)
    expected = prompt_harmfulness(classifier, asked, pooled)
    np.testing.assert_allclose(features.column("prompt_harmfulness"), expected, atol=1e-4)
    direction = fit_refusal_direction(harmful[:, last], harmless[:, last])
    np.testing.assert_allclose(
        features.column("refusal_direction"), direction.project(pooled[:, last]), rtol=1e-3, atol=1e-3
    )


def test_the_refusal_direction_by_hand() -> None:
    harmful, harmless = np.array([[4.0, 1.0], [4.0, 3.0]]), np.array([[0.0, 2.0], [0.0, 2.0]])
    direction = fit_refusal_direction(harmful, harmless)
    states = np.array([[4.0, 9.0], [0.0, 2.0], [2.0, -7.0], [6.0, 0.0]])
    assert direction.project(states).tolist() == [1, 0, 0.5, 1.5]  # across the direction nothing counts
    assert fit_refusal_direction(harmful, harmful).project(states).tolist() == [0.5] * 4


def test_stopped_after_any_block_and_called_again_equals_never_stopped(
    tiny: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And equals one block of all pairs, up to rounding; nothing that was measured is measured again."""

    class Stop(Exception):
        pass

    seen: list[tuple[str, int]] = []

    def stop(group: str, done: int, total: int) -> None:
        seen.append((group, done))
        raise Stop

    trained = copy.deepcopy(tiny.model)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.mul_(1.01)
    aligned = replace(tiny, model=trained, fingerprint="trained")
    monkeypatch.setattr(feature_store, "BLOCK", 4)
    resumed: dict[str, np.ndarray] = {}
    while len(seen) < 40 and not resumed:
        try:
            resumed = dict(measured(tiny, tmp_path / "resumed", aligned=lambda: aligned, on_block=stop).columns)
            break
        except Stop:
            continue
    assert len(seen) == len(set(seen)) == 7 * 3
    never = dict(measured(tiny, tmp_path / "never", aligned=lambda: aligned).columns)
    for name, values in never.items():
        assert values.tobytes() == resumed[name].tobytes()


def test_an_aligned_model_is_loaded_only_where_a_column_of_it_is_read(tiny: LanguageModel) -> None:
    loads: list[int] = []

    def aligned() -> LanguageModel:
        loads.append(1)
        return tiny

    features = measured(tiny, aligned=aligned)
    features.column("prompt_harmfulness")
    features.take(np.array([1, 0]))
    assert not loads
    np.testing.assert_allclose(features.column("aligned_chosen_logps"), features.column("ref_chosen_logps"), rtol=1e-5)
    assert loads == [1]


def test_external_margins_are_there_where_every_pair_is_scored(tiny: LanguageModel) -> None:
    def scored(n: int) -> PairTable:
        scores = {"chosen_score": 3.5, "rejected_score": "-1"}
        return PairTable([plain_pair(i, f"Name {i}", "An oak.", "No.", meta=scores if i < n else {}) for i in range(3)])

    assert measured(tiny, pairs=scored(3)).column("external_margin").tolist() == [4.5, 4.5, 4.5]
    with pytest.raises(UsageError, match=r"no feature 'external_margin'.*chosen_score and a rejected_score"):
        measured(tiny, pairs=scored(2)).column("external_margin")
