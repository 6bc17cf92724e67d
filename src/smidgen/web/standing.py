"""What became of each pair, and why: kept, left out, or never ranked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from smidgen.errors import SmidgenError
from smidgen.selection.selectors import Selection
from smidgen.selection.selectors import selector as selectors
from smidgen.selection.why import why_dropped, why_kept
from smidgen.study.reasons import Descent
from smidgen.web.material import Material

KEPT, LEFT_OUT, UNRANKED = "kept", "left out", "not ranked"
SWAP = "swap"


@dataclass(frozen=True, slots=True)
class Standing:
    """Of every pair, by idx, its status and the reason for it ("" where none is known); and what to say about gaps."""

    status: Mapping[int, str]
    reason: Mapping[int, str]
    notes: tuple[str, ...]


def standing(material: Material) -> Standing | None:
    """The standing of every pair of a run that chose some; None where nothing was ever ranked or chosen."""
    if material.features is None and not material.kept:
        return None
    ranked = set() if material.features is None else set(material.features.idx.tolist())
    known = ranked | set(material.pairs) | {pair.idx for pair in (*material.kept, *material.runners_up)}
    kept = {pair.idx for pair in material.kept}
    status = {i: KEPT if i in kept else LEFT_OUT if i in ranked or not ranked else UNRANKED for i in known}
    reasons, notes = _left_out_reasons(material, [i for i in known if status[i] == LEFT_OUT])
    for pair in material.runners_up:
        reasons[pair.idx] = pair.extra.get("reason", "")
    for pair in material.kept:
        reasons[pair.idx] = pair.extra.get("reason", "")
        if pair.extra.get("twin_idx"):
            reasons.setdefault(int(pair.extra["twin_idx"]), pair.extra.get("twin_reason", ""))
    for i in known:
        if status[i] == UNRANKED:
            reasons[i] = material.quarantine.get(i, "not among the ranked pairs: held out, or longer than allowed")
    return Standing(status, reasons, notes)


def _left_out_reasons(material: Material, wanted: list[int]) -> tuple[dict[int, str], tuple[str, ...]]:
    """Why pairs were left out, by ranking once more; nothing where that does not lead to the very reasons on record."""
    if material.features is None or not material.kept:
        return {}, ()
    told = (
        "Why a pair was left out is known only of twins and of what nearly made it: ranking features.parquet "
        "again does not lead to the reasons in subset.csv.",
    )
    try:
        selection = selectors.bind(material.kept[0].extra["selector"])(material.features, material.seed)
    except (SmidgenError, KeyError):
        return {}, told
    again = why_kept(selection, material.features)
    row_of = set(material.features.idx.tolist())
    if not all(p.idx in row_of and p.extra.get("reason", "").endswith(again(p.idx)) for p in material.kept):
        return {}, told
    return _retold(material, selection, wanted), ()


def _retold(material: Material, selection: Selection, wanted: list[int]) -> dict[int, str]:
    features = material.features
    assert features is not None, "who ranks has features"
    place = {int(idx): i for i, idx in enumerate(selection.order)}
    by_rank = [pair for pair in material.kept if pair.extra.get("came_by") != SWAP and pair.idx in place]
    size = len(material.kept)
    whole = all(place[pair.idx] < size for pair in by_rank)
    if not whole:
        # Groups of pairs were dropped at the end: how far down the ranking was taken is not on record.
        lowest = max(place[pair.idx] for pair in by_rank)
        own = why_kept(selection, features)
        return {
            idx: own(idx)
            if idx not in place
            else f"ranked {place[idx] + 1:,} of {len(place):,}"
            + (", taken and dropped again as not needed: " if place[idx] < lowest else ": ")
            + own(idx)
            for idx in wanted
        }
    ranked = tuple(int(idx) for idx in np.asarray(selection.order)[:size])
    swapped = {int(p.extra["replaced_idx"]): p.idx for p in material.kept if p.extra.get("replaced_idx")}
    way = Descent(ranked, tuple(swapped.get(idx, idx) for idx in ranked), tuple(pair.idx for pair in material.kept))
    why = way.why_dropped(why_dropped(selection, features, size))
    return {idx: why(idx) for idx in wanted}
