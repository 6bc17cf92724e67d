"""Pairs that the aligned model finds easy."""

from __future__ import annotations

import numpy as np
from pydantic import PositiveFloat

from smidgen.errors import UsageError
from smidgen.selection.features import Features
from smidgen.selection.margins import implicit_margin
from smidgen.selection.selectors.base import Reasons, Selection, rank_all, selector


@selector
def selective_dpo(features: Features, seed: int, *, beta: PositiveFloat = 0.1) -> Selection:
    """By the DPO loss under the aligned model, -log sigmoid(beta h), smallest first; ties in random order.

    The published method takes the mean loss over six reference models, each trained on the half of the data that
    lacks the pair. Here it is the one aligned model's loss, held out only where that model has not seen the pair.
    The loss falls as the margin h grows, so the order is that of `margin_band` with band=high, apart from rounding.

    Args:
        beta: Of the loss; changes its size, not the order. Positive.

    Returns:
        Scores are minus the loss, nats.

    Raises:
        UsageError: A beta that is not positive, no log-probabilities of an aligned model, or none of the
            reference.

    Source: Gao et al. 2025, arXiv:2502.09650 (keeps the easiest half).
    """
    if beta <= 0:
        raise UsageError(f"expected a positive beta, got {beta}; 0.1 is usual.")
    loss = np.logaddexp(0, -beta * implicit_margin(features))
    reasons = Reasons(len(features), lambda row: f"DPO loss {loss[row]:.3g} under the aligned model, easiest")
    return rank_all(features, seed, -loss, reasons)
