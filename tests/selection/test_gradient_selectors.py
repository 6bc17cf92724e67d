"""Selectors on gradients: hand-worked orders, and matching against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from smidgen.errors import UsageError
from smidgen.selection.features import Features
from smidgen.selection.representations import unit
from smidgen.selection.selectors import selector
from smidgen.selection.selectors.base import random_keys
from smidgen.selection.selectors.gradient_matching import matching_pursuit, nonnegative_ridge
from smidgen.selection.selectors.less import in_turn


def taught(kinds: str, **columns: list[float] | np.ndarray) -> Features:
    """Pairs that teach refusing (r), answering (a), or nothing (o)."""
    letters = np.array(list(kinds))
    basic = {
        "chosen_refuses": letters == "r",
        "rejected_refuses": letters == "a",
        "prompt_harmfulness": np.where(letters == "r", 0.9, 0.1),
    }
    return Features(np.arange(len(letters)), {**basic, **{name: np.array(v) for name, v in columns.items()}})


def order(name: str, features: Features, **chosen: object) -> list[int]:
    return selector.get(name)(features, 0, **chosen).order.tolist()


def test_task_vector_by_hand() -> None:
    features = taught("rraaoa", task_alignment=[0.1, 0.3, -0.2, 0.2, 0.9, 0.0])
    assert order("task_vector", features) == [1, 3, 0, 5]
    assert order("task_vector", features, pools="all") == [4, 1, 3, 0, 5, 2]
    selection = selector.get("task_vector")(features, 0)
    assert selection.scores.tolist() == features.columns["task_alignment"].tolist()
    assert selection.reasons[1].endswith("along the task vector (cosine 0.3)")


class TestLess:
    harmful = (0.5, 0.2, -0.1, -0.3, 0.4, -0.2)
    harmless = (-0.4, 0.1, 0.3, 0.1, -0.1, 0.6)

    def features(self) -> Features:
        return taught("rraara", less_harmful=list(self.harmful), less_harmless=list(self.harmless))

    def test_sums_by_hand(self) -> None:
        # .1, .3, .2, -.2, .3, .4
        features = self.features()
        assert order("less", features) in ([1, 5, 4, 2, 0, 3], [4, 5, 1, 2, 0, 3])
        assert order("less", features, pools="all")[0] == 5
        assert order("less", features, pools="all")[-2:] == [0, 3]

    def test_the_better_side_by_hand(self) -> None:
        # .5, .2, .3, .1, .4, .6: the paper's.
        assert order("less", self.features(), pools="all", combine="max") == [5, 0, 4, 2, 1, 3]
        assert order("less", self.features(), combine="max") == [0, 5, 4, 2, 1, 3]

    def test_turns_by_hand(self) -> None:
        # By harmful: 0 4 1 2 5 3; by harmless: 5 2 then 1 and 3 in either order, 4 0.
        features = self.features()
        assert order("less", features, combine="turns") == [0, 5, 4, 2, 1, 3]
        found = order("less", features, pools="all", combine="turns")
        assert found[:5] in ([0, 5, 4, 2, 1], [0, 5, 4, 2, 1])
        assert order("less", features, pools="all", combine="turns", refuse_share=1.0) == [0, 4, 1, 2, 5, 3]
        assert order("less", features, pools="all", combine="turns", refuse_share=0.0)[:2] == [5, 2]
        for pools in ("all", "two_sided"):
            with pytest.raises(UsageError, match=r"0 to 1, got 1\.5"):
                order("less", features, pools=pools, refuse_share=1.5)

    @given(n=st.integers(0, 12), share=st.sampled_from([0.0, 0.3, 0.5, 1.0]), seed=st.integers(0, 9))
    def test_turns_take_the_best_that_is_left_and_keep_their_share(self, n: int, share: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        first, second = rng.permutation(n), rng.permutation(n)
        left, n_first, wanted = list(range(n)), 0, []
        for k in range(1, n + 1):
            from_first = int(k * share + 0.5) > n_first
            n_first += from_first
            best = next(i for i in (first if from_first else second) if i in left)
            left.remove(best)
            wanted.append(best)
        assert in_turn(first, second, first_share=share).tolist() == wanted


class TestGradientMatching:
    def test_by_hand(self) -> None:
        # Target (2, 1, 0). First e1; with ridge 1 its weight is 1 and (1, 1, 0) is left, of which (.6, .8, 0) has most.
        # -e1 and e3 add nothing; the first is at most against what is left.
        vectors = np.array([[0, 1, 0], [1, 0, 0], [0.6, 0.8, 0], [0, 0, 1], [-1, 0, 0]])
        towards = vectors @ [2, 1, 0]
        found = matching_pursuit(vectors.astype(np.float32), towards, np.arange(5.0), ridge=1.0, exact=5)
        # <x, target> = 1, 2, 2, 0, -2: a tie that the keys decide.
        assert found[0] == 1
        assert found[1] == 2
        assert found.tolist()[2:] == [0, 3, 4]

    def test_copies_wait_for_what_is_new(self) -> None:
        copies = np.array([[1, 0]] * 3 + [[0, 1]])
        towards = copies @ [1.0, 0.8]
        found = matching_pursuit(copies.astype(np.float32), towards, np.arange(4.0), ridge=0.1, exact=4)
        assert found.tolist() == [0, 3, 1, 2]

    @settings(deadline=None)
    @given(seed=st.integers(0, 40), ridge=st.sampled_from([0.01, 0.5, 3.0]), k=st.integers(1, 9))
    def test_weights_are_those_of_least_squares(self, seed: int, ridge: float, k: int) -> None:
        rng = np.random.default_rng(seed)
        x, target, start = unit(rng.normal(size=(k, 6))), rng.normal(size=6), np.maximum(rng.normal(size=k), 0)
        found = nonnegative_ridge(x @ x.T, x @ target, ridge=ridge, start=start)
        # |target - x'w|^2 + ridge |w|^2 as one least-squares problem.
        wanted, _ = nnls(np.vstack([x.T, np.sqrt(ridge) * np.eye(k)]), np.concatenate([target, np.zeros(k)]))
        np.testing.assert_allclose(found, wanted, atol=1e-8)

    @pytest.mark.parametrize("exact", [0, 5, 30])
    def test_equals_the_naive_pursuit(self, exact: int) -> None:
        rng = np.random.default_rng(4)
        x = unit(rng.normal(size=(30, 12))).astype(np.float32)
        target, keys = rng.normal(size=12), rng.random(30)
        wide, residual, naive = x.astype(float), target, []
        while len(naive) < exact:
            open_rows = [i for i in range(30) if i not in naive]
            best = max(open_rows, key=lambda i: wide[i] @ residual)
            if wide[best] @ residual <= 1e-5:
                break
            naive.append(best)
            stacked = np.vstack([wide[naive].T, np.sqrt(0.5) * np.eye(len(naive))])
            weights, _ = nnls(stacked, np.concatenate([target, np.zeros(len(naive))]))
            residual = target - weights @ wide[naive]
        naive += sorted(set(range(30)) - set(naive), key=lambda i: -(wide[i] @ residual))
        assert matching_pursuit(x, wide @ target, keys, ridge=0.5, exact=exact).tolist() == naive

    def test_the_scale_of_the_target_does_not_matter(self) -> None:
        rng = np.random.default_rng(1)
        x, keys = unit(rng.normal(size=(40, 8))).astype(np.float32), rng.random(40)
        towards = (x @ rng.normal(size=8)).astype(float)
        orders = [matching_pursuit(x, s * towards, keys, ridge=0.5, exact=20).tolist() for s in (1e-9, 1.0, 1e9)]
        assert orders[0] == orders[1] == orders[2]

    def test_a_prefix_comes_nearer_to_the_mean_gradient_than_chance(self) -> None:
        rng = np.random.default_rng(2)
        gradients = rng.normal(size=(200, 30)) + rng.normal(size=30)
        norms = np.linalg.norm(gradients, axis=1)
        vectors = unit(gradients).astype(np.float16)
        features = taught("r" * 200, gradient=vectors, gradient_norm=norms, gradient_cosine=np.zeros(200))
        mean, picks = gradients.mean(axis=0), order("gradient_matching", features, target="pairs", pools="all")

        def cosine(rows: list[int]) -> float:
            total = gradients[rows].sum(axis=0)
            return total @ mean / np.linalg.norm(total) / np.linalg.norm(mean)

        draws = [cosine(np.argsort(random_keys(features.idx, seed))[:10].tolist()) for seed in range(200)]
        assert cosine(picks[:10]) > max(draws)

    def test_settings_out_of_range_are_refused(self) -> None:
        features = taught("ra", gradient=np.eye(2), gradient_cosine=[0.5, 0.5])
        for bad in ({"ridge": 0.0}, {"exact": -1}):
            with pytest.raises(UsageError, match="positive ridge"):
                order("gradient_matching", features, **bad)


def test_gradients_serve_as_vectors() -> None:
    rng = np.random.default_rng(0)
    gradient = unit(np.repeat(rng.normal(size=(4, 100)), 5, axis=0)).astype(np.float16)
    features = taught("r" * 20, gradient=gradient)
    for name, setting in itertools.product(("d_optimal", "facility_location"), ("all",)):
        found = order(name, features, vectors="gradient", pools=setting)
        # One of each four before any second.
        assert sorted(i // 5 for i in found[:4]) == [0, 1, 2, 3]
