"""Pairs that pin down every direction of a space best: a D-optimal design."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import PositiveFloat

from smidgen.errors import UsageError
from smidgen.selection.features import Features
from smidgen.selection.representations import project, unit
from smidgen.selection.selectors.base import Selection, at_rows, selector
from smidgen.selection.selectors.block_greedy import EXACT_ROWS, block_greedy
from smidgen.selection.selectors.two_sided import Pools, ranked_in
from smidgen.settings import Share

DIMENSIONS = 64
_PICKS = 65_536
_BLOCK = 8192  # rows projected together
_SLACK = 0.01
_TIE = 1e-9  # equal rows differ in the last bits


@selector
def d_optimal(
    features: Features,
    seed: int,
    *,
    vectors: Literal["text_vector", "hidden_vector", "prompt_vector", "gradient"] = "hidden_vector",
    pools: Pools = "two_sided",
    refuse_share: Share = 0.5,
    ridge: PositiveFloat = 1.0,
) -> Selection:
    """Greedy order by log det(ridge * I + sum_{i taken} x_i x_i'); ties in random order.

    x is the vector on at most 64 fixed random directions, scaled to length 1 again. In a pool of more than 8,192 pairs
    the next pair adds at least 99 % of the largest x' A^-1 x there is, A the matrix so far; after 65,536 of them, in a
    pool of more, the rest follow by that number at that point.

    Args:
        vectors: Which vectors.
        pools: "two_sided" keeps a quota of pairs that teach refusing and pairs that teach answering, each ordered
            by themselves; "all" orders all pairs, whatever they teach.
        refuse_share: Share of pairs that teach refusing, in every prefix, 0 to 1; of no effect with pools=all.
        ridge: How much every direction is known already; small values spread the first pairs out more. Positive.

    Raises:
        UsageError: A ridge that is not positive, or a share outside 0 to 1.

    Source: D-optimality, Wald 1943; greedy on it, Nemhauser, Wolsey and Fisher 1978 (it is submodular).
    """
    if ridge <= 0:
        raise UsageError(f"expected a positive ridge, got {ridge}; 1 is the weight of one pair in every direction.")
    columns = features.column(vectors)

    def rank_pool(rows: np.ndarray, confidence: np.ndarray, keys: np.ndarray) -> np.ndarray:
        del confidence
        x = directions(at_rows(columns, rows))
        order = spread_in_all_directions if len(rows) <= EXACT_ROWS else spread_in_blocks
        return order(x, keys, ridge=ridge)

    how = f"adds directions that those before it lack, by {vectors}"
    return ranked_in(pools, features, seed, rank_pool, refuse_share=refuse_share, how=how)


def directions(vectors: np.ndarray) -> np.ndarray:
    """Vectors [m, width] on at most 64 directions, scaled to length 1, float64; few at a time are in memory."""
    starts = range(0, max(len(vectors), 1), _BLOCK)
    blocks = (vectors[start : start + _BLOCK].astype(np.float64) for start in starts)
    return np.concatenate([unit(project(block, DIMENSIONS)) for block in blocks])


def spread_in_all_directions(x: np.ndarray, keys: np.ndarray, *, ridge: float) -> np.ndarray:
    """Greedy log-determinant order of the rows of x [m, d] float64, positions [m].

    With A the matrix so far, x adds log(1 + x' A^-1 x); A^-1 and all x' A^-1 x follow from one step to the next by
    rank-one updates (Sherman and Morrison 1950), so a step costs m * d.
    """
    inverse = np.eye(x.shape[1]) / ridge
    x, leverage = x.copy(), (x**2).sum(axis=1) / ridge
    rows, order = np.arange(len(x)), []
    while len(rows):
        ties = np.flatnonzero(leverage >= leverage.max() * (1 - _TIE))
        best = ties[np.argmin(keys[rows[ties]])]
        order.append(rows[best])
        direction = inverse @ x[best]
        scale = 1 + leverage[best]
        inverse -= np.outer(direction, direction) / scale
        leverage = np.maximum(leverage - (x @ direction) ** 2 / scale, 0)
        for part in (rows, x, leverage):
            part[best] = part[-1]  # the last row left takes the place of the one taken
        rows, x, leverage = rows[:-1], x[:-1], leverage[:-1]
    return np.array(order, dtype=np.int64)


def spread_in_blocks(
    x: np.ndarray, keys: np.ndarray, *, ridge: float, picks: int = _PICKS, slack: float = _SLACK
) -> np.ndarray:
    """`spread_in_all_directions` for many rows, as `block_greedy` says; gains are x' A^-1 x, positions [m]."""
    gains = (x**2).sum(axis=1) / ridge
    return block_greedy(_Leverage(x, ridge), gains, keys, picks=picks, slack=slack, tie=_TIE)


class _Leverage:
    """x' A^-1 x, whose fall from step to step is a rank-one update. Its logarithm-plus-one is what x adds."""

    def __init__(self, x: np.ndarray, ridge: float) -> None:
        self.x, self.inverse = x, np.eye(x.shape[1]) / ridge

    def look_at(self, rows: np.ndarray) -> np.ndarray:
        self.inside = self.x[rows]
        self.leverage = np.einsum("bd,bd->b", self.inside @ self.inverse, self.inside)
        return self.leverage.copy()

    def take(self, position: int) -> np.ndarray:
        direction = self.inverse @ self.inside[position]
        scale = 1 + self.leverage[position]
        self.inverse -= np.outer(direction, direction) / scale
        self.leverage = np.maximum(self.leverage - (self.inside @ direction) ** 2 / scale, 0)
        return self.leverage.copy()
