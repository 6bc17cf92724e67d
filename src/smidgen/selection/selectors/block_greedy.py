"""Greedy order over many rows, whose gains are brought up to date block by block instead of all at every step."""

from __future__ import annotations

from typing import Protocol

import numpy as np

EXACT_ROWS = 8192  # pools up to here are ordered by the plain greedy algorithm
_POOL = 32_768  # rows among which blocks are looked for
_BLOCK = 2048
_TAKEN = -1.0  # in place of a gain


class Objective(Protocol):
    """What rows add to those taken, for gains of 0 or more that never grow as more are taken."""

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
    gains, order, n_taken = gains.astype(np.float64), [], min(picks, len(gains))
    while len(order) < n_taken:
        pool, outside = _largest(gains, keys, _POOL)
        while len(order) < n_taken:
            places, beside = _largest(gains[pool], keys[pool], _BLOCK)
            block, rivals = pool[places], max(outside, beside)
            taken = _take_from(block, rivals, objective, gains, keys, most=n_taken - len(order), slack=slack, tie=tie)
            order += taken
            if not taken and gains[pool].max() <= outside[0]:
                break
    return _then_the_rest(np.array(order, dtype=np.int64), objective, keys)


def _take_from(
    block: np.ndarray,
    rivals: tuple[float, float],
    objective: Objective,
    gains: np.ndarray,
    keys: np.ndarray,
    *,
    most: int,
    slack: float,
    tie: float,
) -> list[int]:
    """The rows of a block that come before the best of all others, and their block's gains brought up to date."""
    known, order = objective.look_at(block), []
    known[gains[block] == _TAKEN] = _TAKEN
    while len(order) < most:
        largest = known.max()
        ties = np.flatnonzero(known >= largest - tie * abs(largest))
        best = ties[np.argmin(keys[block[ties]])]
        if largest < (1 - slack) * rivals[0] or (largest == rivals[0] and -keys[block[best]] < rivals[1]):
            break
        order.append(int(block[best]))
        gone = known == _TAKEN
        known = objective.take(int(best))
        known[gone] = known[best] = _TAKEN
    gains[block] = known
    return order


def _largest(gains: np.ndarray, keys: np.ndarray, n: int) -> tuple[np.ndarray, tuple[float, float]]:
    """The `n` rows of the largest gains, and the largest gain of all others with minus the smallest of its keys."""
    if len(gains) <= n:
        return np.arange(len(gains)), (_TAKEN, -np.inf)
    bound = np.partition(gains, -n)[-n]
    above, at = np.flatnonzero(gains > bound), np.flatnonzero(gains == bound)
    at = at[np.argsort(keys[at], kind="stable")]
    n_at = n - len(above)
    block = np.sort(np.concatenate([above, at[:n_at]]))
    if n_at < len(at):
        return block, (float(bound), -float(keys[at[n_at]]))
    largest = gains[gains < bound].max()
    return block, (float(largest), -float(keys[gains == largest].min()))


def _then_the_rest(order: np.ndarray, objective: Objective, keys: np.ndarray) -> np.ndarray:
    left = np.ones(len(keys), dtype=bool)
    left[order] = False
    rest = np.flatnonzero(left)
    blocks = [objective.look_at(rest[start : start + _BLOCK]) for start in range(0, len(rest), _BLOCK)]
    gains = np.concatenate([*blocks, np.empty(0)])
    return np.concatenate([order, rest[np.lexsort((keys[rest], -gains))]])
