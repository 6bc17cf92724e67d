"""The pages as one application, and what it answers where something is wrong. It lets in whom `door.Door` lets in."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException

from smidgen.errors import SmidgenError, UsageError
from smidgen.web.browse import browse_routes
from smidgen.web.compare import compare_routes
from smidgen.web.holding import Holding
from smidgen.web.pages import STATIC, Pages
from smidgen.web.walk import frontier_routes

# Of a blind page: what went wrong may name the folder, and that may well be made of the models' names.
_BLIND_ERROR = (
    "expected votes that can be read and written, got an error, which stands in the terminal where `smidgen view` "
    "runs, for it may say who wrote what. Look there; what was judged before is kept."
)


def make_app(holding: Holding, *, say: Callable[[str], None] = lambda text: None) -> FastAPI:
    """The application that shows a holding; `say` is told the errors that a blind page must not show."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    pages = Pages(holding)
    if holding.pairs is not None:
        app.include_router(browse_routes(pages, holding.pairs, holding.curve))
    if holding.curve is not None:
        app.include_router(frontier_routes(pages, holding.curve))
    if holding.votes is not None:
        app.include_router(compare_routes(pages, holding.votes))
    first = "/frontier" if holding.curve else "/pairs" if holding.pairs else "/compare"

    @app.get("/")
    async def home() -> Response:
        return RedirectResponse(first, 303)

    @app.get("/static/{name}")
    async def static(name: str) -> Response:
        if name not in STATIC:
            raise HTTPException(404)
        content, kind = STATIC[name]
        return Response(content, media_type=kind)

    @app.exception_handler(HTTPException)
    async def not_there(request: Request, error: HTTPException) -> Response:
        return pages.show("problem", status=error.status_code, message="There is no such page.")

    @app.exception_handler(SmidgenError)
    async def cannot(request: Request, error: SmidgenError) -> Response:
        if isinstance(error, UsageError):
            return pages.show("problem", status=400, message=str(error))
        if holding.votes is None:
            return pages.show("problem", status=500, message=str(error))
        say(str(error))
        return pages.show("problem", status=500, message=_BLIND_ERROR)

    return app
