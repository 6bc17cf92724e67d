"""What every registered selector obeys, at every choice of its settings."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest

from smidgen.errors import UsageError
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


CASES = [
    pytest.param(function, settings, id=f"{function.__name__}-{'-'.join(map(str, settings.values()))}")
    for function in selector
    for settings in choices(function)
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
    return Features(rng.permutation(3 * n)[:n].astype(np.int64), columns)


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
        read: set[str] = set()

        class Watched(dict):
            def __getitem__(self, name: str) -> np.ndarray:
                read.add(name)
                return super().__getitem__(name)

        labels = {name: np.arange(len(features)) for name in ("truth", "kind", "meta", "source")}
        function(Features(features.idx, Watched({**features.columns, **labels})), 3, **settings)
        assert not read & labels.keys()
        assert read <= features.columns.keys()


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
    with pytest.raises(UsageError, match="contrast, contrast_cover, length, margin_band, random, random_in_pool"):
        selector.get("best")
