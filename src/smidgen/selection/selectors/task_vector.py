"""Pairs whose training step points where the aligned model went."""

from __future__ import annotations

from smidgen.selection.features import Features
from smidgen.selection.selectors.base import Selection, selector
from smidgen.selection.selectors.two_sided import Pools, ranked_by
from smidgen.settings import Share


@selector
def task_vector(features: Features, seed: int, *, pools: Pools = "two_sided", refuse_share: Share = 0.5) -> Selection:
    """By the cosine of a step on the pair and the aligned model's weights less the reference's; ties in random order.

    Args:
        pools: "two_sided" keeps a quota of pairs that teach refusing and pairs that teach answering, each ordered
            by themselves; "all" orders all pairs, whatever they teach.
        refuse_share: Share of pairs that teach refusing, in every prefix, 0 to 1; of no effect with pools=all.

    Returns:
        Scores are the cosines, -1 to 1.

    Raises:
        UsageError: No aligned model was there to measure with, or a share outside 0 to 1.

    Source: the direction is the task vector of Ilharco et al. 2023, arXiv:2212.04089; gradients of examples against a
    direction wanted: TracIn, Pruthi et al. 2020, arXiv:2002.08484.
    """
    alignment = features.column("task_alignment")
    return ranked_by(
        alignment,
        pools,
        features,
        seed,
        refuse_share=refuse_share,
        how="along the task vector",
        told=lambda value: f"cosine {value:.3g}",
    )
