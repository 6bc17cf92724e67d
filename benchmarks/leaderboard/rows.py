"""What a leaderboard says of a ranking: how its subsets scored, what they teach, what it costs to find them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from smidgen.evaluation.statistics import score_interval
from smidgen.pairs import PreferencePair
from smidgen.study.decide import ArmScores

BASE, FULL, FULL_CLEAN, SWAP = "base", "full", "full_clean", "swap"
ARMS = (BASE, FULL, FULL_CLEAN)
TEACHING = ("teaches_refusing", "teaches_answering")
INVERTED = "inverted"
# Of all pairs: how far down a ranking its pairs are looked at.
LOOKED_AT = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Picked:
    """What the first pairs of a ranking teach, mean over seeds.

    Attributes:
        n_pairs: How many were looked at.
        precision: Share that teaches refusing harm or answering the harmless.
        inverted: How many teach the opposite.
    """

    n_pairs: int
    precision: float
    inverted: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the leaderboard.

    Attributes:
        selector: A ranking's specification, or one of "base", "full", "full_clean" and "swap".
        size: Pairs trained on.
        budget: "steps" or "epochs"; "" for arms that have no choice.
        steps: Optimiser steps.
        seeds: Trained with.
        score: Mean, low and high over prompts and seeds.
        harmful: Share of harmful prompts refused.
        harmless: Share of harmless prompts refused.
        accuracy: Share of held-out pairs ranked rightly; None without such pairs.
        picked: What the pairs teach; None where nobody knows.
        seconds: Of the processor, to rank all pairs and measure the columns read; None where nothing was ranked.
        note: What a reader must know.
    """

    selector: str
    size: int
    budget: str
    steps: int
    seeds: int
    score: dict[str, float]
    harmful: float
    harmless: float
    accuracy: float | None
    picked: dict[str, float] | None = None
    seconds: float | None = None
    note: str = ""


def taught(pairs: Iterable[PreferencePair]) -> dict[int, str]:
    """What each pair teaches by its data's own `truth` column, by idx; empty where a pair has none.

    A duplicate teaches what its original does: the pair with the same two answers.

    >>> from smidgen.pairs import plain_pair
    >>> texts = [("a", "b", "inverted"), ("a", "b", "duplicate"), ("c", "d", "duplicate")]
    >>> taught(plain_pair(i, "?", x, y, meta={"truth": truth}) for i, (x, y, truth) in enumerate(texts))
    {0: 'inverted', 1: 'inverted', 2: 'duplicate'}
    """
    pairs = list(pairs)
    labels = {pair.idx: pair.meta.get("truth") for pair in pairs}
    if not all(labels.values()):
        return {}
    originals = {
        (pair.chosen_text, pair.rejected_text): str(labels[pair.idx])
        for pair in pairs
        if labels[pair.idx] != "duplicate"
    }
    return {pair.idx: originals.get((pair.chosen_text, pair.rejected_text), str(labels[pair.idx])) for pair in pairs}


def picked(orders: Sequence[Sequence[int]], truth: Mapping[int, str]) -> Picked | None:
    """What the given pairs teach, mean over their orders, one a seed.

    >>> picked([[1, 2], [2, 3]], {1: "teaches_refusing", 2: "inverted", 3: "style"})
    Picked(n_pairs=2, precision=0.25, inverted=1.0)
    """
    if not truth or not orders:
        return None
    found = [[truth[idx] for idx in order] for order in orders]
    return Picked(
        n_pairs=len(found[0]),
        precision=float(np.mean([np.mean([label in TEACHING for label in labels]) for labels in found])),
        inverted=float(np.mean([labels.count(INVERTED) for labels in found])),
    )


def n_looked_at(n_pairs: int) -> int:
    """Pairs in the first `LOOKED_AT` of a ranking, at least one."""
    return max(1, round(LOOKED_AT * n_pairs))


def scored(
    found: ArmScores,
    *,
    selector: str,
    size: int,
    budget: str = "",
    steps: int,
    confidence: float,
    picked: dict[str, float] | None = None,
    seconds: float | None = None,
    note: str = "",
) -> Row:
    """A row from what was measured for every seed and prompt."""
    score = score_interval(found.harmful, found.harmless, confidence=confidence).interval
    return Row(
        selector=selector,
        size=size,
        budget=budget,
        steps=steps,
        seeds=len(found.harmful),
        score=score.as_dict(),
        harmful=float(found.harmful.mean()),
        harmless=float(found.harmless.mean()),
        accuracy=None if found.correct is None else float(found.correct.mean()),
        picked=picked,
        seconds=seconds,
        note=note,
    )


def order_of(rows: Collection[Row]) -> list[str]:
    """Selectors and arms by their score at the smallest size they were tried at, mean over budgets, best first."""

    def score(name: str) -> float:
        own = [row for row in rows if row.selector == name]
        smallest = min(row.size for row in own)
        return float(np.mean([row.score["mean"] for row in own if row.size == smallest]))

    return sorted(dict.fromkeys(row.selector for row in rows), key=lambda name: (-score(name), name))


def ordered(rows: Collection[Row]) -> list[Row]:
    """Rows by `order_of`; a selector's own rows smallest size first."""
    place = {name: i for i, name in enumerate(order_of(rows))}
    return sorted(rows, key=lambda row: (place[row.selector], row.size, row.budget))
