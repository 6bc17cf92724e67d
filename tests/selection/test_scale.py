"""Ways for many rows: they rank as the plain ways for few do, or within the bound that is stated."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from smidgen.selection import neighbours
from smidgen.selection.features import Features
from smidgen.selection.neighbours import UNIT, neighbour_graph
from smidgen.selection.representations import unit
from smidgen.selection.selectors import block_greedy, contrast, contrast_cover, d_optimal, facility_location, selector
from smidgen.selection.selectors.base import Reasons, at_rows
from smidgen.selection.selectors.contrast import spread_out, spread_out_in_blocks
from smidgen.selection.selectors.contrast_cover import cover
from smidgen.selection.selectors.d_optimal import spread_in_blocks
from smidgen.selection.selectors.facility_location import cover_sparsely
from smidgen.selection.selectors.stratified import proportional

LARGE = ["contrast", "contrast_cover", "d_optimal", "facility_location", "stratified:then=contrast"]


@pytest.fixture
def small_blocks() -> Iterator[None]:
    """What is done for many rows is done for few, in blocks and cells of few."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block_greedy, "_POOL", 12)
        patch.setattr(block_greedy, "_BLOCK", 5)
        patch.setattr(contrast, "_STEP", 3)
        patch.setattr(d_optimal, "_BLOCK", 7)
        patch.setattr(facility_location, "_BLOCK", 7)
        patch.setattr(neighbours, "_EXACT_ROWS", 16)
        patch.setattr(neighbours, "_CELL_ROWS", 12)
        patch.setattr(neighbours, "_BLOCK", 5)
        for module in (contrast, contrast_cover, d_optimal):
            patch.setattr(module, "EXACT_ROWS", 0)
        yield


def features(n: int = 160) -> Features:
    """Pairs of all kinds in clusters; every third is a copy of another in all but idx."""
    rng = np.random.default_rng(0)
    columns = {
        "chosen_refuses": rng.random(n) < 0.5,
        "prompt_harmfulness": rng.integers(0, 11, n) / 10,
        "chosen_tokens": rng.integers(3, 9, n),
        "rejected_tokens": rng.integers(3, 9, n),
    }
    columns["rejected_refuses"] = ~columns["chosen_refuses"]
    for name in ("text_vector", "hidden_vector"):
        centres = rng.normal(size=(6, 12))
        columns[name] = unit(centres[rng.integers(0, 6, n)] + 0.4 * rng.normal(size=(n, 12))).astype(np.float32)
    copies = np.arange(n) - (np.arange(n) % 3 == 2)
    return Features(rng.permutation(3 * n)[:n], {name: values[copies] for name, values in columns.items()})


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("spec", LARGE)
class TestManyRows:
    def test_order_is_a_permutation_that_row_order_does_not_change(self, spec: str) -> None:
        plain = selector.bind(spec)(features(), 3)
        assert sorted(plain.order) == sorted(features().idx[plain.eligible])
        assert len(plain.order) > 20
        shuffle = np.random.default_rng(5).permutation(len(features()))
        shuffled = selector.bind(spec)(features().take(shuffle), 3)
        np.testing.assert_array_equal(shuffled.order, plain.order)
        assert shuffled.reasons == [plain.reasons[row] for row in shuffle]

    def test_copies_of_one_pair(self, spec: str) -> None:
        teaches = np.flatnonzero(selector.get("random_in_pool")(features(), 0).eligible)[:1]
        columns = {name: np.repeat(v[teaches], 60, axis=0) for name, v in features().columns.items()}
        for name in ("chosen_refuses", "rejected_refuses", "prompt_harmfulness"):
            columns[name][::2] = 1 - columns[name][::2]
        selection = selector.bind(spec)(Features(np.arange(60), columns), 3)
        assert sorted(selection.order) == list(range(60))


def exact_vectors(seed: int, n: int, d: int = 6) -> np.ndarray:
    """Rows whose inner products floating-point numbers hold exactly, many of them equal, [n, d] float32."""
    return np.random.default_rng(seed).integers(0, 3, (n, d)).astype(np.float32) / 8


@examples(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 300), n=st.integers(1, 40))
def test_unlike_those_before_block_by_block_is_the_plain_order(small_blocks: None, seed: int, n: int) -> None:
    vectors, rng = exact_vectors(seed, n), np.random.default_rng(seed)
    confidence, keys = rng.integers(1, 5, n) / 4, rng.random(n)
    plain = spread_out(vectors, confidence, keys)
    assert spread_out_in_blocks(vectors, confidence, keys).tolist() == plain.tolist()
    picks = n // 2
    found = spread_out_in_blocks(vectors, confidence, keys, picks=picks)
    assert found[:picks].tolist() == plain[:picks].tolist()
    rest = found[picks:]
    nearest = np.clip(vectors[rest] @ vectors[found[:picks]].T, 0, 1).max(axis=1, initial=0)
    assert (np.diff(confidence[rest] * (1 - nearest)) <= 0).all()
    assert sorted(found) == list(range(n))


def log_volume(x: np.ndarray, rows: list[int] | tuple[int, ...], ridge: float) -> float:
    """log det(I + sum of x x' / ridge) over the rows: 0 for none, monotone and submodular."""
    return float(np.linalg.slogdet(np.eye(x.shape[1]) + x[list(rows)].T @ x[list(rows)] / ridge)[1])


@examples(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 300),
    n=st.integers(1, 24),
    ridge=st.sampled_from([0.01, 1.0]),
    slack=st.sampled_from([0.0, 0.01, 0.3]),
)
def test_directions_block_by_block_lose_no_more_than_the_slack(
    small_blocks: None, seed: int, n: int, ridge: float, slack: float
) -> None:
    rng = np.random.default_rng(seed)
    x = unit(rng.normal(size=(n, 3)))
    x[n - n // 3 :] = x[: n // 3]
    order = spread_in_blocks(x, rng.random(n), ridge=ridge, slack=slack).tolist()
    assert sorted(order) == list(range(n))
    for k in range(n):
        inverse = np.linalg.inv(ridge * np.eye(3) + x[order[:k]].T @ x[order[:k]])
        leverage = np.einsum("md,de,me->m", x[order[k:]], inverse, x[order[k:]])
        assert leverage[0] >= (1 - slack - 1e-8) * leverage.max()


@examples(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 100), n=st.integers(9, 11), k=st.integers(1, 4))
def test_directions_are_near_the_best_set(small_blocks: None, seed: int, n: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    x = unit(rng.normal(size=(n, 3)))
    best = max(log_volume(x, rows, 0.5) for rows in itertools.combinations(range(n), k))
    found = spread_in_blocks(x, rng.random(n), ridge=0.5, slack=0.1)[:k].tolist()
    assert log_volume(x, found, 0.5) >= (1 - math.exp(-0.9)) * best


def test_directions_after_the_picks_follow_by_leverage(small_blocks: None) -> None:
    rng = np.random.default_rng(0)
    x, keys = unit(rng.normal(size=(50, 4))), rng.random(50)
    found = spread_in_blocks(x, keys, ridge=1.0, picks=20, slack=0.0)
    assert found[:20].tolist() == spread_in_blocks(x, keys, ridge=1.0, slack=0.0)[:20].tolist()
    inverse = np.linalg.inv(np.eye(4) + x[found[:20]].T @ x[found[:20]])
    leverage = np.einsum("md,de,me->m", x[found[20:]], inverse, x[found[20:]])
    assert (np.diff(leverage) <= 1e-12).all()


def weighted_cover(reach: np.ndarray, rows: list[int] | tuple[int, ...]) -> float:
    return float(reach[list(rows)].max(axis=0, initial=0).sum())


class TestSparseCover:
    @given(seed=st.integers(0, 200), n=st.integers(2, 9), k=st.integers(1, 4))
    def test_weighted_is_near_the_best_set(self, seed: int, n: int, k: int) -> None:
        rng = np.random.default_rng(seed)
        x, weights = unit(rng.normal(size=(n, 4))), rng.random(n)
        reach = weights[:, None] * np.clip(x @ x.T, 0, 1)
        best = max(weighted_cover(reach, rows) for rows in itertools.combinations(range(n), min(k, n)))
        found = cover_sparsely(x, rng.random(n), neighbours=n, weights=weights)[:k].tolist()
        assert weighted_cover(reach, found) >= (1 - 1 / math.e) * best - n * n / UNIT

    @given(seed=st.integers(0, 200), n=st.integers(1, 20))
    def test_with_all_for_neighbours_it_is_the_dense_one(self, seed: int, n: int) -> None:
        rng = np.random.default_rng(seed)
        x, confidence, keys = unit(np.abs(rng.normal(size=(n, 4)))), rng.random(n), rng.random(n)
        reach = confidence[:, None] * np.clip(x @ x.T, 0, 1)
        sparse, dense = cover_sparsely(x, keys, neighbours=n, weights=confidence), cover(x, confidence, keys)
        for k in range(1, n + 1):
            rows = sparse[:k].tolist(), dense[:k].tolist()
            assert weighted_cover(reach, rows[0]) == pytest.approx(weighted_cover(reach, rows[1]), rel=0.05)
        first = reach.sum(axis=1)
        assert first[sparse[0]] == pytest.approx(first.max(), abs=n / UNIT)

    def test_after_the_picks_by_what_each_would_add(self) -> None:
        rng = np.random.default_rng(0)
        x, keys = unit(rng.normal(size=(60, 4))), rng.random(60)
        similarity = neighbour_graph(x, keys, neighbours=8).toarray()
        found = cover_sparsely(x, keys, neighbours=8, picks=25)
        assert found[:25].tolist() == cover_sparsely(x, keys, neighbours=8)[:25].tolist()
        covered = similarity[found[:25]].max(axis=0)
        gains = np.maximum(similarity[found[25:]] - covered, 0).sum(axis=1)
        assert sorted(found) == list(range(60))
        assert (np.diff(gains) <= 0).all()
        assert (np.diff(keys[found[25:]])[np.diff(gains) == 0] > 0).all()


class TestCells:
    def test_two_cells_of_all_rows_find_what_one_does(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each row joins both cells, so every pair of rows meets twice and must count once."""
        rng = np.random.default_rng(0)
        x, keys = unit(rng.normal(size=(200, 8))), rng.random(200)
        exact = neighbour_graph(x, keys, neighbours=12).toarray()
        monkeypatch.setattr(neighbours, "_EXACT_ROWS", 0)
        monkeypatch.setattr(neighbours, "_CELL_ROWS", 100)
        np.testing.assert_allclose(neighbour_graph(x, keys, neighbours=12).toarray(), exact, atol=2)

    def test_recall_in_clusters(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """With as many cells as for a million pairs, some 240, nine in ten neighbours are found."""
        rng = np.random.default_rng(0)
        centres = rng.normal(size=(60, 32))
        x, keys = unit(centres[rng.integers(0, 60, 6000)] + 0.7 * rng.normal(size=(6000, 32))), rng.random(6000)
        exact = neighbour_graph(x, keys, neighbours=10).toarray()
        monkeypatch.setattr(neighbours, "_EXACT_ROWS", 100)
        monkeypatch.setattr(neighbours, "_CELL_ROWS", 25)
        found = neighbour_graph(x, keys, neighbours=10).toarray()
        assert ((found > 0) & (exact > 0)).sum() > 0.9 * (exact > 0).sum()

    def test_no_cell_grows_with_what_is_alike(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(neighbours, "_CELL_ROWS", 10)
        keys = np.random.default_rng(0).random(500)
        cells = neighbours._cells(np.ones((500, 2)), keys)
        assert max(map(len, cells)) <= 40
        assert sorted(np.concatenate(cells)) == sorted([*range(500)] * 2)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=6))
def test_proportional_is_the_naive_loop(sizes: list[int]) -> None:
    starts = np.cumsum([0, *sizes])
    queues = [np.arange(start, start + size) for start, size in zip(starts, sizes, strict=False)]
    n, taken, expected = sum(sizes), [0] * len(sizes), []
    for k in range(1, n + 1):
        due = [(-(-(t + 1) * n // m), q) for q, (t, m) in enumerate(zip(taken, sizes, strict=True)) if t * n < k * m]
        _, queue = min(due)
        expected.append(queues[queue][taken[queue]])
        taken[queue] += 1
    assert proportional(queues).tolist() == expected


class TestReasons:
    def test_are_a_sequence_of_lines(self) -> None:
        reasons = Reasons(4, lambda row: f"row {row}")
        assert reasons == ["row 0", "row 1", "row 2", "row 3"]
        assert reasons != ["row 0", "row 1", "row 2"]
        assert reasons != ["row 0", "row 1", "row 2", "row 4"]
        assert (reasons[-1], reasons[1:3]) == ("row 3", ["row 1", "row 2"])
        with pytest.raises(IndexError):
            reasons[4]

    def test_are_worded_when_asked_for(self) -> None:
        asked: list[int] = []
        reasons = Reasons(10**9, lambda row: str(asked.append(row)))
        assert asked == []
        assert (reasons[7], asked) == ("None", [7])


@pytest.mark.parametrize("take", [lambda n: np.arange(2, n), lambda n: np.arange(n)[::-1], lambda n: np.arange(0)])
def test_rows_of_a_column(take: Callable[[int], np.ndarray]) -> None:
    values = np.random.default_rng(0).random((9, 2))
    rows = take(9)
    np.testing.assert_array_equal(at_rows(values, rows), values[rows])
    assert np.shares_memory(at_rows(values, rows), values) == (len(rows) == 7)
