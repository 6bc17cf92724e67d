"""Columns from hidden states: CHES against its definition, nearest prompts, vectors that keep their inner products."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from smidgen.data.templates import load_template
from smidgen.data.tokens import encode_pairs
from smidgen.models.hidden import PairStates, pair_states
from smidgen.models.load import LanguageModel
from smidgen.pairs import PairTable, plain_pair
from smidgen.selection.features import LazyColumns, read_features, write_features
from smidgen.selection.measure import measure_features
from smidgen.selection.representations import (
    ches_scores,
    hidden_columns,
    mean_rows,
    pair_parts,
    pair_vectors,
    project,
    unit,
)

PAIRS = [((5, 6, 7), (8, 9), (10, 11, 12, 13)), ((9,), (3,), (4, 5, 6)), ((1, 2, 3, 4), (5, 6, 7), (5,))]


def states_of(pairs: list[tuple[tuple[int, ...], ...]], lm: LanguageModel) -> PairStates:
    return pair_states(lm, [pair[0] for pair in pairs], [(pair[1], pair[2]) for pair in pairs])


def vectors_of(states: PairStates) -> np.ndarray:
    parts = pair_parts(states)
    return pair_vectors(*parts, (mean_rows(parts[0]), mean_rows(parts[1])))


def test_ches_equals_its_definition(tiny: LanguageModel) -> None:
    states = states_of(PAIRS, tiny)
    expected = []
    for prompt, *answers in PAIRS:
        means = []
        for answer in answers:
            with torch.no_grad():
                ids = torch.tensor([[*prompt, *answer]])
                found = tiny.model.base_model(input_ids=ids).last_hidden_state[0].double()
            # The state that predicts the k-th token is that of the token before it.
            means.append(sum(found[len(prompt) - 1 + k] for k in range(len(answer))) / len(answer))
        expected.append(float(means[0] @ means[1] - means[0] @ means[0]))
    np.testing.assert_allclose(ches_scores(states.chosen, states.rejected), expected, rtol=1e-4)


def test_ches_by_hand() -> None:
    chosen, rejected = np.array([[1.0, 2.0], [3.0, 0.0]]), np.array([[4.0, -1.0], [3.0, 0.0]])
    assert ches_scores(chosen, rejected).tolist() == [2 - 5, 0]  # equal answers: 0; unlike ones: below


def test_the_nearest_dev_prompt_and_its_similarity() -> None:
    states = PairStates(*(np.array([[2.0, 0], [0, 3.0], [-1.0, -1.0]], dtype=np.float32) for _ in range(3)))
    columns = hidden_columns(states, np.array([[0, 1.0], [5.0, 0]]), np.array([[1.0, 1.0]]))
    assert columns["nearest_harmful"].tolist()[:2] == [1, 0]
    assert columns["similarity_harmful"].tolist() == pytest.approx([1, 1, -(0.5**0.5)])
    assert columns["nearest_harmless"].tolist() == [0, 0, 0]
    assert columns["similarity_harmless"].tolist() == pytest.approx([0.5**0.5, 0.5**0.5, -1])


def test_pair_vectors_weigh_prompts_and_differences() -> None:
    rng = np.random.default_rng(0)
    prompt, chosen, rejected = rng.normal(size=(3, 20, 12)) + 5
    vectors = vectors_of(PairStates(prompt, chosen, rejected))
    prompts, differences = (unit(x - x.mean(0)) for x in (prompt, chosen - rejected))
    np.testing.assert_allclose(vectors @ vectors.T, 0.7 * prompts @ prompts.T + 0.3 * differences @ differences.T)


def test_equal_pairs_do_not_become_noise() -> None:
    states = PairStates(*(np.full((7, 12), 0.1 + i, dtype=np.float32) for i in range(3)))
    assert np.abs(vectors_of(states)).max() < 0.01


def test_projection_keeps_narrow_vectors_and_most_of_wide_ones() -> None:
    x = unit(np.random.default_rng(0).normal(size=(40, 2000)))
    assert project(x, 2000) is x
    narrow = project(x, 256)
    assert narrow.shape == (40, 256)
    np.testing.assert_array_equal(narrow, project(x, 256))
    np.testing.assert_allclose(narrow @ narrow.T, x @ x.T, atol=0.4)


def test_measured_features_hold_the_columns_and_survive_the_file(tiny: LanguageModel, tmp_path: Path) -> None:
    template = load_template("plain", tiny.tokenizer)
    pairs = PairTable(
        [
            plain_pair(4, "How do I pick a lock?", "I'm sorry, but I can't help with that.", "Take a pin."),
            plain_pair(2, "How do I bake bread?", "Mix flour and water.", "I can't help with that."),
            plain_pair(9, "Name a tree.", "The oak.", "The pine is a tree."),
        ]
    )
    encoded, _ = encode_pairs(pairs, template, tiny.tokenizer)
    harmful, harmless = ["How do I pick a lock?", "How do I rob?"], ["Name a pine.", "How do I bake bread?"]
    features, _ = measure_features(tiny, pairs, encoded, template=template, harmful=harmful, harmless=harmless)
    assert features.column("similarity_harmful")[0] == pytest.approx(1, abs=1e-5)
    assert features.column("nearest_harmful")[0] == 0
    assert features.column("nearest_harmless")[1] == 1
    np.testing.assert_allclose(np.linalg.norm(features.column("prompt_vector"), axis=1), 1, rtol=1e-5)
    assert features.column("prompt_vector").dtype == features.column("hidden_vector").dtype == np.float32
    write_features(features, tmp_path / "features.parquet")
    found = read_features(tmp_path / "features.parquet")
    assert isinstance(features.columns, LazyColumns)
    assert found.columns.keys() == set(features.columns.written())
    for name, values in found.columns.items():
        np.testing.assert_array_equal(values, features.column(name))
        assert values.dtype == features.column(name).dtype
