"""Pairs whose gradients together make up a wanted step."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import NonNegativeInt, PositiveFloat
from scipy.linalg import cho_factor, cho_solve

from smidgen.errors import UsageError
from smidgen.selection.features import Features
from smidgen.selection.selectors.base import Selection, selector
from smidgen.selection.selectors.two_sided import Pools, ranked_in
from smidgen.settings import Share

# Vectors are stored in half precision, where copies of a pair are equal; sums of their products differ by less.
_ROUNDING = 1e-6
# Where the sum of squares still falls with a weight that is 0, by more than rounding.
_SLOPE = 1e-10


@selector
def gradient_matching(
    features: Features,
    seed: int,
    *,
    target: Literal["benchmark", "pairs"] = "benchmark",
    pools: Pools = "two_sided",
    refuse_share: Share = 0.5,
    ridge: PositiveFloat = 0.5,
    exact: NonNegativeInt = 512,
) -> Selection:
    """Orthogonal matching pursuit of a target by non-negative combinations of unit gradients; ties in random order.

    Each next pair is the one whose gradient goes furthest along what the pairs before it leave of the target; all
    weights are then found anew. The weights only serve the order. Once nothing left goes along the rest, or `exact`
    pairs are taken, the others follow by that same measure.

    Args:
        target: "benchmark" is where the smooth surrogate of refusing grows on the dev prompts; "pairs" the mean
            gradient of the pool's own pairs, which a small subset then stands for.
        pools: "two_sided" keeps a quota of pairs that teach refusing and pairs that teach answering, each matched
            by themselves; "all" matches with all pairs, whatever they teach.
        refuse_share: Share of pairs that teach refusing, in every prefix, 0 to 1; of no effect with pools=all.
        ridge: Added to 1, each gradient's product with itself; large values spread the weight over like pairs.
            Positive.
        exact: Pairs of each pool picked one by one.

    Raises:
        UsageError: A ridge that is not positive, a negative number of pairs, or a share outside 0 to 1.

    Source: Killamsetty et al. 2021 (GRAD-MATCH), arXiv:2103.00123, Section 3.1 and Algorithm 2, whose gradients keep
    their lengths; here a pair counts for its direction, since subsets are trained on without weights.
    """
    if ridge <= 0 or exact < 0:
        raise UsageError(f"expected a positive ridge and at least 0 exact pairs, got {ridge} and {exact}.")
    # Half precision has no fast products.
    vectors = features.column("gradient").astype(np.float32)
    towards = features.column("gradient_cosine" if target == "benchmark" else "gradient_norm")

    def rank_pool(rows: np.ndarray, confidence: np.ndarray, keys: np.ndarray) -> np.ndarray:
        del confidence
        own = vectors[rows]
        wanted = towards[rows] if target == "benchmark" else (own @ (towards[rows] @ own / len(rows))).astype(float)
        return matching_pursuit(own, wanted, keys, ridge=ridge, exact=exact)

    how = f"goes along what is left of the target ({target})"
    return ranked_in(pools, features, seed, rank_pool, refuse_share=refuse_share, how=how)


def matching_pursuit(
    vectors: np.ndarray, towards: np.ndarray, keys: np.ndarray, *, ridge: float, exact: int
) -> np.ndarray:
    """Order of rows by which non-negative combinations of them come near a target greedily, positions [m].

    Args:
        vectors: Unit rows x_i, float32 [m, d].
        towards: <x_i, target>, float64 [m]; the target itself is not needed.
        keys: Order of equals, smallest first, [m].
        ridge: Of the weights: they minimise |target - sum_i w_i x_i|^2 + ridge * |w|^2, w >= 0.
        exact: Picks after which the residual stays as it is.
    """
    scale = np.abs(towards).max(initial=0.0) or 1.0
    left = np.ones(len(vectors), dtype=bool)
    residual, taken = towards / scale, np.zeros(0, dtype=np.int64)
    gram, weights = np.zeros((0, 0)), np.zeros(0)
    while len(taken) < min(exact, len(vectors)):
        open_residual = np.where(left, residual, -np.inf)
        highest = open_residual.max()
        if highest <= _ROUNDING:
            break
        ties = np.flatnonzero(open_residual >= highest - _ROUNDING)
        best = ties[np.argmin(keys[ties])]
        left[best] = False
        taken = np.append(taken, best)
        products = (vectors[taken] @ vectors[best]).astype(np.float64)
        gram = np.block([[gram, products[:-1, None]], [products[None]]])
        weights = nonnegative_ridge(gram, towards[taken] / scale, ridge=ridge, start=np.append(weights, 0.0))
        residual = towards / scale - vectors @ (weights.astype(np.float32) @ vectors[taken])
    rest = np.flatnonzero(left)
    rounded = np.rint(residual[rest] / _ROUNDING)
    return np.concatenate([taken, rest[np.lexsort((keys[rest], -rounded))]])


def nonnegative_ridge(gram: np.ndarray, towards: np.ndarray, *, ridge: float, start: np.ndarray) -> np.ndarray:
    """w >= 0 that minimises w' (gram + ridge * I) w / 2 - towards' w, [k] float64.

    Args:
        gram: Positive semi-definite, [k, k].
        towards: [k].
        ridge: Positive.
        start: Weights that are nearly right, at least 0, [k]; where all of gram but one row is as it was, few steps
            are left.

    Source: active sets, Lawson and Hanson 1974, "Solving least squares problems", Chapter 23, from a warm start.
    """
    matrix, weights = gram + ridge * np.eye(len(gram)), start.copy()
    active = (weights > 0) | (towards - matrix @ weights > _SLOPE)
    while True:
        while True:
            solved, rows = np.zeros(len(weights)), np.flatnonzero(active)
            if len(rows):
                solved[rows] = cho_solve(cho_factor(matrix[np.ix_(rows, rows)]), towards[rows])
            below = rows[solved[rows] <= 0]
            if not len(below):
                break
            # As far towards the solution as no weight goes below 0; the first that gets there leaves.
            steps = weights[below] / (weights[below] - solved[below])
            weights += steps.min() * (solved - weights)
            active[below[steps.argmin()]] = False
            weights[~active] = 0.0
        weights = solved
        slope = np.where(active, -np.inf, towards - matrix @ weights)
        if slope.max(initial=-np.inf) <= _SLOPE:
            return weights
        active[slope.argmax()] = True
