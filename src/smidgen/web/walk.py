"""Frontier: the study's curve; a point that is chosen shows its pairs and what its models write."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from markupsafe import Markup

from smidgen.errors import UsageError
from smidgen.web.curve import Curve
from smidgen.web.pages import Pages

PATH = "/frontier"
_TEXTS = 10


def frontier_routes(pages: Pages, curve: Curve) -> APIRouter:
    """The page of the curve."""
    router = APIRouter()
    drawings = [
        {
            "name": drawn.name,
            "svg": Markup(drawn.svg),
            "width": drawn.width,
            "height": drawn.height,
            "spots": [(spot, point) for spot in drawn.spots if (point := curve.at(spot))],
        }
        for drawn in curve.drawn
    ]

    @router.get(PATH)
    async def frontier(request: Request) -> Response:
        given = request.query_params
        chosen = curve.point(given.get("point", ""))
        if "point" in given and chosen is None:
            raise UsageError("expected a point of this study, got another. Go back to the curve.")
        view = (
            {} if chosen is None else _point_view(curve, given.get("point", ""), given.get("trial"), given.get("page"))
        )
        return pages.show(
            "frontier",
            room=PATH,
            certificate=curve.run.certificate,
            verdict=curve.verdict,
            drawings=drawings,
            points=curve.points,
            chosen=chosen,
            **view,
        )

    return router


def _point_view(curve: Curve, key: str, trial: str | None, page: str | None) -> dict[str, Any]:
    """What a chosen point shows beside itself: one trial's pairs and completions."""
    point = curve.point(key)
    assert point is not None, "looked up before"
    ids = [one.trial_id for one in point.trials]
    trial = trial if trial in ids else point.key
    written = curve.written(point, trial)
    n_pages = max(1, -(-len(written) // _TEXTS))
    number = min(n_pages, int(page) if page and page.isascii() and page.isdigit() and len(page) < 9 else 1) or 1
    first = _TEXTS * (number - 1)
    return {
        "trial": trial,
        "n_pairs": len(curve.pairs_of(trial) or ()),
        "texts": written[first : first + _TEXTS],
        "start": first + 1,
        "total": len(written),
        "n_differ": sum(row.differ for row in written),
        "page": number,
        "n_pages": n_pages,
    }
