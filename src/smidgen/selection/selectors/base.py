"""What every selector gives back, how one is registered, and the randomness they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from smidgen.errors import UsageError
from smidgen.selection.features import Features
from smidgen.settings import Registry


@dataclass(frozen=True, slots=True, eq=False)
class Reasons(Sequence[str]):
    """A line for each row, put into words only when it is asked for; equal to any sequence of the same lines.

    Attributes:
        n: How many rows there are.
        describe: The line of a row, counted from 0.
    """

    n: int
    describe: Callable[[int], str]

    def __len__(self) -> int:
        return self.n

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        rows = range(self.n)[row]
        return self.describe(rows) if isinstance(rows, int) else [self.describe(i) for i in rows]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(other) == self.n and list(self) == list(other)

    __hash__ = None  # pyright: ignore[reportAssignmentType]


@dataclass(frozen=True, slots=True)
class Selection:
    """A ranking of the pairs that may be kept. Every prefix of `order` is the answer at that size.

    Attributes:
        order: `idx` of the eligible pairs, best first.
        eligible: Which rows of the features are in `order`, bool [n].
        scores: What the ranking is based on, higher is better, float64 [n]; its meaning is the selector's own.
        reasons: Why each pair was kept or not, one line each, [n].
    """

    order: np.ndarray
    eligible: np.ndarray
    scores: np.ndarray
    reasons: Sequence[str]


Selector = Callable[..., Selection]
selector: Registry[Selector] = Registry("selector")


def top(selection: Selection, budget: int) -> np.ndarray:
    """`idx` of the best `budget` pairs, best first.

    Raises:
        UsageError: A budget below 1, or more pairs wanted than are eligible.
    """
    n_eligible = len(selection.order)
    if n_eligible == 0:
        raise UsageError(
            f"expected pairs to choose from, but this selector finds none of {len(selection.eligible)} eligible "
            f"(the first: {selection.reasons[0] if selection.reasons else 'no pairs'}). Give other pairs or settings."
        )
    if not 1 <= budget <= n_eligible:
        raise UsageError(
            f"expected a budget from 1 to {n_eligible}, the number of pairs that this selector finds eligible "
            f"(of {len(selection.eligible)}); got {budget}. Give a smaller budget, or another selector."
        )
    return selection.order[:budget]


def inner_ranking(spec: str) -> Selector:
    """The selector that another one ranks with: `name` or `name:key=value;key=value`.

    A semicolon stands between its settings, since a comma ends the outer selector's setting.

    Raises:
        UsageError: An unknown selector or setting.
    """
    return selector.bind(spec.replace(";", ","))


def random_keys(idx: np.ndarray, seed: int) -> np.ndarray:
    """A random number in [0, 1) for each pair that depends on (seed, idx) alone, so row order never matters.

    Source: splitmix64, Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators".
    """
    with np.errstate(over="ignore"):
        return _splitmix64(idx.astype(np.uint64) + _splitmix64(np.array([seed % 2**64], dtype=np.uint64))) / 2.0**64


def _splitmix64(state: np.ndarray) -> np.ndarray:
    mixed = state + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def rows_of(idx: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The rows at which the `wanted` idx stand; each of them is in `idx`."""
    by_idx = np.argsort(idx)
    return by_idx[np.searchsorted(idx, wanted, sorter=by_idx)]


def rank_all(features: Features, seed: int, scores: np.ndarray, reasons: Sequence[str]) -> Selection:
    """All pairs by falling score; ties in the random order of the seed."""
    rows = np.lexsort((random_keys(features.idx, seed), -scores))
    return Selection(features.idx[rows], np.ones(len(features), dtype=bool), scores, reasons)


def at_rows(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`values[rows]`, without a copy where the rows are consecutive: a column on disk then stays there."""
    if len(rows) and (np.diff(rows) == 1).all():
        return values[rows[0] : rows[-1] + 1]
    return values[rows]
