"""Pairs that between them stand for all others."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import PositiveInt
from scipy.sparse import csr_array

from smidgen.errors import UsageError
from smidgen.selection.features import Features
from smidgen.selection.neighbours import neighbour_graph
from smidgen.selection.selectors.base import Selection, at_rows, selector
from smidgen.selection.selectors.lazy_greedy import lazy_greedy
from smidgen.selection.selectors.two_sided import Pools, ranked_in
from smidgen.settings import Share

_PICKS = 65_536
_BLOCK = 16_384  # rows whose gains are added up together


@selector
def facility_location(
    features: Features,
    seed: int,
    *,
    vectors: Literal["text_vector", "hidden_vector", "prompt_vector", "gradient"] = "text_vector",
    pools: Pools = "two_sided",
    refuse_share: Share = 0.5,
    neighbours: PositiveInt = 64,
) -> Selection:
    """Greedy order by sum_j max_{i taken} similarity(i, j), over sparse neighbours; ties in random order.

    Every pair counts the same, unlike in `contrast_cover`, and stands for nothing but its neighbours. Each prefix
    has at least 1 - 1/e of the sum that the best set of its size has, up to 65,536 pairs of a pool; what is left then
    follows by what each pair would add to those. Neighbours are exact in pools of up to 32,768 pairs.

    Args:
        vectors: The unit vectors whose inner products, where positive, are the similarities.
        pools: "two_sided" covers the pairs that teach refusing and those that teach answering, each by themselves,
            and keeps a quota of both; "all" covers all pairs, whatever they teach.
        refuse_share: Share of pairs that teach refusing, in every prefix, 0 to 1; of no effect with pools=all.
        neighbours: How many of the most similar pairs a pair can stand for; those that have it among theirs on top.

    Raises:
        UsageError: Fewer than one neighbour, or a share outside 0 to 1.

    Source: Nemhauser, Wolsey and Fisher 1978 (greedy and its bound); sparse neighbours: Wei, Iyer and Bilmes 2014.
    """
    if neighbours < 1:
        raise UsageError(f"expected at least 1 of neighbours, got {neighbours}; 64 is usual.")
    columns = features.column(vectors).astype(np.float32, copy=False)

    def rank_pool(rows: np.ndarray, confidence: np.ndarray, keys: np.ndarray) -> np.ndarray:
        del confidence
        return cover_sparsely(at_rows(columns, rows), keys, neighbours=neighbours)

    how = f"stands for pairs not yet covered, by {vectors}"
    return ranked_in(pools, features, seed, rank_pool, refuse_share=refuse_share, how=how)


def cover_sparsely(
    vectors: np.ndarray, keys: np.ndarray, *, neighbours: int, weights: np.ndarray | None = None, picks: int = _PICKS
) -> np.ndarray:
    """Facility location over the graph of nearest neighbours, positions [m].

    Args:
        weights: Of each row as one that stands for others, 0 to 1; all 1 if not given.
        picks: How many rows lazy greedy takes; the rest follow by what each would add to those.
    """
    graph = neighbour_graph(vectors, keys, neighbours=neighbours)
    if weights is not None:
        graph.data = np.rint(graph.data * np.repeat(weights, np.diff(graph.indptr))).astype(graph.data.dtype)
    ends, columns, values = list(map(int, graph.indptr)), graph.indices, graph.data
    covered = np.zeros(len(keys), dtype=values.dtype)

    def gain(i: int) -> int:
        reach = slice(ends[i], ends[i + 1])
        return int(np.maximum(values[reach] - covered[columns[reach]], 0).sum(dtype=np.int64))

    def take(i: int) -> None:
        reach = slice(ends[i], ends[i + 1])
        covered[columns[reach]] = np.maximum(covered[columns[reach]], values[reach])

    order = lazy_greedy(_gains(graph, covered), gain, take, keys, picks=picks)
    rest = np.setdiff1d(np.arange(len(keys)), order, assume_unique=True)
    return np.concatenate([order, rest[np.lexsort((keys[rest], -_gains(graph, covered)[rest]))]])


def _gains(graph: csr_array, covered: np.ndarray) -> np.ndarray:
    """What each row would add, int64 [m]."""
    gains = np.empty(len(covered), dtype=np.int64)
    for start in range(0, len(covered), _BLOCK):
        ends = graph.indptr[start : start + _BLOCK + 1]
        reach = slice(ends[0], ends[-1])
        added = np.maximum(graph.data[reach] - covered[graph.indices[reach]], 0)
        gains[start : start + _BLOCK] = np.add.reduceat(added, ends[:-1] - ends[0], dtype=np.int64)
    return gains
