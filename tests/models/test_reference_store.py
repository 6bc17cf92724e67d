"""A stored reference value is the computed one, and is never computed twice."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smidgen.errors import SmidgenError
from smidgen.models.load import LanguageModel, language_model
from smidgen.models.logprobs import score_answers
from smidgen.models.reference_store import ReferenceStore

PROMPTS = [(5, 6, 7), (9,)]
ANSWERS = [[(10, 11, 0), (12, 0)], [(3, 4, 5, 6, 0), (7, 0)]]


def flat(groups: list[list[np.ndarray]]) -> np.ndarray:
    return np.concatenate([values for group in groups for values in group])


def test_stored_equals_live_and_order_does_not_matter(tiny: LanguageModel, tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path / "reference.sqlite")
    live = score_answers(tiny, PROMPTS, ANSWERS)
    np.testing.assert_array_equal(flat(store.logps(tiny, PROMPTS, ANSWERS)), flat(live))
    again = store.logps(tiny, PROMPTS[::-1], ANSWERS[::-1])
    np.testing.assert_array_equal(flat(again[::-1]), flat(live))


def test_nothing_is_computed_twice_but_other_weights_are_other_values(tiny: LanguageModel, tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path / "reference.sqlite")
    before = flat(store.logps(tiny, PROMPTS, ANSWERS))
    computed = []

    def counted(lm: LanguageModel, prompts: list, answers: list, **settings: Any) -> list:
        computed.append(len(prompts))
        return score_answers(lm, prompts, answers, **settings)

    ReferenceStore(tmp_path / "reference.sqlite").logps(tiny, PROMPTS[1:], ANSWERS[1:], score=counted)
    assert computed == []
    with torch.no_grad():
        for parameter in tiny.model.parameters():
            parameter.mul_(1.1)
    changed = language_model(tiny.model, tiny.tokenizer)
    assert np.abs(flat(store.logps(changed, PROMPTS, ANSWERS, score=counted)) - before).max() > 1e-4
    assert computed == [2]


def test_writers_beside_each_other_agree(tiny: LanguageModel, tmp_path: Path) -> None:
    path = tmp_path / "reference.sqlite"
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: flat(ReferenceStore(path).logps(tiny, PROMPTS, ANSWERS)), range(8)))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("damage", ["x'00000000'", "x'00' || substr(value, 2)", "substr(value, 1, 5)", "''"])
def test_a_damaged_value_is_found(tiny: LanguageModel, tmp_path: Path, damage: str) -> None:
    store = ReferenceStore(tmp_path / "reference.sqlite")
    store.logps(tiny, PROMPTS, ANSWERS)
    with sqlite3.connect(tmp_path / "reference.sqlite") as connection:
        connection.execute(f"UPDATE logps SET value = CAST({damage} AS BLOB)")
    with pytest.raises(SmidgenError, match="damaged"):
        store.logps(tiny, PROMPTS, ANSWERS)


def test_values_computed_in_another_type_are_other_values(tiny: LanguageModel, tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path / "reference.sqlite")
    exact = flat(store.logps(tiny, PROMPTS, ANSWERS))
    rough = flat(store.logps(tiny, PROMPTS, ANSWERS, dtype="bfloat16"))
    assert 0 < np.abs(rough - exact).max() < 0.1
    np.testing.assert_array_equal(flat(store.logps(tiny, PROMPTS, ANSWERS)), exact)


@pytest.mark.parametrize("damage", ["no database", "cut"])
def test_a_file_that_is_no_database_says_what_to_do(tiny: LanguageModel, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "reference.sqlite"
    store = ReferenceStore(path)
    store.logps(tiny, PROMPTS, ANSWERS)
    whole = path.read_bytes()
    path.write_bytes(b"notes of last summer " * 99 if damage == "no database" else whole[:-4096] + bytes(4096))
    with pytest.raises(SmidgenError, match=r"expected stored reference.*got .*Delete the file"):
        ReferenceStore(path).logps(tiny, PROMPTS, ANSWERS)
