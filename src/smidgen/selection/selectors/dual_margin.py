"""Pairs that a reward model and an aligned model both agree with, clearly."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit

from smidgen.errors import UsageError
from smidgen.selection.features import Features
from smidgen.selection.margins import implicit_margin
from smidgen.selection.selectors.base import Reasons, Selection, rank_all, selector
from smidgen.settings import PositiveShare

_SURE = 0.99  # no margin makes an answer surer than this, so that one source can always outweigh the other


@selector
def dual_margin(
    features: Features,
    seed: int,
    *,
    external: str | None = "external_margin",
    clip_quantile: PositiveShare = 0.95,
) -> Selection:
    """By the probability that chosen is better, from an external and the implicit margin; ties in random order.

    Each margin m becomes p = 1/2 + m / (2 u), u the `clip_quantile` of |m| over all pairs, kept within .01 and .99;
    then P = p_1 p_2 / (p_1 p_2 + (1 - p_1)(1 - p_2)). Either margin, if small or negative, pulls a pair down.

    Args:
        external: The column that holds reward(chosen) - reward(rejected) under a reward model, any unit; null ranks
            by the implicit margin alone.
        clip_quantile: Margins beyond this quantile of their sizes count as equal.

    Returns:
        Scores are P, .0001 to .9999.

    Raises:
        UsageError: No column of that name, a quantile outside 0 to 1, or no log-probabilities of an aligned model or
            of the reference.

    Source: Deng et al. 2025 (BeeS), arXiv:2502.14560, Eq. 3. Its probabilities are linear between two bounds as well,
    set by hand; here they are symmetric, so that a margin of 0 says nothing.
    """
    if external is not None and external not in features.columns:
        raise UsageError(
            f"expected a column {external!r} with the reward margin of each pair, got none: no reward model has scored "
            "these pairs. Add the column, or give external=null to rank by the implicit margin alone."
        )
    if not 0 < clip_quantile <= 1:
        raise UsageError(f"expected clip_quantile above 0 and up to 1, got {clip_quantile}; 1 clips nothing.")
    margins = {"implicit": implicit_margin(features)}
    if external is not None:
        margins = {"external": features.column(external), **margins}
    sure = np.sum([logit(margin_probability(m, clip_quantile)) for m in margins.values()], axis=0)

    def describe(row: int) -> str:
        return ", ".join([*(f"{name} margin {m[row]:.3g}" for name, m in margins.items()), "surest first"])

    return rank_all(features, seed, expit(sure), Reasons(len(features), describe))


def margin_probability(margins: np.ndarray, clip_quantile: float) -> np.ndarray:
    """Probability that the chosen answer is the better one: 1/2 at no margin, linear, within .01 and .99, [n]."""
    largest = np.quantile(np.abs(margins), clip_quantile)
    return np.clip(0.5 + margins / (2 * largest), 1 - _SURE, _SURE) if largest > 0 else 0.5 + 0 * margins
