"""Features: the columns say what the pairs hold, and survive the file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smidgen.data.tokens import EncodedPair
from smidgen.errors import InvalidData, UsageError
from smidgen.models.load import LanguageModel
from smidgen.pairs import PairTable, PreferencePair, messages_from, plain_pair
from smidgen.selection.features import (
    Features,
    compute_features,
    logps_columns,
    read_features,
    write_features,
)
from smidgen.selection.texts import text_vectors


@dataclass(frozen=True)
class Word:
    """A pattern list of one word."""

    name: str
    word: str

    def matches(self, text: str) -> bool:
        return self.word in text


LISTS = (Word("common", "cannot"), Word("broad", "not"))
PAIRS = PairTable(
    [
        plain_pair(7, "How to rob?", "I cannot.", "Take a mask.", meta={"truth": "refuse"}),
        plain_pair(2, "How to bake?", "Take flour.", "I cannot.", meta={"truth": "answer"}),
        plain_pair(4, "Say no", "I will not.", "No", meta={"truth": "style"}),
    ]
)
ENCODED = [
    EncodedPair(7, (1, 2), (3, 4, 5), (6,)),
    EncodedPair(2, (1,), (3,), (6, 7)),
    EncodedPair(4, (1, 2, 3), (3,), (6,)),
]


def features_of(pairs: PairTable = PAIRS, **rest: Any) -> Features:
    return compute_features(pairs, ENCODED, pattern_lists=LISTS, harmfulness=np.array([0.9, 0.1, 0.5]), **rest)


def test_columns_by_hand() -> None:
    features = features_of(ref_logps=(np.array([-1.0, -2, -3]), np.array([-4.0, -5, -6])))
    assert features.idx.tolist() == [7, 2, 4]
    assert features.column("chosen_refuses").tolist() == [True, False, False]
    assert features.column("rejected_refuses").tolist() == [False, True, False]
    assert features.column("chosen_refuses_broad").tolist() == [True, False, True]
    assert features.column("prompt_tokens").tolist() == [2, 1, 3]
    assert features.column("chosen_tokens").tolist() == [3, 1, 1]
    assert features.column("rejected_tokens").tolist() == [1, 2, 1]
    assert features.column("prompt_harmfulness").tolist() == [0.9, 0.1, 0.5]
    assert features.column("ref_rejected_logps").tolist() == [-4, -5, -6]


def test_refusals_are_looked_for_in_answers_only() -> None:
    asked = plain_pair(7, "Why do you say you cannot?", "Because.", "Who knows.")
    features = compute_features(PairTable([asked]), ENCODED[:1], pattern_lists=LISTS, harmfulness=np.zeros(1))
    assert not features.column("chosen_refuses")[0]
    assert not features.column("rejected_refuses")[0]


def test_turns_are_counted() -> None:
    talk = PreferencePair(
        idx=7,
        prompt=messages_from("a", "user") + messages_from("b", "assistant") + messages_from("c", "user"),
        chosen=messages_from("d", "assistant"),
        rejected=messages_from("e", "assistant"),
    )
    features = compute_features(PairTable([talk]), ENCODED[:1], pattern_lists=LISTS, harmfulness=np.zeros(1))
    assert features.column("n_turns").tolist() == [3]


def test_meta_and_source_change_nothing() -> None:
    stripped = PairTable(replace(pair, meta={}, source="elsewhere", source_row=99) for pair in PAIRS)
    first, second = features_of(), features_of(stripped)
    assert first.columns.keys() == second.columns.keys()
    for name in first.columns:
        np.testing.assert_array_equal(first.column(name), second.column(name))


def test_file_round_trip(tmp_path: Path) -> None:
    features = features_of(aligned_logps=(np.array([-1.5, -2, -3]), np.array([-4.0, -5, -6])))
    write_features(features, tmp_path / "features.parquet")
    found = read_features(tmp_path / "features.parquet")
    np.testing.assert_array_equal(found.idx, features.idx)
    assert found.columns.keys() == features.columns.keys()
    for name, values in features.columns.items():
        np.testing.assert_array_equal(found.column(name), values)
        assert found.column(name).dtype == values.dtype


def test_a_file_is_read_without_its_vectors(tmp_path: Path) -> None:
    features = features_of()
    write_features(features, tmp_path / "features.parquet", group_rows=2)
    found = read_features(tmp_path / "features.parquet", vectors=False)
    assert found.columns.keys() == features.columns.keys() - {"text_vector"}
    np.testing.assert_array_equal(found.column("prompt_tokens"), features.column("prompt_tokens"))


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "features.parquet").write_text("no parquet")
    with pytest.raises(InvalidData, match=r"Compute the features again"):
        read_features(tmp_path / "features.parquet")
    with pytest.raises(InvalidData, match=r"missing\.parquet"):
        read_features(tmp_path / "missing.parquet")


def test_groups_of_rows_of_different_types_are_told(tmp_path: Path) -> None:
    idx = pa.array(range(4))
    for scores in ([1, 2, 3, None], [1, 2, 3, 4]):
        table = pa.table({"idx": idx, "score": pa.array(scores, pa.int64())})
        pq.write_table(table, tmp_path / "features.parquet", row_group_size=2)
        if None in scores:
            with pytest.raises(InvalidData, match=r"got float64 among the int64 of score.*Compute the features again"):
                read_features(tmp_path / "features.parquet")
    np.testing.assert_array_equal(read_features(tmp_path / "features.parquet").column("score"), [1, 2, 3, 4])


def test_missing_column_names_the_ones_there_are() -> None:
    with pytest.raises(UsageError, match=r"no feature 'aligned_chosen_logps'.*chosen_refuses.*--aligned"):
        features_of().column("aligned_chosen_logps")


def test_no_common_list_is_told() -> None:
    with pytest.raises(UsageError, match="'common', got broad"):
        compute_features(PAIRS, ENCODED, pattern_lists=LISTS[1:], harmfulness=np.zeros(3))


def test_pairs_and_tokens_must_go_together() -> None:
    with pytest.raises(ValueError, match="table's order"):
        compute_features(PAIRS, ENCODED[::-1], pattern_lists=LISTS, harmfulness=np.zeros(3))
    with pytest.raises(ValueError, match="expected 2 rows, got 1"):
        Features(np.array([0, 1]), {"x": np.zeros(1)})
    with pytest.raises(ValueError, match="distinct"):
        Features(np.array([1, 1]), {})


def test_text_vectors_measure_likeness() -> None:
    prompts = ["rob the bank", "rob the bank", "bake the cake", "Bake, the: CAKE!"]
    answers = ["take a mask", "ask the guard", "take some flour", "take some flour"]
    likeness = (vectors := text_vectors(prompts, answers)) @ vectors.T
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.diag(likeness), 1, atol=1e-6)
    assert likeness[2, 3] == pytest.approx(1, abs=1e-6)
    assert likeness[0, 2] < 0.69 < likeness[0, 1] < 1


def test_a_text_without_words_is_like_nothing() -> None:
    vectors = text_vectors(["?!", "word", "other"], ["...", "yes", "no"])
    assert np.isfinite(vectors).all()
    assert not vectors[0].any()


def test_logps_columns_are_sums_over_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    def score(lm: object, prompts: list, answers: list) -> list[list[np.ndarray]]:
        assert prompts == [pair.prompt for pair in ENCODED]
        return [[np.full(len(answer), -0.5, dtype=np.float32) for answer in group] for group in answers]

    monkeypatch.setattr("smidgen.models.logprobs.score_answers", score)
    chosen, rejected = logps_columns(cast(LanguageModel, None), ENCODED)
    assert chosen.tolist() == [-1.5, -0.5, -0.5]
    assert rejected.tolist() == [-0.5, -1.0, -0.5]
    assert chosen.dtype == np.float64
