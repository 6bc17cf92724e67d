"""What every registered selector obeys, at every choice of its settings."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest

from smidgen.errors import InvalidData, UsageError
from smidgen.selection.features import Features
from smidgen.selection.selectors import Selection, selector, top
from smidgen.settings import settings_model


def choices(function: Callable[..., Any]) -> Iterator[dict[str, Any]]:
    """Every combination of the settings that have finitely many values; the others stay at their defaults."""
    finite = {}
    for name, field in settings_model(function).model_fields.items():
        if field.annotation is bool:
            finite[name] = [False, True]
        elif get_origin(field.annotation) is Literal:
            finite[name] = list(get_args(field.annotation))
    for values in itertools.product(*finite.values()):
        yield dict(zip(finite, values, strict=True))


# Selectors that rank with another one.
COMPOSED = [
    (selector.get("ches_filter"), {"keep": 0.7, "then": "contrast"}),
    (selector.get("ches_filter"), {"then": "stratified:by=kind;then=length"}),
    (selector.get("stratified"), {"by": "length", "then": "margin_band:band=low;signed=false"}),
    (selector.get("stratified"), {"by": "kind", "then": "facility_location"}),
]
CASES = [
    pytest.param(function, settings, id=f"{function.__name__}-{'-'.join(map(str, settings.values()))}")
    for function, settings in [*((f, settings) for f in selector for settings in choices(f)), *COMPOSED]
]


def random_features(seed: int = 0, n: int = 120) -> Features:
    """Pairs of every kind, with idx that are neither sorted nor gapless, and ties in every column."""
    rng = np.random.default_rng(seed)
    chosen, rejected = rng.random((2, n)) < 0.5
    columns = {
        "chosen_refuses": chosen,
        "rejected_refuses": rejected,
        "chosen_refuses_common": chosen,
        "rejected_refuses_common": rejected,
        "chosen_refuses_broad": chosen | (rng.random(n) < 0.2),
        "rejected_refuses_broad": rejected | (rng.random(n) < 0.2),
        "prompt_harmfulness": rng.integers(0, 11, n) / 10,
        "n_turns": np.ones(n, dtype=np.int64),
    }
    for part in ("prompt", "chosen", "rejected"):
        columns[f"{part}_tokens"] = rng.integers(3, 9, n)
    for model, side in itertools.product(("ref", "aligned"), ("chosen", "rejected")):
        columns[f"{model}_{side}_logps"] = -rng.integers(5, 15, n).astype(np.float64)
    vectors = np.abs(rng.normal(size=(n, 384))).astype(np.float32)
    vectors[n // 2 :] = vectors[: n - n // 2]
    columns["text_vector"] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for name in ("ches", "external_margin"):
        columns[name] = rng.integers(-4, 5, n).astype(np.float64)
    for name in ("harmful", "harmless"):
        columns[f"similarity_{name}"] = rng.integers(-10, 11, n) / 10
        columns[f"nearest_{name}"] = rng.integers(0, 7, n)
    for name in ("hidden_vector", "prompt_vector"):
        vectors = rng.normal(size=(n, 80)).astype(np.float32)
        vectors[n // 2 :] = vectors[: n - n // 2]
        columns[name] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = rng.normal(size=(n, 80))
    vectors[n // 2 :] = vectors[: n - n // 2]
    columns["gradient"] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    columns["gradient_norm"] = rng.integers(1, 5, n).astype(np.float64)
    columns["gradient_target"] = rng.integers(-9, 10, n).astype(np.float64)
    for name in ("gradient_cosine", "task_alignment", "less_harmful", "less_harmless", "datamodel"):
        columns[name] = rng.integers(-10, 11, n) / 10
    return Features(rng.permutation(3 * n)[:n].astype(np.int64), columns)


class Watched(dict):
    """Columns that remember which of them were asked for."""

    def __init__(self, columns: Mapping[str, np.ndarray]) -> None:
        super().__init__(columns)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> np.ndarray:
        self.read.add(name)
        return super().__getitem__(name)


def columns_read(function: Callable, settings: Mapping, features: Features) -> set[str]:
    watched = Watched(features.columns)
    function(Features(features.idx, watched), 3, **settings)
    return watched.read


def assert_lawful(function: Callable, settings: Mapping, features: Features) -> None:
    """What holds of any features, those with nothing to choose from too."""
    selection = function(features, 3, **settings)
    assert sorted(selection.order) == sorted(features.idx[selection.eligible])
    assert np.isfinite(selection.scores).all()
    assert len(selection.reasons) == len(features)
    backwards = function(features.take(np.arange(len(features))[::-1]), 3, **settings)
    np.testing.assert_array_equal(backwards.order, selection.order)


@pytest.mark.parametrize(("function", "settings"), CASES)
class TestEverySelector:
    def test_order_is_a_permutation_of_the_eligible(self, function: Callable, settings: Mapping) -> None:
        features = random_features()
        selection = function(features, 3, **settings)
        assert len(selection.order) > 0
        assert sorted(selection.order) == sorted(features.idx[selection.eligible])
        assert selection.eligible.dtype == bool
        assert selection.eligible.shape == selection.scores.shape == features.idx.shape

    def test_same_seed_same_answer(self, function: Callable, settings: Mapping) -> None:
        first, second = (function(random_features(), 3, **settings) for _ in range(2))
        np.testing.assert_array_equal(first.order, second.order)
        assert first.reasons == second.reasons

    def test_row_order_does_not_matter(self, function: Callable, settings: Mapping) -> None:
        features = random_features()
        plain = function(features, 3, **settings)
        for shuffle in (np.arange(len(features))[::-1], np.random.default_rng(5).permutation(len(features))):
            shuffled = function(features.take(shuffle), 3, **settings)
            np.testing.assert_array_equal(shuffled.order, plain.order)
            np.testing.assert_array_equal(shuffled.eligible, plain.eligible[shuffle])
            np.testing.assert_array_equal(shuffled.scores, plain.scores[shuffle])
            assert shuffled.reasons == [plain.reasons[i] for i in shuffle]

    def test_prefixes_are_nested(self, function: Callable, settings: Mapping) -> None:
        selection = function(random_features(), 3, **settings)
        sizes = [1, 2, 5, 10, len(selection.order)]
        for small, large in itertools.pairwise(sizes):
            np.testing.assert_array_equal(top(selection, small), top(selection, large)[:small])

    def test_a_reason_for_every_pair(self, function: Callable, settings: Mapping) -> None:
        features = random_features()
        selection = function(features, 3, **settings)
        assert len(selection.reasons) == len(features)
        assert all(selection.reasons)
        assert all(
            reason.startswith("left out") != kept
            for reason, kept in zip(selection.reasons, selection.eligible, strict=True)
        )

    def test_reads_only_features_never_a_label(self, function: Callable, settings: Mapping) -> None:
        features = random_features()
        labels = {name: np.arange(len(features)) for name in ("truth", "kind", "meta", "source")}
        read = columns_read(function, settings, Features(features.idx, {**features.columns, **labels}))
        assert not read & labels.keys()
        assert read <= features.columns.keys()

    def test_a_column_that_is_the_same_everywhere(self, function: Callable, settings: Mapping) -> None:
        features = random_features()
        for name in columns_read(function, settings, features):
            constant = np.repeat(features.columns[name][:1], len(features), axis=0)
            assert_lawful(function, settings, Features(features.idx, {**features.columns, name: constant}))

    def test_all_pairs_copies_of_one(self, function: Callable, settings: Mapping) -> None:
        features = random_features()
        for row in range(8):
            copies = features.take(np.array([row])).columns
            columns = {name: np.repeat(values, len(features), axis=0) for name, values in copies.items()}
            assert_lawful(function, settings, Features(features.idx, columns))

    def test_a_single_pair(self, function: Callable, settings: Mapping) -> None:
        for row in range(8):
            assert_lawful(function, settings, random_features().take(np.array([row])))

    def test_what_is_no_number_is_refused_by_name(self, function: Callable, settings: Mapping) -> None:
        features = random_features()
        for name in columns_read(function, settings, features):
            values = features.columns[name]
            if values.dtype.kind != "f":
                continue
            for bad in (np.nan, -np.inf):
                broken = values.copy()
                broken[[3, 50, 51]] = bad
                with pytest.raises(InvalidData, match=rf"'{name}'.*finite.*in 3 of 120 rows\. Leave"):
                    function(Features(features.idx, {**features.columns, name: broken}), 3, **settings)


def test_the_laws_can_fail() -> None:
    """A selector that goes by row number breaks the law of row order."""

    def by_row(features: Features, seed: int) -> Selection:
        n = len(features)
        return Selection(features.idx.copy(), np.ones(n, dtype=bool), np.zeros(n), ["row"] * n)

    with pytest.raises(AssertionError):
        TestEverySelector().test_row_order_does_not_matter(by_row, {})


def test_another_seed_draws_other_pairs() -> None:
    for name in ("random", "random_in_pool"):
        draws = [tuple(top(selector.get(name)(random_features(), seed), 10)) for seed in range(5)]
        assert len(set(draws)) == 5


@pytest.mark.parametrize("budget", [0, -1, 121])
def test_a_budget_beyond_the_eligible_says_how_many_there_are(budget: int) -> None:
    with pytest.raises(UsageError, match=f"from 1 to 120.*got {budget}"):
        top(selector.get("random")(random_features(), 0), budget)


def test_an_unknown_selector_lists_the_known() -> None:
    with pytest.raises(UsageError, match=", ".join(selector.names())):
        selector.get("best")


def test_the_page_on_selectors_has_a_row_for_each() -> None:
    page = (Path(__file__).parents[2] / "docs" / "selectors.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1].strip(" `") for line in page.splitlines() if line.startswith("|")]
    assert sorted(rows[2:]) == selector.names()
