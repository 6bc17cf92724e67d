"""Browse: all pairs with their features, filtered, searched and sorted; one of them open beside its twin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from smidgen.web.catalogue import Catalogue, Found, Listed
from smidgen.web.curve import Curve
from smidgen.web.holding import Browsable
from smidgen.web.listing import KIND, SOURCE, STATUS
from smidgen.web.pages import Pages, words
from smidgen.web.wanted import FIRST, IDX, LAST, Wanted, query_of, read_wanted

PATH = "/pairs"
_MAIN_LABELS = (STATUS, KIND, SOURCE)


def browse_routes(pages: Pages, pairs: Browsable, curve: Curve | None) -> APIRouter:
    """The page of pairs."""
    router = APIRouter()
    catalogue = pairs.catalogue

    @router.get(PATH)
    async def browse(request: Request) -> Response:
        wanted = read_wanted(request.query_params.multi_items(), labels=catalogue.labels, features=catalogue.features)
        among = curve.pairs_of(wanted.among) if curve and wanted.among else None
        if among is None:
            wanted = replace(wanted, among="")
        found = catalogue.find(wanted, among)
        wanted, opened = _opened(replace(wanted, page=found.page), found, catalogue)
        response = pages.show(
            "browse",
            room=PATH,
            wanted=wanted,
            found=found,
            catalogue=catalogue,
            notes=pairs.notes,
            measure=pairs.likeness.measure,
            opened=opened,
            twins=pairs.likeness.twins(opened) if opened else [],
            others=_neighbours(wanted, found),
            conditions=_conditions(wanted, curve),
            main_labels=[name for name in _MAIN_LABELS if name in catalogue.labels],
            more_labels=[name for name in catalogue.labels if name not in _MAIN_LABELS],
            to=lambda **changes: f"{PATH}?{query_of(wanted, **changes)}",
            sort_to=lambda name: f"{PATH}?{query_of(wanted.sorted_by(name))}",
            columns=_columns(wanted),
        )
        # The address that is kept and shared says no more than it must; a form sends its empty fields too.
        response.headers["HX-Push-Url"] = f"{PATH}?{query_of(wanted)}"
        return response

    return router


def _opened(wanted: Wanted, found: Found, catalogue: Catalogue) -> tuple[Wanted, Listed | None]:
    """The pair that is open, `first` and `last` of the page made out."""
    if wanted.pair in (FIRST, LAST):
        idx = None if not found.rows else found.rows[0 if wanted.pair == FIRST else -1].idx
        wanted = replace(wanted, pair=idx)
    opened = catalogue.pair(wanted.pair) if isinstance(wanted.pair, int) else None
    return (wanted if opened else replace(wanted, pair=None)), opened


def _neighbours(wanted: Wanted, found: Found) -> dict[str, str]:
    """Where the previous and the next pair are, over the ends of the page too."""
    idxs = [row.idx for row in found.rows]
    if not idxs:
        return {}
    if wanted.pair not in idxs:
        return {"next": f"{PATH}?{query_of(wanted, pair=idxs[0])}"}
    at = idxs.index(wanted.pair)
    links = {}
    if at > 0:
        links["previous"] = query_of(wanted, pair=idxs[at - 1])
    elif found.page > 1:
        links["previous"] = query_of(wanted, page=found.page - 1, pair=LAST)
    if at < len(idxs) - 1:
        links["next"] = query_of(wanted, pair=idxs[at + 1])
    elif found.page < found.n_pages:
        links["next"] = query_of(wanted, page=found.page + 1, pair=FIRST)
    return {name: f"{PATH}?{query}" for name, query in links.items()}


def _conditions(wanted: Wanted, curve: Curve | None) -> list[tuple[str, str]]:
    """Every condition in words, and the address without it."""
    rest: dict[str, Any] = {"page": 1, "pair": None}
    found: list[tuple[str, str]] = []
    if wanted.text:
        found.append((f"with {wanted.text}", query_of(wanted, text="", **rest)))
    for name, value in wanted.labels.items():
        others = {key: v for key, v in wanted.labels.items() if key != name}
        found.append((f"{words(name)}: {value}", query_of(wanted, labels=others, **rest)))
    if wanted.why:
        found.append((f"because: {wanted.why}", query_of(wanted, why="", **rest)))
    for name, ends in wanted.ranges.items():
        others_in = {key: v for key, v in wanted.ranges.items() if key != name}
        found.append((f"{words(name)} {_span(*ends)}", query_of(wanted, ranges=others_in, **rest)))
    if wanted.among:
        point = curve.point(wanted.among) if curve else None
        told = f"{point.title}, {point.size:,} pairs" if point else "a trial"
        found.append((f"trained on by {told}", query_of(wanted, among="", **rest)))
    return [(text, f"{PATH}?{query}") for text, query in found]


def _span(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f"from {low:g} to {high:g}"
    return f"from {low:g}" if low is not None else f"to {high:g}"


def _columns(wanted: Wanted) -> list[str]:
    """The features with a column: what the list is sorted by, then what was asked for."""
    return list(dict.fromkeys([*([wanted.sort] if wanted.sort != IDX else []), *wanted.shown]))
