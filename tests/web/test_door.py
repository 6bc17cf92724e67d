"""Nobody comes in but by the one-time address, and nothing is changed but from our own pages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from smidgen.web.door import HEADERS, MOST_BODY, MOST_QUERY, Door

TOKEN = "t0ken"
BASE = "http://127.0.0.1:8765"
OURS = {"Origin": BASE, "Sec-Fetch-Site": "same-origin"}


def inside(request) -> PlainTextResponse:
    return PlainTextResponse("the inside")


def client(base: str = BASE) -> TestClient:
    app = Starlette(routes=[Route("/{path:path}", inside, methods=["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])])
    return TestClient(Door(app, port=8765, token=TOKEN), base_url=base, follow_redirects=False)


def come_in(visitor: TestClient) -> None:
    answer = visitor.get("/", params={"token": TOKEN})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def is_nothing(answer) -> bool:
    return answer.status_code == 403 and answer.content == b"" and "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", ["/", "/pairs", "/compare/result", "/static/pages.js", "/nowhere", "/../etc/passwd"])
def test_without_the_cookie_there_is_nothing_on_any_path(path):
    assert is_nothing(client().get(path))


@given(st.text(max_size=60).filter(lambda text: text != TOKEN))
def test_a_wrong_token_gets_nothing_and_leaves_the_right_one_good(token):
    visitor = client()
    assert is_nothing(visitor.get("/", params={"token": token}))
    come_in(visitor)


def test_the_token_lets_in_once_and_its_cookie_stays():
    visitor, other = client(), None
    come_in(visitor)
    assert visitor.get("/pairs").text == "the inside"
    assert is_nothing(visitor.get("/", params={"token": TOKEN}))
    other = TestClient(visitor.app, base_url=BASE, follow_redirects=False)
    assert is_nothing(other.get("/", params={"token": TOKEN}))


@pytest.mark.parametrize(("method", "url"), [("POST", f"/?token={TOKEN}"), ("GET", f"/pairs?token={TOKEN}"),
                                             ("GET", f"/?token={TOKEN}&token={TOKEN}")])  # fmt: skip
def test_the_token_is_good_for_one_request_only_to_the_beginning(method, url):
    assert is_nothing(client().request(method, url, headers=OURS))


def test_the_cookie_is_for_the_server_and_for_this_site_alone():
    cookie = client().get("/", params={"token": TOKEN}).headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "8765" in cookie.split("=")[0]
    assert TOKEN not in cookie


def test_from_a_link_on_another_site_the_page_leads_on_by_itself():
    # A redirect would be followed without the cookie.
    answer = client().get("/", params={"token": TOKEN}, headers={"Sec-Fetch-Site": "cross-site"})
    assert (answer.status_code, answer.headers["refresh"]) == (200, "0; url=/") and "set-cookie" in answer.headers


@pytest.mark.parametrize("host", ["evil.example:8765", "127.0.0.1", "127.0.0.1:80", "127.0.0.1:8765.evil.example", ""])
def test_a_host_that_is_not_ours_gets_nothing_even_with_the_cookie_and_the_token(host):
    visitor = client()
    come_in(visitor)
    assert is_nothing(visitor.get("/pairs", headers={"Host": host}))
    assert is_nothing(client().get("/", params={"token": TOKEN}, headers={"Host": host}))


@pytest.mark.parametrize("headers", [
    {},
    {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "http://127.0.0.1:9999", "Sec-Fetch-Site": "same-site"},
    {"Origin": "http://127.0.0.1:9999"},
    {"Origin": "null"},
    {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
    {"Origin": BASE, "Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-origin"},
    {**OURS, "Origin": "http://localhost:8765"},
])  # fmt: skip
def test_only_our_own_pages_change_anything(headers):
    visitor = client()
    come_in(visitor)
    assert is_nothing(visitor.post("/compare/vote", headers=headers, content=b"x"))


@pytest.mark.parametrize("headers", [OURS, {"Origin": BASE}, {"Origin": "null", "Sec-Fetch-Site": "same-origin"}])
def test_our_own_pages_do(headers):
    visitor = client()
    come_in(visitor)
    assert visitor.post("/compare/vote", headers=headers, content=b"x").text == "the inside"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_no_other_methods(method):
    visitor = client()
    come_in(visitor)
    assert is_nothing(visitor.request(method, "/pairs", headers=OURS))


def test_large_bodies_and_bodies_of_unknown_length_stay_outside():
    visitor = client()
    come_in(visitor)
    assert is_nothing(visitor.post("/x", headers=OURS, content=b"x" * (MOST_BODY + 1)))
    assert is_nothing(visitor.post("/x", headers=OURS, content=iter([b"x"])))


def test_a_filter_over_a_thousand_features_comes_in_and_an_endless_query_does_not():
    visitor = client()
    come_in(visitor)
    form = {f"{end}.reward_of_model_{n}": "" for n in range(1000) for end in ("from", "to")} | {"q": "tea"}
    assert visitor.get("/pairs", params=form).text == "the inside"
    assert is_nothing(visitor.get(f"/pairs?q={'x' * MOST_QUERY}"))


def test_the_headers_stand_on_every_answer_inside_and_out():
    visitor = client()
    refused = visitor.get("/")
    come_in(visitor)
    for answer in (refused, visitor.get("/pairs"), visitor.get("/", params={"token": "wrong"})):
        assert HEADERS.items() <= {name.title(): value for name, value in answer.headers.items()}.items()
    policy = refused.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy


@pytest.mark.parametrize("cookie", ["smidgen-8765=wrong", "smidgen-8765=", 'a="b; smidgen-8765', "smidgen-8765=\xff"])
def test_other_cookies_get_nothing(cookie):
    assert is_nothing(client().get("/", headers={"Cookie": cookie.encode("latin-1")}))
