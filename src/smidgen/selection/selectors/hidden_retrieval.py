"""Pairs that ask what the benchmark asks, in the model's own eyes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from smidgen.selection.features import Features
from smidgen.selection.kinds import ANSWERING, REFUSAL, kinds
from smidgen.selection.selectors.base import Reasons, Selection, selector
from smidgen.selection.selectors.two_sided import two_sided
from smidgen.settings import Share


@selector
def hidden_retrieval(features: Features, seed: int, *, refuse_share: Share = 0.5) -> Selection:
    """The pools and quota of `contrast`, each pool by likeness to the dev prompts it bears on, these taking turns.

    Pairs that teach refusing are compared with the harmful dev prompts, pairs that teach answering with the harmless
    ones: cosine of position-weighted mean hidden states of prompts. Each pair belongs to its nearest dev prompt; in
    each round every dev prompt gives its best pair that is left, and within a round the most alike come first.

    Args:
        refuse_share: Share of pairs that teach refusing, in every prefix, 0 to 1.

    Returns:
        Scores are the cosine to the nearest dev prompt for pairs of the pools, 0 for all others.

    Source: Ivison et al. 2025 (RDS+), arXiv:2503.01807, two-sided. There a dev prompt may also take pairs that are
    nearer to another one, and the states are those of prompt and answer.
    """
    kind = kinds(features)
    refuses = kind == REFUSAL
    similarity = np.where(refuses, features.column("similarity_harmful"), features.column("similarity_harmless"))
    nearest = np.where(refuses, features.column("nearest_harmful"), features.column("nearest_harmless"))

    def rank_pool(rows: np.ndarray, confidence: np.ndarray, keys: np.ndarray) -> np.ndarray:
        del confidence
        return in_turns(nearest[rows], similarity[rows], keys)

    selection = two_sided(features, seed, rank_pool, refuse_share=refuse_share, how="like a dev prompt, in its turn")

    def describe(row: int) -> str:
        likeness = f" (similarity {similarity[row]:.3f})" if selection.eligible[row] else ""
        return f"{selection.reasons[row]}{likeness}"

    scores = np.where(refuses | (kind == ANSWERING), similarity, 0.0)
    return replace(selection, scores=scores, reasons=Reasons(len(features), describe))


def in_turns(groups: np.ndarray, scores: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Every group's best, then every group's second, and so on; within a round by falling score, ties by `keys`, [m].

    >>> in_turns(np.array([0, 0, 0, 1]), np.array([0.9, 0.8, 0.7, 0.1]), np.zeros(4))
    array([0, 3, 1, 2])
    """
    by_group = np.lexsort((keys, -scores, groups))
    starts = np.searchsorted(groups[by_group], groups[by_group])
    rounds = np.empty(len(groups), dtype=np.int64)
    rounds[by_group] = np.arange(len(groups)) - starts
    return np.lexsort((keys, -scores, rounds))
