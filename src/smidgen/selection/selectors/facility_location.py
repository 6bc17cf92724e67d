"""Pairs that between them stand for all others."""

from __future__ import annotations

from typing import Literal

import numpy as np

from smidgen.errors import UsageError
from smidgen.selection.features import Features
from smidgen.selection.neighbours import neighbour_graph
from smidgen.selection.selectors.base import Selection, selector
from smidgen.selection.selectors.lazy_greedy import lazy_greedy
from smidgen.selection.selectors.two_sided import Pools, ranked_in


@selector
def facility_location(
    features: Features,
    seed: int,
    *,
    vectors: Literal["text_vector", "hidden_vector", "prompt_vector", "gradient"] = "text_vector",
    pools: Pools = "two_sided",
    refuse_share: float = 0.5,
    neighbours: int = 64,
) -> Selection:
    """Greedy order by sum_j max_{i taken} similarity(i, j), over sparse neighbours; ties in random order.

    Every pair counts the same, unlike in `contrast_cover`, and stands for nothing but its neighbours. Each prefix
    has at least 1 - 1/e of the sum that the best set of its size has.

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
        return cover_sparsely(columns[rows], keys, neighbours=neighbours)

    how = f"stands for pairs not yet covered, by {vectors}"
    return ranked_in(pools, features, seed, rank_pool, refuse_share=refuse_share, how=how)


def cover_sparsely(vectors: np.ndarray, keys: np.ndarray, *, neighbours: int) -> np.ndarray:
    """Lazy greedy facility location over the graph of nearest neighbours, positions [m]."""
    graph = neighbour_graph(vectors, keys, neighbours=neighbours)
    ends, columns, values = list(map(int, graph.indptr)), graph.indices, graph.data
    covered = np.zeros(len(keys), dtype=np.int64)

    def gain(i: int) -> int:
        reach = slice(ends[i], ends[i + 1])
        return int(np.maximum(values[reach] - covered[columns[reach]], 0).sum())

    def take(i: int) -> None:
        reach = slice(ends[i], ends[i + 1])
        covered[columns[reach]] = np.maximum(covered[columns[reach]], values[reach])

    return lazy_greedy([gain(i) for i in range(len(keys))], gain, take, keys)
