"""Pairs whose being trained on went with better outcomes of a study's own cheap trials."""

from __future__ import annotations

from smidgen.selection.features import Features
from smidgen.selection.selectors.base import Selection, selector
from smidgen.selection.selectors.two_sided import Pools, ranked_by
from smidgen.settings import Share


@selector
def datamodel(features: Features, seed: int, *, pools: Pools = "two_sided", refuse_share: Share = 0.5) -> Selection:
    """By the lasso coefficient of a pair's membership in random subsets on the trial's surrogate; ties at random.

    Only in a study, which runs `datamodel_trials` trials for it. Pairs that no trial drew, or that the lasso gives no
    weight, have 0 and stand together between those that helped and those that hindered.

    Args:
        pools: "two_sided" keeps a quota of pairs that teach refusing and pairs that teach answering, each ordered
            by themselves; "all" orders all pairs, whatever they teach.
        refuse_share: Share of pairs that teach refusing, in every prefix, 0 to 1; of no effect with pools=all.

    Returns:
        Scores are the coefficients.

    Raises:
        UsageError: No trials were there to fit to, or a share outside 0 to 1.

    Source: Ilyas et al. 2022, arXiv:2202.00622.
    """
    coefficients = features.column("datamodel")
    return ranked_by(
        coefficients,
        pools,
        features,
        seed,
        refuse_share=refuse_share,
        how="by trials of random subsets with and without it",
        told=lambda value: f"coefficient {value:+.3g}",
    )
