"""What a model's hidden states tell about pairs, as columns: CHES, likeness to dev prompts, vectors for coverage."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from smidgen.models.hidden import PairStates

MOST_DIMENSIONS = 256
_BLOCK = 4096  # rows whose similarities are in memory at one time


def hidden_columns(states: PairStates, harmful: np.ndarray, harmless: np.ndarray) -> dict[str, np.ndarray]:
    """Columns from hidden states under the reference.

    Args:
        states: Of the pairs, from `models.hidden.pair_states`.
        harmful: Dev prompts that ask for harm, from `models.hidden.prompt_states`, [prompts, width].
        harmless: Dev prompts that do not.

    Returns:
        `ches`: Likeness of chosen and rejected, see `ches_scores`, float64 [n].
        `similarity_harmful`, `similarity_harmless`: Cosine of the pair's prompt and the nearest dev prompt of that
            class, -1 to 1, float64 [n].
        `nearest_harmful`, `nearest_harmless`: Which dev prompt that is, counted from 0, int64 [n].
        `prompt_vector`: The prompt's state as a unit vector, float32 [n, at most 256].
    """
    prompts = unit(states.prompt)
    columns = {"ches": ches_scores(states.chosen, states.rejected)}
    for name, dev in (("harmful", harmful), ("harmless", harmless)):
        columns[f"similarity_{name}"], columns[f"nearest_{name}"] = _nearest(prompts, unit(dev))
    columns["prompt_vector"] = unit(project(prompts, MOST_DIMENSIONS))
    return columns


def ches_scores(chosen: np.ndarray, rejected: np.ndarray) -> np.ndarray:
    """Length-normalised centered hidden embedding similarity, float64 [n]; high: training pushes chosen down as well.

    With m the mean state of an answer's predictions: <m_chosen, m_rejected> - |m_chosen|^2.

    Args:
        chosen: Mean states [n, width].
        rejected: Mean states [n, width].

    Source: Razin et al. 2024, arXiv:2410.08847 (Definition 2, divided by the answers' lengths).
    """
    chosen = chosen.astype(np.float64)
    return np.einsum("nw,nw->n", chosen, rejected - chosen)


def pair_parts(states: PairStates) -> tuple[np.ndarray, np.ndarray]:
    """What `pair_vectors` are made of: prompts' states and differences of the answers', each [n, at most 128]."""
    half = MOST_DIMENSIONS // 2
    return project(states.prompt, half), project(states.chosen - states.rejected, half)


def pair_vectors(
    prompts: np.ndarray, differences: np.ndarray, means: tuple[np.ndarray, np.ndarray], *, answer_share: float = 0.3
) -> np.ndarray:
    """One unit vector a pair: what is asked, and in which direction the pair pushes.

    The prompt's state and the difference of the answers' mean states, each with its mean over all pairs taken off
    (states share a direction that would make all pairs look alike) and scaled to length 1: an inner product is
    (1 - answer_share) * cos(prompts) + answer_share * cos(differences), up to the projection of wide models.

    Args:
        prompts: From `pair_parts`, of any of the pairs.
        differences: The same.
        means: Of both, over all pairs.

    Returns:
        float32 [n, at most 256]; a part that is the same in all pairs is zero.
    """
    parts = ((prompts, means[0], 1 - answer_share), (differences, means[1], answer_share))
    return np.hstack([math.sqrt(share) * _centred(x, mean) for x, mean, share in parts])


def mean_rows(x: np.ndarray) -> np.ndarray:
    """The mean of all rows, added up in float64 a block at a time, in the type of `x`, [width]."""
    total = np.zeros(x.shape[1])
    for start in range(0, len(x), _BLOCK):
        total += x[start : start + _BLOCK].sum(axis=0, dtype=np.float64)
    return (total / len(x)).astype(x.dtype)


def project(vectors: np.ndarray, dimensions: int) -> np.ndarray:
    """Vectors of more than `dimensions` onto as many fixed random directions, always the same; others as they are.

    Source: Johnson and Lindenstrauss 1984: inner products survive, on average exactly.
    """
    width = vectors.shape[1]
    if width <= dimensions:
        return vectors
    directions = np.random.default_rng(width).standard_normal((width, dimensions)) / math.sqrt(dimensions)
    return vectors @ directions.astype(vectors.dtype)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1; zeros stay zeros."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _centred(x: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Rows without the mean, scaled to length 1; what is left of equal rows is rounding, and stays next to zero."""
    rest = x - mean
    lengths, before = (np.linalg.norm(rows, axis=1, keepdims=True) for rows in (rest, x))
    return rest / np.maximum(lengths, 1e-3 * before + 1e-12)


def _nearest(vectors: np.ndarray, prompts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Similarity to the nearest prompt, float64 [n], and which one it is, int64 [n]."""
    similarity, nearest = np.empty(len(vectors)), np.empty(len(vectors), dtype=np.int64)
    for start in range(0, len(vectors), _BLOCK):
        block = slice(start, start + _BLOCK)
        likeness = vectors[block] @ prompts.T
        nearest[block], similarity[block] = likeness.argmax(axis=1), likeness.max(axis=1)
    return similarity, nearest
