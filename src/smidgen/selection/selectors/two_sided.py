"""What selectors with pools share: two pools of opposite lessons, interleaved so that every prefix holds the quota.

Pairs that only teach refusing make a model refuse everything; the other pool teaches where to stop. Inverted pairs
are in neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np

from smidgen.errors import UsageError
from smidgen.selection.features import Features
from smidgen.selection.kinds import ANSWERING, INVERTED, REFUSAL, kinds
from smidgen.selection.selectors.base import Reasons, Selection, random_keys

# (rows of the features [m], confidence [m], random keys [m]) of one pool -> positions in that pool, best first.
# Rows come in the order of idx, so that sums are added up in the same order whatever the order of the features.
PoolRanker = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
Pools = Literal["two_sided", "all"]


def ranked_in(
    pools: Pools, features: Features, seed: int, rank_pool: PoolRanker, *, refuse_share: float, how: str
) -> Selection:
    """Rank within the two pools of `two_sided`, or all pairs as one pool, whatever they teach.

    Returns:
        Scores are those of `two_sided`; for "all", minus the place in the order.
    """
    if pools == "two_sided":
        return two_sided(features, seed, rank_pool, refuse_share=refuse_share, how=how)
    rows = np.argsort(features.idx)
    order = rows[rank_pool(rows, np.ones(len(rows)), random_keys(features.idx, seed)[rows])]
    scores = np.empty(len(features))
    scores[order] = -np.arange(len(order))
    return Selection(
        features.idx[order], np.ones(len(features), dtype=bool), scores, Reasons(len(features), lambda _: how)
    )


def two_sided(features: Features, seed: int, rank_pool: PoolRanker, *, refuse_share: float, how: str) -> Selection:
    """Rank each pool by itself, then interleave them.

    Args:
        rank_pool: Orders one pool.
        refuse_share: Share of pairs that teach refusing, 0 to 1. Among the first k pairs there are
            floor(k * refuse_share + .5) of them, for every k; the ranking ends where one pool has run out.
        how: What the order within a pool is based on, for the reasons.

    Returns:
        Scores are the confidence of the contrast for pairs of the pools, 0 for all others.

    Raises:
        UsageError: A share outside 0 to 1.
    """
    if not 0 <= refuse_share <= 1:
        raise UsageError(f"expected refuse_share from 0 to 1, got {refuse_share}; 0.5 keeps both lessons equal.")
    kind, confidence = kinds(features), contrast_confidence(features)
    keys = random_keys(features.idx, seed)
    pools = []
    for name in (REFUSAL, ANSWERING):
        rows = np.flatnonzero(kind == name)
        rows = rows[np.argsort(features.idx[rows])]
        pools.append(rows[rank_pool(rows, confidence[rows], keys[rows])] if len(rows) else rows)
    order = interleave(*pools, first_share=refuse_share)
    eligible = np.zeros(len(features), dtype=bool)
    eligible[order] = True
    scores = np.where((kind == REFUSAL) | (kind == ANSWERING), confidence, 0.0)
    return Selection(features.idx[order], eligible, scores, _reasons(features, kind, eligible, how))


def ranked_by(
    scores: np.ndarray,
    pools: Pools,
    features: Features,
    seed: int,
    *,
    refuse_share: float,
    how: str,
    told: Callable[[float], str],
) -> Selection:
    """Each pool by falling scores, ties in random order; see `ranked_in`.

    Args:
        scores: Of all pairs, [n]; they become the selection's.
        told: Words a pair's score, for its reason.
    """

    def rank_pool(rows: np.ndarray, confidence: np.ndarray, keys: np.ndarray) -> np.ndarray:
        del confidence
        return np.lexsort((keys, -scores[rows]))

    selection = ranked_in(pools, features, seed, rank_pool, refuse_share=refuse_share, how=how)
    return replace(selection, scores=scores, reasons=annotated(selection, lambda row: told(scores[row])))


def annotated(selection: Selection, note: Callable[[int], str]) -> Reasons:
    """A selection's reasons, each with a note on its row in brackets, worded when asked for."""
    return Reasons(len(selection.reasons), lambda row: f"{selection.reasons[row]} ({note(row)})")


def contrast_confidence(features: Features) -> np.ndarray:
    """How clearly each pair contrasts refusing with complying on a prompt of clear harmfulness, 0 to 1, [n].

    The share of pattern lists by which exactly the one answer refuses (minus those that say the opposite), times the
    probability of the prompt's more likely class.
    """
    prefix = "chosen_refuses_"
    lists = [name.removeprefix(prefix) for name in features.columns if name.startswith(prefix)]
    names = [f"_{name}" for name in lists] or [""]
    votes = [
        features.column(f"chosen_refuses{name}").astype(float) - features.column(f"rejected_refuses{name}")
        for name in names
    ]
    harmfulness = features.column("prompt_harmfulness")
    return np.abs(np.sum(votes, axis=0)) / len(votes) * np.maximum(harmfulness, 1 - harmfulness)


def interleave(first: np.ndarray, second: np.ndarray, *, first_share: float) -> np.ndarray:
    """Merge two rankings so that the first k hold floor(k * first_share + .5) of `first`, up to where one runs out.

    >>> interleave(np.array([1, 2, 3]), np.array([10, 20, 30]), first_share=2 / 3)
    array([ 1, 10,  2,  3, 20])
    """
    k = np.arange(1, len(first) + len(second) + 1)
    n_first = np.floor(k * first_share + 0.5).astype(np.int64)
    length = np.count_nonzero((n_first <= len(first)) & (k - n_first <= len(second)))
    from_first = np.diff(n_first[:length], prepend=0) > 0
    merged = np.empty(length, dtype=np.int64)
    merged[from_first] = first[: from_first.sum()]
    merged[~from_first] = second[: length - from_first.sum()]
    return merged


def _reasons(features: Features, kind: np.ndarray, eligible: np.ndarray, how: str) -> Reasons:
    texts = {
        REFUSAL: "refusal contrast: by pattern chosen refuses, rejected complies; prompt looks harmful",
        ANSWERING: "answering contrast: by pattern rejected refuses, chosen complies; prompt looks harmless",
        INVERTED: "left out, inverted: prefers complying with harm or refusing the harmless",
    }
    harmfulness = features.column("prompt_harmfulness")

    def describe(row: int) -> str:
        name = str(kind[row])
        if name not in texts:
            return "left out: no contrast between refusing and complying"
        text = f"{texts[name]} (harmfulness {harmfulness[row]:.2f})"
        if name == INVERTED:
            return text
        return f"{text}; {how}" if eligible[row] else f"left out, the quota's other pool has run out: {text}"

    return Reasons(len(features), describe)
