"""Pairs whose optimiser step does on the dev prompts what the benchmark asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from smidgen.errors import UsageError
from smidgen.selection.features import Features
from smidgen.selection.kinds import REFUSAL, kinds
from smidgen.selection.selectors.base import Selection, selector
from smidgen.selection.selectors.two_sided import Pools, annotated, ranked_in
from smidgen.settings import Share


@selector
def less(
    features: Features,
    seed: int,
    *,
    pools: Pools = "two_sided",
    combine: Literal["sum", "max", "turns"] = "sum",
    refuse_share: Share = 0.5,
) -> Selection:
    """By the influence of a pair on refusing harmful and on answering harmless dev prompts; ties in random order.

    Args:
        pools: "two_sided" keeps a quota of pairs that teach refusing and pairs that teach answering, each ordered
            by themselves; "all" orders all pairs, whatever they teach.
        combine: Of the two influences, "sum" takes what a pair does for both together, since most pairs push both
            kinds of prompts the same way; "max" the better one, as the paper; "turns" orders by the influence on
            harmful prompts and by that on harmless ones, each for its own pool, or with pools=all for all pairs, the
            two orders taking turns by `refuse_share`.
        refuse_share: Share of pairs that teach refusing, in every prefix, 0 to 1; of no effect with pools=all, except
            as the share of turns.

    Returns:
        Scores are the combined influence, in turns the influence of the better place; each influence is -1 to 1.

    Raises:
        UsageError: A share outside 0 to 1.

    Source: Xia et al. 2024 (LESS), arXiv:2402.04333, where each kind of prompt is a validation subtask.
    """
    if not 0 <= refuse_share <= 1:
        raise UsageError(f"expected refuse_share from 0 to 1, got {refuse_share}; 0.5 keeps both lessons equal.")
    harmful, harmless = features.column("less_harmful"), features.column("less_harmless")
    if combine != "turns":
        influence = harmful + harmless if combine == "sum" else np.maximum(harmful, harmless)
    elif pools == "two_sided":
        influence = np.where(kinds(features) == REFUSAL, harmful, harmless)
    else:
        influence = np.maximum(harmful, harmless)

    def rank_pool(rows: np.ndarray, confidence: np.ndarray, keys: np.ndarray) -> np.ndarray:
        del confidence
        if combine == "turns" and pools == "all":
            return in_turn(*(np.lexsort((keys, -x[rows])) for x in (harmful, harmless)), first_share=refuse_share)
        return np.lexsort((keys, -influence[rows]))

    how = f"a step on it serves the dev prompts, {combine} of both kinds"
    selection = ranked_in(pools, features, seed, rank_pool, refuse_share=refuse_share, how=how)
    reasons = annotated(selection, lambda row: f"harmful {harmful[row]:.3g}, harmless {harmless[row]:.3g}")
    return replace(selection, scores=influence, reasons=reasons)


def in_turn(first: np.ndarray, second: np.ndarray, *, first_share: float) -> np.ndarray:
    """Two orders of the same positions as one: each turn takes the best of its order that is left, [m].

    Among the first k turns, floor(k * first_share + .5) are the first order's.

    >>> in_turn(np.array([0, 1, 2, 3]), np.array([0, 3, 2, 1]), first_share=0.5)
    array([0, 3, 1, 2])
    """
    queues = [iter(second.tolist()), iter(first.tolist())]
    taken: dict[int, None] = {}
    n_first = 0
    while len(taken) < len(first):
        of_first = int((len(taken) + 1) * first_share + 0.5) > n_first
        n_first += of_first
        taken[next(i for i in queues[of_first] if i not in taken)] = None
    return np.array(list(taken), dtype=np.int64)
