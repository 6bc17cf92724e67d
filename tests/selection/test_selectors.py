"""Each selector on a table small enough to work out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen.errors import UsageError
from smidgen.selection.features import Features
from smidgen.selection.selectors import is_inverted, kind_of, selector, top
from smidgen.selection.selectors.base import random_keys
from smidgen.selection.selectors.contrast import spread_out
from smidgen.selection.selectors.contrast_cover import cover
from smidgen.selection.selectors.two_sided import contrast_confidence, interleave


def lengths(chosen: list[int], rejected: list[int]) -> Features:
    columns = {"chosen_tokens": np.array(chosen), "rejected_tokens": np.array(rejected)}
    return Features(np.arange(10, 10 + len(chosen)), columns)


def margins(chosen: list[float], rejected: list[float]) -> Features:
    """Pairs with these log-ratios; chosen answers have 2 tokens, rejected ones 4."""
    n = len(chosen)
    return Features(
        np.arange(n),
        {
            "ref_chosen_logps": np.full(n, -10.0),
            "ref_rejected_logps": np.full(n, -20.0),
            "aligned_chosen_logps": np.array(chosen) - 10,
            "aligned_rejected_logps": np.array(rejected) - 20,
            "chosen_tokens": np.full(n, 2),
            "rejected_tokens": np.full(n, 4),
        },
    )


def contrasts(rows: list[tuple[int, int, float]], vectors: np.ndarray | None = None) -> Features:
    """Rows of (chosen refuses, rejected refuses, harmfulness); prompts have nothing in common unless given."""
    chosen, rejected, harmfulness = (np.array(column) for column in zip(*rows, strict=True))
    columns = {"chosen_refuses": chosen > 0, "rejected_refuses": rejected > 0, "prompt_harmfulness": harmfulness}
    vectors = np.eye(len(rows), dtype=np.float32) if vectors is None else vectors
    return Features(np.arange(100, 100 + len(rows)), {**columns, "text_vector": vectors})


TABLE = contrasts(
    [
        (1, 0, 0.9),  # 100 teaches refusing
        (0, 1, 0.1),  # 101 teaches answering
        (0, 1, 0.9),  # 102 inverted: complies with harm
        (1, 0, 0.1),  # 103 inverted: refuses the harmless
        (1, 1, 0.9),  # 104 both refuse
        (0, 0, 0.1),  # 105 both comply
        (1, 0, 0.6),  # 106 teaches refusing, less surely
        (0, 1, 0.2),  # 107 teaches answering, less surely
        (1, 0, 0.5),  # 108 teaches refusing, at the threshold
    ]
)


class TestLength:
    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            ({}, [12, 10, 11]),
            ({"first": "shortest"}, [11, 10, 12]),
            ({"measure": "rejected"}, [11, 12, 10]),
            ({"measure": "difference"}, [10, 12, 11]),
            ({"measure": "difference", "first": "shortest"}, [11, 12, 10]),
        ],
    )
    def test_by_hand(self, settings: dict, expected: list[int]) -> None:
        assert selector.get("length")(lengths([5, 3, 7], [1, 9, 6]), 0, **settings).order.tolist() == expected

    def test_ties_follow_the_seed(self) -> None:
        orders = {tuple(selector.get("length")(lengths([4] * 6, [4] * 6), seed).order) for seed in range(8)}
        assert len(orders) > 1


class TestMarginBand:
    features = margins(chosen=[4.0, 0.0, -4.0, 1.0, 0.0], rejected=[-4.0, 4.0, 4.0, 1.0, 8.0])
    h = np.array([8.0, -4, -8, 0, -8])

    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            ({"band": "high"}, [8, 0, -4, -8, -8]),
            ({"band": "low"}, [-8, -8, -4, 0, 8]),
            ({"band": "low", "signed": False}, [0, 4, 8, 8, 8]),
        ],
    )
    def test_by_hand(self, settings: dict, expected: list[float]) -> None:
        found = self.h[selector.get("margin_band")(self.features, 0, **settings).order]
        assert (found if settings.get("signed", True) else np.abs(found)).tolist() == expected

    def test_middle_starts_at_the_median(self) -> None:
        found = self.h[selector.get("margin_band")(self.features, 0, band="middle").order]
        assert np.abs(found - -4).tolist() == [0, 4, 4, 4, 12]

    def test_per_token(self) -> None:
        # Per token h is 4/2 - -4/4 = 3, -1, -3, 1/2 - 1/4 = .25, -2: the tie of -8 is broken.
        order = selector.get("margin_band")(self.features, 0, band="high", per_token=True).order
        assert order.tolist() == [0, 3, 1, 4, 2]

    def test_scores_are_margins(self) -> None:
        assert selector.get("margin_band")(self.features, 0).scores.tolist() == [8, -4, -8, 0, -8]

    def test_without_an_aligned_model_it_says_what_to_give(self) -> None:
        columns = {k: v for k, v in self.features.columns.items() if not k.startswith("aligned")}
        with pytest.raises(UsageError, match=r"aligned_chosen_logps.*--aligned"):
            selector.get("margin_band")(Features(self.features.idx, columns), 0)


class TestKinds:
    def test_by_hand(self) -> None:
        assert kind_of(TABLE) == [
            "refusal contrast",
            "answering contrast",
            "inverted",
            "inverted",
            "other",
            "other",
            "refusal contrast",
            "answering contrast",
            "refusal contrast",
        ]
        assert np.flatnonzero(is_inverted(TABLE)).tolist() == [2, 3]


class TestContrast:
    def test_clearest_first_both_sides_in_turn(self) -> None:
        selection = selector.get("contrast")(TABLE, 0)
        assert selection.order.tolist() == [100, 101, 106, 107, 108]
        assert selection.scores.tolist() == [0.9, 0.9, 0, 0, 0, 0, 0.6, 0.8, 0.5]
        assert selection.reasons[2].startswith("left out, inverted")
        assert selection.reasons[4].startswith("left out: no contrast")

    def test_the_quota_leaves_out_what_has_no_partner(self) -> None:
        selection = selector.get("contrast")(TABLE, 0, refuse_share=0.0)
        assert selection.order.tolist() == [101, 107]
        assert "quota" in selection.reasons[0]

    @pytest.mark.parametrize("name", ["contrast", "contrast_cover", "random_in_pool"])
    def test_no_pool_no_pairs_and_top_says_so(self, name: str) -> None:
        selection = selector.get(name)(contrasts([(0, 0, 0.9), (0, 1, 0.9)]), 0)
        assert len(selection.order) == 0
        with pytest.raises(UsageError, match=r"none of 2 eligible.*no contrast"):
            top(selection, 1)

    @pytest.mark.parametrize("share", [-0.1, 1.1])
    def test_a_share_is_a_share(self, share: float) -> None:
        with pytest.raises(UsageError, match="from 0 to 1"):
            selector.get("contrast")(TABLE, 0, refuse_share=share)

    def test_confidence_counts_agreeing_lists(self) -> None:
        columns = {
            "chosen_refuses_a": np.array([True, True, True]),
            "chosen_refuses_b": np.array([True, False, False]),
            "rejected_refuses_a": np.array([False, False, False]),
            "rejected_refuses_b": np.array([False, False, True]),
            "prompt_harmfulness": np.array([0.8, 0.2, 0.8]),
        }
        # Both lists; one of two; one against one. Certainty is .8 in all rows.
        assert contrast_confidence(Features(np.arange(3), columns)).tolist() == pytest.approx([0.8, 0.4, 0])


class TestGreedy:
    def test_spread_out_prefers_the_new_to_the_clearer_copy(self) -> None:
        vectors = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)
        assert spread_out(vectors, np.array([0.9, 0.8, 0.5]), np.zeros(3)).tolist() == [0, 2, 1]

    def test_cover_takes_what_stands_for_most(self) -> None:
        # Row 1 is like 0 and 2; rows 3 and 4 are copies of each other, and like nothing else.
        a, b, c = [1.0, 0, 0], [0.6, 0.8, 0], [0, 1.0, 0]
        vectors = np.array([a, b, c, [0, 0, 1.0], [0, 0, 1.0]], dtype=np.float32)
        order = cover(vectors, np.ones(5), np.array([0.5, 0.4, 0.3, 0.2, 0.1]))
        assert order.tolist() == [1, 4, 0, 2, 3]  # gains 2.4; 2 (the smaller key); .4; .2; 0

    @given(seed=st.integers(0, 1000), n=st.integers(1, 12))
    def test_lazy_equals_naive(self, seed: int, n: int) -> None:
        rng = np.random.default_rng(seed)
        vectors = np.abs(rng.normal(size=(n, 4)))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        confidence, keys = rng.random(n), rng.random(n)
        reach = confidence[:, None] * np.clip(vectors @ vectors.T, 0, 1)
        taken: list[int] = []
        for _ in range(n):
            covered = reach[taken].max(0) if taken else np.zeros(n)
            gains = np.maximum(reach - covered, 0).sum(1)
            best = gains[[i for i in range(n) if i not in taken]].max()
            found = cover(vectors, confidence, keys)[len(taken)]
            assert gains[found] == pytest.approx(best, abs=1e-9)
            taken.append(int(found))


class TestQuota:
    @given(n_first=st.integers(0, 40), n_second=st.integers(0, 40), share=st.floats(0, 1))
    def test_every_prefix_holds_it(self, n_first: int, n_second: int, share: float) -> None:
        first, second = np.arange(n_first), 100 + np.arange(n_second)
        merged = interleave(first, second, first_share=share)
        for k in range(len(merged) + 1):
            kept = merged[:k]
            assert (kept < 100).sum() == math.floor(k * share + 0.5)
            assert kept[kept < 100].tolist() == first[: (kept < 100).sum()].tolist()
            assert kept[kept >= 100].tolist() == second[: (kept >= 100).sum()].tolist()
        wanted = math.floor((len(merged) + 1) * share + 0.5)
        assert wanted > n_first or len(merged) + 1 - wanted > n_second  # it ended because a pool had run out

    @pytest.mark.parametrize("name", ["contrast", "contrast_cover", "random_in_pool"])
    def test_selectors_hold_it(self, name: str) -> None:
        features = contrasts([(1, 0, 0.9)] * 12 + [(0, 1, 0.1)] * 12)
        kinds = dict(zip(features.idx, kind_of(features), strict=True))
        order = selector.get(name)(features, 0, refuse_share=0.75).order
        assert len(order) == 16
        for k in range(1, 17):
            assert sum(kinds[i] == "refusal contrast" for i in order[:k]) == math.floor(k * 0.75 + 0.5)


class TestRandomKeys:
    def test_known_values(self) -> None:
        """The first output of splitmix64 from state 0 is 0xE220A8397B1DCDAF; keys hash idx onto the hashed seed."""
        mask = 2**64 - 1

        def splitmix64(state: int) -> int:
            z = (state + 0x9E3779B97F4A7C15) & mask
            z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & mask
            z = ((z ^ z >> 27) * 0x94D049BB133111EB) & mask
            return z ^ z >> 31

        assert splitmix64(0) == 0xE220A8397B1DCDAF
        expected = [splitmix64((splitmix64(7) + idx) & mask) / 2**64 for idx in (0, 1, 5000)]
        assert random_keys(np.array([0, 1, 5000]), 7).tolist() == expected

    def test_uniform_and_uncorrelated_between_seeds(self) -> None:
        keys = np.array([random_keys(np.arange(20_000), seed) for seed in (0, 1, 2)])
        assert np.abs(keys.mean(1) - 0.5).max() < 0.01
        assert np.abs(keys.var(1) - 1 / 12).max() < 0.002
        assert np.abs(np.corrcoef(keys) - np.eye(3)).max() < 0.03
