"""Greedy order over many rows, whose gains are brought up to date block by block instead of all at every step."""

from __future__ import annotations

from typing import Protocol

import numpy as np

EXACT_ROWS = 8192  # pools up to here are ordered by the plain greedy algorithm
_BLOCK = 2048


class Objective(Protocol):
    """What rows add to those taken, for gains that never grow as more are taken."""

    def look_at(self, rows: np.ndarray, /) -> np.ndarray:
        """What each of these rows adds to all that are taken, [b]; `take` speaks of them from now on."""
        ...

    def take(self, position: int, /) -> np.ndarray:
        """Take the row at this place of those last looked at; what each of them adds after that, [b]."""
        ...


def block_greedy(
    objective: Objective, gains: np.ndarray, keys: np.ndarray, *, picks: int, slack: float = 0.0, tie: float = 0.0
) -> np.ndarray:
    """The first `picks` rows in greedy order, then the rest by what each would add to those; ties by `keys`.

    The rows with the largest gains known are looked at again; the best of them is taken for as long as it is at least
    1 - slack times the largest gain known of all other rows, which bounds their true gains.

    Args:
        gains: What each row adds to nothing, or more than that, [m].
        picks: How many rows to take one by one.
        slack: With 0 the first `picks` are those of the plain greedy algorithm, apart from rounding. Otherwise each
            has at least 1 - slack of the largest gain left, and each prefix of them at least 1 - exp(slack - 1) of
            what the best set of its size has, for submodular functions.
        tie: Share of the largest gain within which gains count as equal.

    Returns:
        Positions, [m].

    Source: Minoux 1978 (bounds from earlier evaluations); slack: Badanidiyuru and Vondrak 2014.
    """
    gains, order = gains.astype(np.float64), []
    while len(order) < min(picks, len(gains)):
        block, bound, bound_key = _largest(gains, keys)
        known = objective.look_at(block)
        known[np.isneginf(gains[block])] = -np.inf
        while len(order) < min(picks, len(gains)):
            largest = known.max()
            ties = np.flatnonzero(known >= largest - tie * abs(largest))
            best = ties[np.argmin(keys[block[ties]])]
            if largest < (1 - slack) * bound or (largest == bound and keys[block[best]] > bound_key):
                break
            order.append(block[best])
            gone = np.isneginf(known)
            known = objective.take(int(best))
            known[gone] = known[best] = -np.inf
        gains[block] = known
    return _then_the_rest(np.array(order, dtype=np.int64), objective, keys)


def _largest(gains: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, float, float]:
    """The rows of the largest gains, and the largest gain of all others with the smallest of its keys."""
    if len(gains) <= _BLOCK:
        return np.arange(len(gains)), -np.inf, np.inf
    bound = np.partition(gains, -_BLOCK)[-_BLOCK]
    above, at = np.flatnonzero(gains > bound), np.flatnonzero(gains == bound)
    at = at[np.argsort(keys[at], kind="stable")]
    n_at = _BLOCK - len(above)
    block = np.sort(np.concatenate([above, at[:n_at]]))
    if n_at < len(at):
        return block, float(bound), float(keys[at[n_at]])
    below = gains[gains < bound]
    largest = below.max()
    return block, float(largest), float(keys[gains == largest].min())


def _then_the_rest(order: np.ndarray, objective: Objective, keys: np.ndarray) -> np.ndarray:
    left = np.ones(len(keys), dtype=bool)
    left[order] = False
    rest = np.flatnonzero(left)
    blocks = [objective.look_at(rest[start : start + _BLOCK]) for start in range(0, len(rest), _BLOCK)]
    gains = np.concatenate([*blocks, np.empty(0)])
    return np.concatenate([order, rest[np.lexsort((keys[rest], -gains))]])
