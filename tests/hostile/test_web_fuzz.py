"""The pages under fuzz: whatever is asked, they answer with a page, a redirection or a refusal, and never fail.

In production the application tells nobody its schema; here one is made from its routes, for the fuzzer alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi.openapi.utils import get_openapi
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from tests.hostile.mutations import HOSTILE_VALUES
from tests.web.conftest import build_comparison, build_study

from smidgen.web.app import make_app
from smidgen.web.compare import COOKIE
from smidgen.web.door import HEADERS, Door
from smidgen.web.holding import open_holding

PORT, TOKEN = 1, "let-me-in"
BASE = f"http://127.0.0.1:{PORT}"
_FEW = settings(max_examples=12, deadline=None, phases=[Phase.generate])
_OWN = {"origin": BASE, "sec-fetch-site": "same-origin"}


@pytest.fixture(scope="module", params=["study", "comparison"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("web") / "run"
    return build_study(folder) if request.param == "study" else build_comparison(folder)


def test_production_tells_nobody_its_schema(run: Path) -> None:
    client = TestClient(make_app(open_holding(run)), base_url=BASE)
    for path in ("/openapi.json", "/docs", "/redoc"):
        assert client.get(path).status_code == 404


_NAMES = ("q", "page", "pair", "sort", "show", "why", "in", "is.status", "from.prompt_tokens", "to.prompt_tokens",
          "point", "trial", "name", "rater", "place", "side", "sure", "_method")  # fmt: skip
_FIELDS = st.lists(
    st.tuples(
        st.sampled_from(_NAMES),
        st.text(max_size=20)
        | st.sampled_from([v for v in HOSTILE_VALUES if isinstance(v, str) and "\ud800" not in v])
        | st.sampled_from(
            ("first", "-idx", "-1", "left", "tie", "Ada", "0", "99999999", "NEAR(a b)", '"', "a* OR b", "%_")
        ),
    ),
    max_size=5,
)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_request_makes_a_page_fail(run: Path) -> None:
    app = make_app(open_holding(run))
    door = Door(app, port=PORT, token=TOKEN)
    client, stranger = (TestClient(door, base_url=BASE, follow_redirects=False) for _ in range(2))
    assert client.get(f"/?token={TOKEN}").status_code == 303
    schema = schemathesis.openapi.from_dict(get_openapi(title="Pages", version="1", routes=app.routes))
    seen = 0
    for found in schema.get_all_operations():
        operation = found.ok()  # pyright: ignore[reportAttributeAccessIssue]
        seen += 1

        @_FEW
        @given(operation.as_strategy(), _FIELDS, st.booleans(), st.sampled_from(("Ada", "%ff", "a%00b", "")))
        def law(case: schemathesis.Case, fields: list[tuple[str, str]], ours: bool, rater: str) -> None:
            path, method = case.formatted_path, case.method
            client.cookies.set(COOKIE, rater)
            form: dict[str, Any] = {"data": dict(fields)} if method == "POST" else {"params": fields}
            answer = client.request(method, path, headers=_OWN if ours else {}, **form)
            # 500 only where a page says so in words; an exception would come up through the client.
            assert answer.status_code in (200, 303, 400, 404, 405) or (method == "POST" and not ours)
            assert {name: answer.headers[name] for name in HEADERS} == HEADERS
            assert stranger.request(method, path, headers=_OWN, **form).status_code == 403

        law()
    assert seen > 3
