"""Who may come in: one address that works once, then a cookie; and nobody else, from this machine or any page on it.

Pages of a local server are in reach of every page that a browser shows, and of every user of the machine. So a request
must name this server as its host (a name that was rebound to 127.0.0.1 does not), carry the cookie that only the
printed address gives, and, where it changes anything, come from one of our own pages. All else gets an empty 403.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
MOST_BODY = 64 * 1024  # bytes: a vote and a name are far smaller
MOST_QUERY = 60 * 1024  # bytes: a form of filters sends two fields for every feature of the data, empty or not
# Of a page that leads on by itself: after a redirect from another site, the browser would hold the cookie back.
_LEAD_ON = '<!doctype html><html lang="en"><title>Smidgen</title><p><a href="/">Open the pages</a></p>'


class Door:
    """ASGI middleware that lets in whoever came by the one-time address.

    Args:
        app: What lies behind.
        port: That the server listens on, at 127.0.0.1.
        token: Of the one-time address; `new_token` makes one.
    """

    def __init__(self, app: ASGIApp, *, port: int, token: str) -> None:
        self.app = app
        self.cookie = f"smidgen-{port}"  # cookies do not tell ports apart
        self.hosts = (f"127.0.0.1:{port}", f"localhost:{port}")
        self._token: str | None = token
        self._session = new_token()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await (self._answer(scope) or self.app)(scope, receive, _with_headers(send))

    def _answer(self, scope: Scope) -> Response | None:
        """What a request gets at the door; None lets it in."""
        headers = Headers(scope=scope)
        if headers.getlist("host") not in [[host] for host in self.hosts]:
            return _refused()
        if len(scope["query_string"]) > MOST_QUERY:
            return _refused()
        if tokens := parse_qs(scope["query_string"].decode("latin-1")).get("token"):
            return self._exchange(scope, headers, tokens)
        if not any(_same(value, self._session) for value in _cookies(headers, self.cookie)):
            return _refused()
        if scope["method"] in ("GET", "HEAD"):
            return None
        return None if scope["method"] == "POST" and _from_our_page(headers) and _small(headers) else _refused()

    def _exchange(self, scope: Scope, headers: Headers, given: list[str]) -> Response:
        right = self._token is not None and len(given) == 1 and _same(given[0], self._token)
        if not right or scope["path"] != "/" or scope["method"] != "GET":
            return _refused()
        self._token = None
        follows = headers.get("sec-fetch-site", "none") in ("none", "same-origin")
        response = RedirectResponse("/", 303) if follows else HTMLResponse(_LEAD_ON, headers={"Refresh": "0; url=/"})
        response.set_cookie(self.cookie, self._session, httponly=True, samesite="strict", path="/")
        return response


def new_token() -> str:
    """256 random bits, for an address."""
    return secrets.token_urlsafe(32)


def _refused() -> Response:
    return Response(status_code=403)


def _same(given: str, wanted: str) -> bool:
    """Whether two texts are equal, in a time that does not tell how far they are."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), wanted.encode())


def _cookies(headers: Headers, name: str) -> Iterable[str]:
    return (found[name] for line in headers.getlist("cookie") if name in (found := cookie_parser(line)))


def _from_our_page(headers: Headers) -> bool:
    """Whether a browser says that a request comes from a page of this server; who says nothing is not believed.

    Our pages send no referrer, and so their forms give `null` for their origin; then Sec-Fetch-Site, which no script
    can set, must vouch for them.
    """
    origin, site = headers.getlist("origin"), headers.get("sec-fetch-site")
    ours = origin == [f"http://{headers['host']}"]
    return site == "same-origin" and (ours or origin == ["null"]) if site is not None else ours


def _small(headers: Headers) -> bool:
    length = headers.get("content-length", "")
    return length.isascii() and length.isdigit() and int(length) <= MOST_BODY


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> Any:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return send_with_headers
