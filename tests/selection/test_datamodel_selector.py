"""Ranking by a datamodel's coefficients, worked out by hand."""

from __future__ import annotations

import numpy as np

from smidgen.selection.features import Features
from smidgen.selection.selectors import selector

LETTERS = np.array(list("rraaoa"))
FEATURES = Features(
    np.arange(6),
    {
        "chosen_refuses": LETTERS == "r",
        "rejected_refuses": LETTERS == "a",
        "prompt_harmfulness": np.where(LETTERS == "r", 0.9, 0.1),
        "datamodel": np.array([0.1, 0.3, -0.2, 0.2, 0.9, 0.0]),
    },
)


def test_pools_take_turns_each_by_its_coefficients() -> None:
    selection = selector.get("datamodel")(FEATURES, 0)
    assert selection.order.tolist() == [1, 3, 0, 5]
    assert selection.scores.tolist() == FEATURES.columns["datamodel"].tolist()
    assert selection.reasons[1].endswith("by trials of random subsets with and without it (coefficient +0.3)")
    assert selection.reasons[2].startswith("left out")


def test_all_pairs_by_their_coefficients() -> None:
    assert selector.get("datamodel")(FEATURES, 0, pools="all").order.tolist() == [4, 1, 3, 0, 5, 2]
