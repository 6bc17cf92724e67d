"""Pairs whose chosen answer the aligned model has learnt, measured by what there was to learn."""

from __future__ import annotations

import numpy as np

from smidgen.selection.features import Features
from smidgen.selection.selectors.base import Reasons, Selection, rank_all, selector


@selector
def learnability(features: Features, seed: int) -> Selection:
    """By (loss_ref - loss_aligned) / loss_ref, highest first; ties in random order.

    The loss is the negative log-likelihood of the chosen answer given its prompt, averaged over its tokens: no
    rejected answer, no beta. As both models read the same tokens, the average cancels: summed losses give the same.

    Returns:
        Scores are the share of the reference's loss that is gone under the aligned model, at most 1, below 0 where
        the loss grew; 0 where the reference has no loss.

    Raises:
        UsageError: There are no log-probabilities of an aligned model, or none of the reference.

    Source: Zhou et al. 2023 (LoBaSS), arXiv:2310.13008; without the division Mindermann et al. 2022 (RHO-LOSS),
    arXiv:2206.07137, whose second model has seen only held-out data; this one may have seen these pairs.
    """
    loss_ref, loss_aligned = (-features.column(f"{model}_chosen_logps") for model in ("ref", "aligned"))
    some = loss_ref > 0
    scores = np.where(some, (loss_ref - loss_aligned) / np.where(some, loss_ref, 1.0), 0.0)

    def describe(row: int) -> str:
        return f"the aligned model has learnt {scores[row]:.1%} of the chosen answer's loss, most first"

    return rank_all(features, seed, scores, Reasons(len(features), describe))
