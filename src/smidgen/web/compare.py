"""Compare blind: a person reads two answers and says which is better, not knowing who wrote them until the end."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs, quote, unquote

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from smidgen.errors import UsageError
from smidgen.evaluation.human import HumanVotes, read_human_verdicts
from smidgen.evaluation.raters import rater_name
from smidgen.web.pages import Pages
from smidgen.web.result import outcome_of

PATH = "/compare"
COOKIE = "smidgen-rater"
_SIDES = {"left": "left", "right": "right", "tie": "tie", "skip": None}


def compare_routes(pages: Pages, votes: HumanVotes) -> APIRouter:
    """The pages of a blind comparison."""
    router = APIRouter()
    _add_raters(router, pages, votes)

    @router.get(PATH)
    async def compare(request: Request) -> Response:
        rater = _rater(request)
        if rater is None:
            return pages.show("welcome", room=PATH, n=len(votes.matches), problem="", name="")
        progress = votes.progress(rater)
        if progress.finished:
            return RedirectResponse(f"{PATH}/result", 303)
        return pages.show("compare", room=PATH, rater=rater, progress=progress, shown=votes.next(rater))

    @router.post(f"{PATH}/vote")
    async def vote(request: Request) -> Response:
        form, rater = await _form(request), _rater(request)
        # Another window may have changed who is judging: a verdict must not go to somebody else's account.
        if rater is not None and form.get("rater") == rater:
            votes.cast(rater, *_verdict(form))
        return _back()

    @router.post(f"{PATH}/undo")
    async def undo(request: Request) -> Response:
        if rater := _rater(request):
            votes.undo(rater)
        return _back()

    @router.post(f"{PATH}/finish")
    async def finish(request: Request) -> Response:
        form, rater = await _form(request), _rater(request)
        if rater is None or form.get("rater") != rater:
            return _back()
        progress = votes.progress(rater)
        # A name is all there is to a rater, and what is left could never be judged again: so it is asked once more.
        if not progress.done and form.get("sure") != "yes":
            return pages.show("finish", room=PATH, rater=rater, progress=progress)
        votes.finish(rater)
        return RedirectResponse(f"{PATH}/result", 303)

    @router.get(f"{PATH}/result")
    async def result(request: Request) -> Response:
        rater = _rater(request)
        if rater is None or not votes.progress(rater).finished:
            return _back()
        found = outcome_of(read_human_verdicts(votes.folder), votes.matches)
        return pages.show("result", room=PATH, rater=rater, result=found, progress=votes.progress(rater))

    return router


def _add_raters(router: APIRouter, pages: Pages, votes: HumanVotes) -> None:
    """Who is judging: a name in a cookie, until somebody else does."""

    @router.post(f"{PATH}/rater")
    async def begin(request: Request) -> Response:
        name = (await _form(request)).get("name", "")
        try:
            name = rater_name(name)
        except UsageError as error:
            return pages.show(
                "welcome", status=400, room=PATH, n=len(votes.matches), problem=str(error), name=name[:200]
            )
        response = _back()
        response.set_cookie(COOKIE, quote(name, safe=""), httponly=True, samesite="strict", path=PATH)
        return response

    @router.post(f"{PATH}/leave")
    async def leave(request: Request) -> Response:
        response = _back()
        response.delete_cookie(COOKIE, httponly=True, samesite="strict", path=PATH)
        return response


def _verdict(form: Mapping[str, str]) -> tuple[int, str | None]:
    """The place of the match and the side."""
    place = form.get("place", "")
    if form.get("side") not in _SIDES or not (place.isascii() and place.isdigit() and len(place) < 9):
        raise UsageError("expected a verdict on the match that is shown, got another form. Reload the page.")
    return int(place), _SIDES[form["side"]]


def _rater(request: Request) -> str | None:
    try:
        return rater_name(unquote(request.cookies[COOKIE]))
    except (KeyError, UsageError):
        return None


def _back() -> Response:
    return RedirectResponse(PATH, 303)


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form, the last of each name; the door has seen to it that there is not much of it."""
    text = (await request.body()).decode("utf-8", "replace")
    return {name: values[-1] for name, values in parse_qs(text, keep_blank_values=True).items()}
