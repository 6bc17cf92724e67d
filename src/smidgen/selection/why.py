"""What a subset's table says of each kept pair: what it teaches, how it looks, and its nearest twin left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from smidgen.pairs import PairTable
from smidgen.selection.features import Features, LazyColumns
from smidgen.selection.kinds import kind_of
from smidgen.selection.margins import implicit_margin
from smidgen.selection.selectors.base import Selection, rows_of
from smidgen.selection.selectors.two_sided import contrast_confidence
from smidgen.selection.twins import nearest_twins

_EXCERPT = 300  # characters of a twin's texts: the whole of them stand in the data

# Says of a pair, by idx, why it was kept or not.
Why = Callable[[int], str]


def why_kept(selection: Selection, features: Features) -> Why:
    """The selector's own reasons, by idx."""
    row_of = {int(idx): row for row, idx in enumerate(features.idx)}
    return lambda idx: selection.reasons[row_of[idx]]


def why_dropped(selection: Selection, features: Features, size: int) -> Why:
    """Why a pair is not among the best `size`: its place in the ranking, or what the selector has against it."""
    reason = why_kept(selection, features)
    place = {int(idx): number for number, idx in enumerate(selection.order, start=1)}

    def why(idx: int) -> str:
        if idx not in place:
            return reason(idx)
        return f"ranked {place[idx]:,} of {len(place):,}, the best {size:,} were taken: {reason(idx)}"

    return why


def subset_columns(
    subset: PairTable, pairs: PairTable, features: Features, *, kept: Why, dropped: Why, selector: str
) -> dict[str, Sequence[Any]]:
    """What stands in subset.csv beside idx, prompt, chosen and rejected.

    Args:
        subset: The kept pairs, best first.
        pairs: All pairs.
        features: Of all pairs.
        kept: Why a pair of the subset is in it.
        dropped: Why any other is not.
        selector: The ranking that chose them, with its settings.
    """
    rows = rows_of(features.idx, np.array(subset.idxs, dtype=np.int64))
    found = features.take(rows)
    return {
        "rank": list(range(1, len(subset) + 1)),
        "selector": [selector] * len(subset),
        "reason": [kept(idx) for idx in subset.idxs],
        **feature_columns(found, asked=_asked(features)),
        "source": [pair.source for pair in subset],
        "source_row": [pair.source_row for pair in subset],
        **_twin_columns(rows, pairs, features, dropped),
    }


def feature_columns(features: Features, *, asked: set[str]) -> dict[str, Sequence[Any]]:
    """What is measured of these pairs, for people: kind, harmfulness, who refuses, and what `asked` has of the rest.

    Args:
        features: Of these pairs, in the order of the table.
        asked: Columns that may be read without measuring anything.
    """
    harmfulness = features.column("prompt_harmfulness")
    columns: dict[str, Sequence[Any]] = {
        "kind": kind_of(features),
        "prompt_harmfulness": _rounded(harmfulness),
        "chosen_refuses": [bool(value) for value in features.column("chosen_refuses")],
        "rejected_refuses": [bool(value) for value in features.column("rejected_refuses")],
        "contrast": _rounded(contrast_confidence(features)),
    }
    if {"aligned_chosen_logps", "ref_chosen_logps"} <= asked:
        columns["implicit_margin"] = _rounded(implicit_margin(features))
    if {"similarity_harmful", "similarity_harmless"} <= asked:
        alike = (features.column(f"similarity_{side}") for side in ("harmful", "harmless"))
        columns["dev_similarity"] = _rounded(np.where(harmfulness >= 0.5, *alike))
    return columns


def _twin_columns(rows: np.ndarray, pairs: PairTable, features: Features, dropped: Why) -> dict[str, Sequence[Any]]:
    """Of each kept pair, the most alike that was not kept; None where nothing left out has a word in common."""
    left_out = np.ones(len(features), dtype=bool)
    left_out[rows] = False
    found, likeness = nearest_twins(features.column("text_vector"), features.idx, rows, left_out)
    idxs = [int(features.idx[row]) if row >= 0 else None for row in found]
    twins = [None if idx is None else pairs.by_idx(idx) for idx in idxs]
    return {
        "twin_idx": idxs,
        "twin_similarity": [
            None if twin is None else round(float(value), 4) for twin, value in zip(twins, likeness, strict=True)
        ],
        "twin_reason": [None if idx is None else dropped(idx) for idx in idxs],
        "twin_prompt": [twin and _excerpt(twin.prompt_text) for twin in twins],
        "twin_chosen": [twin and _excerpt(twin.chosen_text) for twin in twins],
        "twin_rejected": [twin and _excerpt(twin.rejected_text) for twin in twins],
    }


def _asked(features: Features) -> set[str]:
    columns = features.columns
    return set(columns.written() if isinstance(columns, LazyColumns) else columns)


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 4) for value in values]


def _excerpt(text: str) -> str:
    return text if len(text) <= _EXCERPT else f"{text[:_EXCERPT].rstrip()} …"
