"""What subset.csv says beside the texts: hand-worked on five pairs."""

from __future__ import annotations

from typing import Any

import numpy as np

from smidgen.pairs import PairTable, plain_pair
from smidgen.selection.features import Features
from smidgen.selection.selectors import Selection
from smidgen.selection.why import subset_columns, why_dropped, why_kept

PAIRS = PairTable([plain_pair(10 + i, f"prompt {i} " + "x" * 400 * (i == 3), f"chosen {i}", "no") for i in range(5)])
SELECTION = Selection(
    order=np.array([12, 10, 13, 11]),
    eligible=np.array([True, True, True, True, False]),
    scores=np.arange(5.0),
    reasons=["a", "b", "c", "d", "left out, inverted"],
)


def features(**more: np.ndarray) -> Features:
    """Pair 12 is like 14, pair 10 like 13; the first two harmful and refused."""
    vectors = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.8, 0.6, 0], [0, 0.6, 0.8]], dtype=np.float32)
    refused = np.array([True, True, False, False, False])
    return Features(
        np.arange(10, 15),
        {
            "text_vector": vectors,
            "prompt_harmfulness": np.array([0.9, 0.8, 0.1, 0.2, 0.3]),
            "chosen_refuses": refused,
            "rejected_refuses": ~refused,
            **more,
        },
    )


def columns(kept: list[int], found: Features) -> dict[str, Any]:
    return subset_columns(
        PAIRS.take(kept),
        PAIRS,
        found,
        kept=why_kept(SELECTION, found),
        dropped=why_dropped(SELECTION, found, len(kept)),
        selector="x",
    )


def test_every_kept_pair_has_its_nearest_twin_left_out_and_why() -> None:
    found = columns([12, 10], features())
    assert found["reason"] == ["c", "a"]
    assert found["twin_idx"] == [14, 13]
    assert found["twin_similarity"] == [0.8, 0.8]
    assert found["twin_reason"] == ["left out, inverted", "ranked 3 of 4, the best 2 were taken: d"]
    assert found["twin_chosen"] == ["chosen 4", "chosen 3"]
    assert found["twin_prompt"][0].strip() == "prompt 4"
    assert found["twin_prompt"][1].endswith("x …") and len(found["twin_prompt"][1]) == 302
    assert found["kind"] == ["answering contrast", "refusal contrast"]
    assert found["contrast"] == [0.9, 0.9]
    assert not {"implicit_margin", "dev_similarity"} & found.keys()


def test_what_a_run_has_measured_stands_there_too() -> None:
    zeros = {f"ref_{side}_logps": np.zeros(5) for side in ("chosen", "rejected")}
    aligned = {"aligned_chosen_logps": np.arange(5.0), "aligned_rejected_logps": np.full(5, -1.0)}
    near = {"similarity_harmful": np.full(5, 0.25), "similarity_harmless": np.full(5, 0.75)}
    found = columns([12, 10], features(**zeros, **aligned, **near))
    assert found["implicit_margin"] == [3.0, 1.0]
    assert found["dev_similarity"] == [0.75, 0.25]


def test_a_subset_of_everything_has_no_twins() -> None:
    found = columns([12, 10, 13, 11, 14], features())
    for name in ("twin_idx", "twin_similarity", "twin_reason", "twin_prompt", "twin_chosen", "twin_rejected"):
        assert found[name] == [None] * 5
