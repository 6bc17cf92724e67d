"""The published selection methods: hand-worked values, and the greedy ones against their naive loops."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen.errors import UsageError
from smidgen.selection.features import Features
from smidgen.selection.kinds import kind_of
from smidgen.selection.neighbours import UNIT, neighbour_graph
from smidgen.selection.representations import unit
from smidgen.selection.selectors import selector
from smidgen.selection.selectors.base import random_keys
from smidgen.selection.selectors.d_optimal import spread_in_all_directions
from smidgen.selection.selectors.dual_margin import margin_probability
from smidgen.selection.selectors.facility_location import cover_sparsely
from smidgen.selection.selectors.hidden_retrieval import in_turns
from smidgen.selection.selectors.stratified import proportional


def scored(ref: list[float], aligned: list[float], **columns: list[float]) -> Features:
    """Pairs with these log-probabilities of chosen answers; rejected answers have -20 under both models."""
    n = len(ref)
    return Features(
        np.arange(n),
        {
            "ref_chosen_logps": np.array(ref),
            "aligned_chosen_logps": np.array(aligned),
            "ref_rejected_logps": np.full(n, -20.0),
            "aligned_rejected_logps": np.full(n, -20.0),
            **{name: np.array(values) for name, values in columns.items()},
        },
    )


def taught(kinds: str, **columns: np.ndarray) -> Features:
    """Pairs that teach refusing (r), answering (a), or nothing (o)."""
    letters = np.array(list(kinds))
    basic = {
        "chosen_refuses": letters == "r",
        "rejected_refuses": letters == "a",
        "prompt_harmfulness": np.where(letters == "r", 0.9, 0.1),
    }
    return Features(np.arange(len(letters)), {**basic, **columns})


class TestLearnability:
    def test_by_hand(self) -> None:
        # (10 - 5) / 10, (10 - 12) / 10, (4 - 1) / 4, and no loss to begin with.
        selection = selector.get("learnability")(scored([-10, -10, -4, 0], [-5, -12, -1, -3]), 0)
        assert selection.scores.tolist() == pytest.approx([0.5, -0.2, 0.75, 0])
        assert selection.order.tolist() == [2, 0, 3, 1]

    def test_without_an_aligned_model_it_says_what_to_give(self) -> None:
        with pytest.raises(UsageError, match=r"aligned_chosen_logps.*--aligned"):
            selector.get("learnability")(Features(np.arange(1), {"ref_chosen_logps": np.array([-1.0])}), 0)


class TestSelectiveDpo:
    def test_by_hand(self) -> None:
        # Margins h = 0, 20, -20, so losses at beta .1 are ln 2, ln(1 + e^-2), ln(1 + e^2).
        selection = selector.get("selective_dpo")(scored([-30, -30, -30], [-30, -10, -50]), 0)
        expected = [-math.log(2), -math.log(1 + math.exp(-2)), -math.log(1 + math.exp(2))]
        assert selection.scores.tolist() == pytest.approx(expected)
        assert selection.order.tolist() == [1, 0, 2]

    def test_beta_scales_the_margin(self) -> None:
        selection = selector.get("selective_dpo")(scored([-30.0], [-26.0]), 0, beta=0.5)
        assert selection.scores.tolist() == pytest.approx([-math.log(1 + math.exp(-2))])

    def test_beta_is_positive(self) -> None:
        with pytest.raises(UsageError, match=r"positive beta, got 0"):
            selector.get("selective_dpo")(scored([-1.0], [-1.0]), 0, beta=0)


class TestDualMargin:
    features = scored([-10] * 4, [-2, -6, -14, -10], external_margin=[1.0, 2.0, 2.0, -4.0])

    def test_by_hand(self) -> None:
        # h = 8, 4, -4, 0, so p = .99 (kept below 1), .75, .25, .5; external u = 4: p = .625, .75, .75, .01.
        selection = selector.get("dual_margin")(self.features, 0, clip_quantile=1.0)
        implicit, external = [0.99, 0.75, 0.25, 0.5], [0.625, 0.75, 0.75, 0.01]
        expected = [p * q / (p * q + (1 - p) * (1 - q)) for p, q in zip(implicit, external, strict=True)]
        assert expected == pytest.approx([165 / 166, 0.9, 0.5, 0.01])
        assert selection.scores.tolist() == pytest.approx(expected)
        assert selection.order.tolist() == [0, 1, 2, 3]

    def test_margins_beyond_the_quantile_count_as_equal(self) -> None:
        found = margin_probability(np.array([1.0, -2.0, 3.0, 100.0, 50.0]), 0.5)
        assert found.tolist() == pytest.approx([0.5 + 1 / 6, 0.5 - 1 / 3, 0.99, 0.99, 0.99])

    def test_without_an_external_column_it_stops(self) -> None:
        columns = {k: v for k, v in self.features.columns.items() if k != "external_margin"}
        without = Features(self.features.idx, columns)
        with pytest.raises(UsageError, match=r"'external_margin'.*external=null"):
            selector.get("dual_margin")(without, 0)
        with pytest.raises(UsageError, match="'other'"):
            selector.get("dual_margin")(self.features, 0, external="other")

    def test_the_implicit_margin_alone_when_asked_for(self) -> None:
        selection = selector.bind("dual_margin:external=null,clip_quantile=1")(self.features, 0)
        assert selection.scores.tolist() == pytest.approx([0.99, 0.75, 0.25, 0.5])
        assert not any("external" in reason for reason in selection.reasons)


class TestChesFilter:
    features = taught("rararr", ches=np.array([3.0, -1, 2, -5, -2, 7]), chosen_tokens=np.array([9, 8, 7, 6, 5, 4]))

    def test_the_least_alike_stay_and_the_other_selector_ranks_them(self) -> None:
        selection = selector.bind("ches_filter:keep=0.5,then=length:first=shortest")(self.features, 0)
        assert selection.order.tolist() == [4, 3, 1]
        assert selection.scores.tolist() == [0, -8, 0, -6, -5, 0]
        assert selection.reasons[0] == "left out: answers too alike, CHES 3"
        assert selection.reasons[1].endswith("CHES -1")

    def test_what_the_other_selector_leaves_out_stays_out(self) -> None:
        features = Features(self.features.idx, {**self.features.columns, "text_vector": np.eye(6, dtype=np.float32)})
        selection = selector.get("ches_filter")(features, 0, keep=0.7, then="contrast")
        # Four stay, of which 2 and 4 teach refusing, 1 and 3 answering.
        assert sorted(selection.order.tolist()) == [1, 2, 3, 4]
        assert [kind_of(features)[i][0] for i in selection.order] == ["r", "a", "r", "a"]

    @pytest.mark.parametrize("keep", [0.0, 1.2])
    def test_a_share_is_a_share(self, keep: float) -> None:
        with pytest.raises(UsageError, match="keep above 0 and up to 1"):
            selector.get("ches_filter")(self.features, 0, keep=keep)

    def test_an_unknown_ranking_lists_the_known(self) -> None:
        with pytest.raises(UsageError, match=r"'best'.*contrast"):
            selector.get("ches_filter")(self.features, 0, then="best")


class TestHiddenRetrieval:
    def test_each_dev_prompt_in_its_turn(self) -> None:
        features = taught(
            "rrrraao",
            similarity_harmful=np.array([0.9, 0.8, 0.3, 0.2, 1, 1, 1]),
            nearest_harmful=np.array([5, 5, 2, 2, 0, 0, 0]),
            similarity_harmless=np.array([1, 1, 1, 1, 0.4, 0.6, 1]),
            nearest_harmless=np.array([0, 0, 0, 0, 1, 1, 0]),
        )
        selection = selector.get("hidden_retrieval")(features, 0)
        # Refusing: 0 and 2 are the best of their prompts, then 1 and 3; answering: 5, then 4.
        assert selection.order.tolist() == [0, 5, 2, 4, 1]
        assert selection.scores.tolist() == [0.9, 0.8, 0.3, 0.2, 0.4, 0.6, 0]
        assert selection.reasons[2].endswith("(similarity 0.300)")
        assert selection.reasons[6].startswith("left out")

    @given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=30), st.integers(0, 99))
    def test_turns_equal_the_naive_loop(self, rows: list[tuple[int, int]], seed: int) -> None:
        groups, scores = (np.array(column) for column in zip(*rows, strict=True))
        keys = np.random.default_rng(seed).random(len(rows))
        left, expected = set(range(len(rows))), []
        while left:
            best = [
                min((i for i in left if groups[i] == g), key=lambda i: (-scores[i], keys[i]), default=None)
                for g in set(groups)
            ]
            turn = sorted((i for i in best if i is not None), key=lambda i: (-scores[i], keys[i]))
            expected += turn
            left -= set(turn)
        assert in_turns(groups, scores, keys).tolist() == expected


class TestStratified:
    @given(st.lists(st.integers(1, 30), min_size=1, max_size=9))
    def test_every_prefix_is_within_one_of_proportional(self, sizes: list[int]) -> None:
        starts = np.cumsum([0, *sizes])
        queues = [np.arange(start, start + size) for start, size in zip(starts, sizes, strict=False)]
        merged, n = proportional(queues), sum(sizes)
        assert sorted(merged) == list(range(n))
        for queue in queues:
            inside = np.isin(merged, queue)
            assert merged[inside].tolist() == queue.tolist()
            counts, k = np.cumsum(inside), np.arange(1, n + 1)
            assert (np.abs(counts * n - k * len(queue)) < n).all()

    def test_strata_of_kind_and_length(self) -> None:
        tokens = np.array([1, 1, 1, 5, 5, 5, 9, 9, 9])
        features = taught("rrrrrrooo", chosen_tokens=tokens, rejected_tokens=np.zeros(9, dtype=int))
        for by, groups in (("kind", [6, 3]), ("length", [3, 3, 3]), ("kind_and_length", [3, 3, 3])):
            order = selector.get("stratified")(features, 0, by=by).order
            starts = np.cumsum([0, *groups])
            for k, (start, size) in itertools.product(range(1, 10), zip(starts, groups, strict=False)):
                count = np.isin(order[:k], np.arange(start, start + size)).sum()
                assert abs(count * 9 - k * size) < 9

    def test_each_stratum_in_the_order_of_the_other_selector(self) -> None:
        features = taught("rroorroo", chosen_tokens=np.array([3, 9, 5, 1, 7, 2, 8, 6]))
        selection = selector.get("stratified")(features, 0, by="kind", then="length")
        order = selection.order.tolist()
        assert [i for i in order if i in (0, 1, 4, 5)] == [1, 4, 0, 5]
        assert [i for i in order if i in (2, 3, 6, 7)] == [6, 7, 2, 3]
        assert selection.reasons[2].startswith("for the share of its stratum (other): chosen answer has 5 tokens")


def random_unit(seed: int, n: int, d: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors, some of them copies, and random keys."""
    rng = np.random.default_rng(seed)
    x = unit(rng.normal(size=(n, d)))
    x[n - n // 3 :] = x[: n // 3]
    return x, rng.random(n)


def covered(similarity: np.ndarray, rows: list[int] | tuple[int, ...]) -> int:
    return int(similarity[list(rows)].max(axis=0, initial=0).sum())


class TestFacilityLocation:
    @given(seed=st.integers(0, 1000), n=st.integers(1, 24), neighbours=st.integers(1, 24))
    def test_lazy_equals_naive(self, seed: int, n: int, neighbours: int) -> None:
        x, keys = random_unit(seed, n)
        similarity = neighbour_graph(x, keys, neighbours=neighbours).toarray()
        taken: list[int] = []
        while len(taken) < n:
            left = [i for i in range(n) if i not in taken]
            taken.append(min(left, key=lambda i: (-covered(similarity, [*taken, i]), keys[i])))
        assert cover_sparsely(x, keys, neighbours=neighbours).tolist() == taken

    @given(seed=st.integers(0, 200), n=st.integers(2, 9), k=st.integers(1, 4))
    def test_near_the_best_set(self, seed: int, n: int, k: int) -> None:
        x, keys = random_unit(seed, n)
        similarity = np.rint(np.clip(x @ x.T, 0, 1) * UNIT).astype(np.int64)
        best = max(covered(similarity, rows) for rows in itertools.combinations(range(n), min(k, n)))
        found = cover_sparsely(x, keys, neighbours=n)[:k].tolist()
        assert covered(similarity, found) >= (1 - 1 / math.e) * best

    def test_copies_wait_until_the_rest_is_covered(self) -> None:
        vectors = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
        order = selector.get("facility_location")(taught("r" * 12, text_vector=vectors), 0, pools="all").order
        assert sorted(order[:3] // 4) == [0, 1, 2]

    def test_one_neighbour_at_least(self) -> None:
        with pytest.raises(UsageError, match="at least 1 of neighbours, got 0"):
            selector.get("facility_location")(taught("r", text_vector=np.ones((1, 1))), 0, neighbours=0)


class TestDOptimal:
    @given(seed=st.integers(0, 500), n=st.integers(1, 14), ridge=st.sampled_from([0.01, 1.0, 10.0]))
    def test_equals_naive_greedy(self, seed: int, n: int, ridge: float) -> None:
        x, keys = random_unit(seed, n, d=3)
        order = spread_in_all_directions(x, keys, ridge=ridge).tolist()
        assert sorted(order) == list(range(n))

        def value(rows: list[int]) -> float:
            return np.linalg.slogdet(ridge * np.eye(3) + x[rows].T @ x[rows])[1]

        for k in range(n):
            best = max(value([*order[:k], i]) for i in order[k:])
            assert value(order[: k + 1]) == pytest.approx(best, abs=1e-7)

    def test_ties_follow_the_keys(self) -> None:
        x = np.repeat(np.eye(2), 3, axis=0)
        keys = np.array([0.5, 0.4, 0.9, 0.3, 0.6, 0.7])
        assert spread_in_all_directions(x, keys, ridge=1.0).tolist() == [3, 1, 0, 4, 5, 2]

    def test_wide_vectors_are_projected(self) -> None:
        vectors = np.random.default_rng(0).normal(size=(30, 300)).astype(np.float32)
        features = taught("ra" * 15, hidden_vector=vectors)
        assert len(selector.get("d_optimal")(features, 0).order) == 30

    def test_a_ridge_is_positive(self) -> None:
        with pytest.raises(UsageError, match="positive ridge, got 0"):
            selector.get("d_optimal")(taught("r", hidden_vector=np.ones((1, 1))), 0, ridge=0)


@pytest.mark.parametrize("name", ["facility_location", "d_optimal"])
def test_pools_keep_their_quota_and_all_takes_everything(name: str) -> None:
    vectors = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    features = taught("rrao" * 7 + "rr", text_vector=vectors, hidden_vector=vectors)
    kinds = np.array(kind_of(features))
    order = selector.get(name)(features, 0, refuse_share=2 / 3).order
    for k in range(1, len(order) + 1):
        assert (kinds[order[:k]] == "refusal contrast").sum() == math.floor(k * 2 / 3 + 0.5)
    everything = selector.get(name)(features, 0, pools="all")
    assert len(everything.order) == 30
    assert everything.scores[everything.order].tolist() == [-k for k in range(30)]


def test_equal_pairs_come_in_random_order() -> None:
    """With nothing to tell pairs apart, rankings of all pairs are the order of the random keys, or that of `random`."""
    n, idx = 40, np.arange(40)
    columns = {
        **{f"{m}_{s}_logps": np.full(n, -3.0) for m in ("ref", "aligned") for s in ("chosen", "rejected")},
        **{name: np.ones(n) for name in ("ches", "external_margin")},
        **{name: np.full((n, 2), 0.5**0.5) for name in ("text_vector", "hidden_vector")},
        "chosen_tokens": np.ones(n, dtype=int),
        "rejected_tokens": np.ones(n, dtype=int),
    }
    features = Features(idx, {**columns, **taught("o" * n).columns})
    by_key, at_random = np.argsort(random_keys(idx, 7)), selector.get("random")(features, 7).order
    for spec in ("learnability", "selective_dpo", "dual_margin", "d_optimal:pools=all"):
        np.testing.assert_array_equal(selector.bind(spec)(features, 7).order, by_key, spec)
    np.testing.assert_array_equal(selector.bind("facility_location:pools=all")(features, 7).order, by_key)
    for spec in ("stratified", "ches_filter:keep=1"):
        np.testing.assert_array_equal(selector.bind(spec)(features, 7).order, at_random, spec)
