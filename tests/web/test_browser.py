"""The pages as a person has them: a real browser, the real program, and whatever may go wrong between the two."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Error, Page
from tests.web.conftest import MODELS, Served, build_comparison, served, some

from smidgen.evaluation.human import HumanVotes, read_human_verdicts
from smidgen.runs import write_text

pytestmark = pytest.mark.slow

PHONE = {"width": 390, "height": 844}
KEYS_TO_WAIT = 10_000  # ms


@contextmanager
def visit(browser: Browser, server: Served, **options) -> Iterator[Page]:
    """Come in by the printed address; at the end nothing may have left the page, failed, or been said."""
    context = browser.new_context(**options)
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}") or dialog.dismiss())
    page.on("request", lambda request: asked.append(request.url))
    page.goto(server.address)
    yield page
    assert said == []
    assert asked and {urlsplit(url).netloc for url in asked if not url.startswith("data:")} == {
        f"127.0.0.1:{server.port}"
    }
    assert "owned" not in page.title()
    context.close()


def begin(page: Page, name: str) -> None:
    page.fill("#name", name)
    page.keyboard.press("Enter")
    page.wait_for_selector("form.vote")
    page.wait_for_load_state()


def press(page: Page, key: str) -> None:
    """Press a key and wait for the page that it leads to."""
    with page.expect_response(lambda answer: answer.request.resource_type == "xhr" and answer.ok, timeout=KEYS_TO_WAIT):
        page.keyboard.press(key)
    page.locator(".htmx-request").wait_for(state="detached")


def judged(page: Page) -> str:
    return page.locator("[data-live]").inner_text()


def texts(page: Page) -> tuple[str, str, str]:
    found = page.locator("#match .answer .text").all_inner_texts()
    assert len(found) == 3
    return found[0], found[1], found[2]


def overflow(page: Page) -> int:
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def test_a_comparison_by_keys_alone_from_the_name_to_the_result(browser, comparison):
    with served(comparison) as server, visit(browser, server) as page:
        page.keyboard.press("Tab")
        assert page.locator(".skip").evaluate("element => element === document.activeElement")
        while not page.locator("#name").evaluate("element => element === document.activeElement"):
            page.keyboard.press("Tab")
        page.keyboard.type("Ada")
        page.keyboard.press("Enter")
        page.wait_for_selector("form.vote")
        page.wait_for_load_state()
        for n, key in enumerate(("1", "ArrowRight", "Space", "2", "3", "ArrowLeft"), start=1):
            before = page.locator("#live").inner_text()
            press(page, key)
            assert judged(page) == f"{n} of 6 judged" != before
            # The reader goes on at the new match, and is told how far she is.
            assert page.evaluate("document.activeElement.hasAttribute('data-focus')")
            assert page.locator("#live").inner_text() == judged(page)
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_selector(".contest")
        assert all(name in page.inner_text("main") for name in MODELS)
        outcomes = [verdict.outcome for verdict in read_human_verdicts(comparison)]
        assert len(outcomes) == 6 and outcomes.count(0.5) == 2


def test_the_side_that_is_pressed_is_the_answer_that_wins(browser, comparison):
    with served(comparison) as server, visit(browser, server) as page:
        begin(page, "Ada")
        for _ in range(6):
            _, left, _ = texts(page)
            press(page, "1" if left.startswith("alpha") else "2")
    assert [verdict.outcome for verdict in read_human_verdicts(comparison)] == [1.0] * 6


def test_undo_and_skip(browser, comparison):
    with served(comparison) as server, visit(browser, server) as page:
        begin(page, "Ada")
        first = texts(page)
        press(page, "1")
        assert texts(page) != first
        press(page, "u")
        assert texts(page) == first and judged(page) == "0 of 6 judged"
        press(page, "s")
        second = texts(page)
        assert second != first
        for _ in range(5):
            press(page, "3")
        assert texts(page) == first and "Once more" in page.inner_text("h1")
        press(page, "s")
        assert "All judged" in page.inner_text("h1") and "1 left without a verdict" in judged(page)
        press(page, "u")
        press(page, "2")
        assert judged(page) == "6 of 6 judged"


def test_keys_work_with_caps_lock_and_single_ones_can_be_put_out(browser, comparison):
    with served(comparison) as server, visit(browser, server) as page:
        begin(page, "Ada")
        press(page, "1")
        press(page, "U")
        assert judged(page) == "0 of 6 judged"
        skipped = texts(page)
        press(page, "S")
        first = texts(page)
        assert first != skipped
        page.uncheck("#single-keys")
        page.reload()
        page.evaluate("document.activeElement.blur()")
        for key in ("1", "s", "S", "3"):
            page.keyboard.press(key)
        assert not page.is_checked("#single-keys") and texts(page) == first
        press(page, "Space")
        assert judged(page) == "1 of 6 judged"


def test_votes_are_there_after_a_restart_and_after_a_kill(browser, comparison):
    for n, end in enumerate((signal.SIGINT, signal.SIGKILL, signal.SIGTERM)):
        with served(comparison) as server, visit(browser, server) as page:
            begin(page, "Ada")
            assert judged(page) == f"{n} of 6 judged"
            press(page, "1")
            shown = texts(page)
            assert judged(page) == f"{n + 1} of 6 judged"
            server.process.send_signal(end)
            server.process.wait(10)
        assert len(read_human_verdicts(comparison)) == n + 1
        # She goes on with the very match that she was shown.
        left = some(HumanVotes(comparison).next("Ada"))
        assert shown[1].split()[:2] == left.left.split()[:2]


def test_when_the_program_has_ended_the_page_says_so(browser, comparison):
    with served(comparison) as server:
        context = browser.new_context()
        page = context.new_page()
        page.goto(server.address)
        begin(page, "Ada")
        server.process.send_signal(signal.SIGINT)
        server.process.wait(10)
        page.keyboard.press("1")
        page.locator("#gone").wait_for(state="visible")
        context.close()


def test_every_rater_has_her_own_order_and_sides(browser, tmp_path):
    folder = build_comparison(tmp_path / "many", n_prompts=12)
    seen = {}
    with served(folder) as server, visit(browser, server) as page:
        for name in ("Ada", "Grace"):
            begin(page, name)
            mine = []
            for _ in range(24):
                _, left, right = texts(page)
                mine.append(left.split()[1])
                assert {left.split()[0], right.split()[0]} == {"alpha", "beta"} and left.split()[1] == right.split()[1]
                seen.setdefault(name, {})[left.split()[1]] = left.split()[0]
                press(page, "3")
            seen[f"{name}'s order"] = mine
            page.click("button.primary")
            page.click("text=Somebody else judges")
    assert seen["Ada's order"] != seen["Grace's order"] and sorted(seen["Ada's order"]) == sorted(seen["Grace's order"])
    assert seen["Ada"] != seen["Grace"] and set(seen["Ada"].values()) == {"alpha", "beta"}


def test_no_page_of_a_blind_comparison_says_who_wrote_what(browser, comparison):
    with served(comparison) as server, visit(browser, server) as page:
        bodies = []
        page.on("response", lambda answer: bodies.append(f"{answer.url} {json.dumps(answer.headers)}"))
        begin(page, "Ada")
        for _ in range(6):
            bodies += [page.content(), page.url, page.title()]
            press(page, "1")
        bodies += [page.content(), page.url]
        assert not any(name in body for body in bodies for name in MODELS)


def test_hostile_texts_stand_as_they_are_and_do_nothing(browser, comparison, finished):
    with served(comparison) as server, visit(browser, server) as page:
        begin(page, "Ada")
        shown = ""
        for _ in range(6):
            shown += "".join(texts(page))
            assert page.locator("main .text *").count() == 0 and page.locator("img").count() == 0
            assert page.locator(".text").first.evaluate("e => getComputedStyle(e).whiteSpace") == "pre-wrap"
            assert page.locator(".text").first.evaluate("e => getComputedStyle(e).unicodeBidi") == "isolate"
            press(page, "1")
        for part in (
            "<script>document.title='owned'</script>",
            "onerror=",
            "</textarea>",
            "{{ 7*7 }}",
            "\n\n\tindented",
        ):
            assert part in shown
    with served(finished) as server, visit(browser, server) as page:
        for query in ("?pair=first", "?q=script", "?q=onerror&pair=first"):
            page.goto(f"{server.base}pairs{query}")
            assert page.locator("main .text *").count() == 0 and page.locator("img").count() == 0
        for point in page.request.get(f"{server.base}frontier").text().split('data-point="')[1:4]:
            page.goto(f"{server.base}frontier?point={point.split(chr(34))[0]}")
            assert page.locator("main .text *").count() == 0


def test_a_browser_with_a_wrong_address_or_a_second_one_gets_nothing(browser, comparison):
    with served(comparison) as server, visit(browser, server) as page:
        assert page.url == f"{server.base}compare" and "token" not in page.evaluate("document.referrer + location.href")
        assert page.evaluate("document.cookie") == ""
        stranger = browser.new_context()
        for address in (server.base, server.address, f"{server.base}?token=x", f"{server.base}static/pages.js"):
            answer = stranger.request.get(address)
            assert answer.status == 403 and answer.text() == ""
            with pytest.raises(Error, match="RESPONSE_CODE_FAILURE"):
                stranger.new_page().goto(address)
        stranger.close()


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_browser_is_opened_by_a_file_that_only_this_user_can_read(browser, comparison, tmp_path, end):
    told = tmp_path / "told"
    (tmp_path / "open").write_text(f'#!/bin/sh\nprintf %s "$*" > {told}.part\nmv {told}.part {told}\n')
    (tmp_path / "open").chmod(0o700)
    with served(comparison, browser=f"{tmp_path / 'open'} %s") as server:
        while not told.exists():
            time.sleep(0.05)
        url, token = told.read_text(), server.address.partition("token=")[2]
        assert url.startswith("file://") and token not in url
        leading = Path(urlsplit(url).path)
        assert leading.stat().st_mode & 0o777 == 0o600 and token in leading.read_text()
        context = browser.new_context()
        page = context.new_page()
        page.goto(url)
        page.wait_for_url(f"{server.base}compare")
        assert page.locator("#name").is_visible()
        context.close()
        server.process.send_signal(end)
        assert server.process.wait(10) == 0 and not leading.exists()


def test_another_page_on_this_machine_cannot_vote(browser, comparison, tmp_path):
    """A page of another port is of the same site: the cookie goes along, and must not be enough."""
    other = build_comparison(tmp_path / "other")
    with served(comparison) as server, served(other) as elsewhere, visit(browser, server) as page:
        begin(page, "Ada")
        attacker = page.context.new_page()
        attacker.route(f"{elsewhere.base}attack", lambda route: route.fulfill(
            content_type="text/html",
            body=f"<form method=post action={server.base}compare/vote><input name=rater value=Ada>"
                 "<input name=place value=0><input name=side value=left><button>go</button></form>",
        ))  # fmt: skip
        attacker.goto(f"{elsewhere.base}attack")
        with attacker.expect_response(f"{server.base}compare/vote") as answer:
            attacker.click("button")
        assert answer.value.status == 403 and read_human_verdicts(comparison) == []
        attacker.close()
    assert read_human_verdicts(comparison) == []


def test_pairs_are_searched_filtered_sorted_and_opened_and_the_address_holds_it(browser, finished):
    with served(finished) as server, visit(browser, server, viewport={"width": 1440, "height": 900}) as page:
        page.click("text=Pairs")
        page.wait_for_selector("table")
        page.keyboard.press("/")
        with page.expect_request("**/pairs?*") as asked:
            page.keyboard.type("bicycle", delay=20)
            page.wait_for_url("**/pairs?q=bicycle")
        # A thousand empty fields would be too long an address for a server.
        assert "from." not in asked.value.url
        assert page.evaluate("document.activeElement.id") == "q" and page.input_value("#q") == "bicycle"
        page.select_option("select[name='is.status']", "kept")
        page.wait_for_url("**is.status=kept")
        page.click("details.more summary")
        page.check("input[name=show][value=chosen_tokens]")
        page.wait_for_url("**show=chosen_tokens")
        page.click("th a:has-text('chosen tokens')")
        page.wait_for_url("**sort=-chosen_tokens**")
        values = [int(text) for text in page.locator("tbody td.n:last-child").all_inner_texts()]
        assert values == sorted(values, reverse=True) and len(values) > 1
        page.locator("#q").press("Escape")
        page.keyboard.press("j")
        page.wait_for_selector("article.pair")
        first = page.inner_text("#pair-title")
        page.keyboard.press("j")
        page.wait_for_selector(f"#pair-title:not(:text('{first}'))")
        assert page.evaluate("document.activeElement.id") == "pair-title"
        address, content = page.url, page.inner_text("#results")
        page.goto(address)
        assert page.inner_text("#results") == content
        page.keyboard.press("k")
        page.wait_for_selector(f"#pair-title:text('{first}')")
        page.keyboard.press("Escape")
        page.wait_for_selector("article.pair", state="detached")
        assert page.evaluate("document.activeElement.id") == f"pair-{first.split()[-1]}"
        page.go_back()
        page.wait_for_selector("article.pair")
        page.click(".conditions a:has-text('bicycle')")
        page.wait_for_selector(".conditions:not(:has-text('bicycle'))")
        assert page.input_value("#q") == ""


def test_a_point_of_the_curve_is_chosen_by_mouse_or_by_keys_and_leads_to_its_pairs(browser, finished):
    with served(finished) as server, visit(browser, server, viewport={"width": 1440, "height": 900}) as page:
        spot = page.locator(".points.wide .spots a").first
        key = spot.get_attribute("data-point")
        spot.locator("circle").click()
        page.wait_for_selector(".chosen-point")
        assert page.url.endswith(f"point={key}") and page.evaluate("document.activeElement.id") == "point-title"
        assert page.locator(".side-by-side > li").count() == 10
        page.click(".all-points summary")
        page.locator(f"#point-{key}").focus()
        while page.evaluate("document.activeElement.closest('tr').className") == "here":
            page.keyboard.press("Tab")
        wanted = page.evaluate("document.activeElement.id").removeprefix("point-")
        page.keyboard.press("Enter")
        page.wait_for_url(f"**point={wanted}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, {"width": 1440, "height": 900}], ids=["phone", "desk"])
def test_pages_fit_the_screen_and_can_be_read_light_and_dark(browser, comparison, finished, scheme, viewport):
    options = {"viewport": viewport, "color_scheme": scheme, "reduced_motion": "reduce"}
    with served(finished) as server, visit(browser, server, **options) as page:
        for path in ("frontier", "pairs", "pairs?pair=first", "pairs?from.chosen_tokens=1"):
            page.goto(server.base + path)
            _check_look(page, scheme)
    with served(comparison) as server, visit(browser, server, **options) as page:
        _check_look(page, scheme)
        begin(page, "Ada")
        _check_look(page, scheme)
        # The verdict is within reach without scrolling, however long the answers are.
        assert some(page.locator(".bar").bounding_box())["y"] < viewport["height"]
        page.click(".aside summary")
        page.click("text=Finish and see the result")
        page.wait_for_selector("h1:has-text('judging?')")
        _check_look(page, scheme)
        page.click("text=Finish for good")
        page.wait_for_selector("h1:has-text('The result')")
        _check_look(page, scheme)


def _check_look(page: Page, scheme: str) -> None:
    page.wait_for_load_state()
    assert overflow(page) == 0
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor").removeprefix("rgb(").split(",")[0]
    assert (int(dark) < 64) == (scheme == "dark")
    assert page.evaluate(_CONTRAST) == []


# Every text against what lies behind it, as WCAG 2 counts it; 4.5 is its level AA. Controls that are off do not count.
_CONTRAST = """() => {
  const channel = (c) => { c /= 255; return c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4; };
  const light = ([r, g, b]) => .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b);
  const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number);
    return { rgb: n.slice(0, 3), a: n[3] ?? 1 }; };
  const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c.a === 1) return c.rgb; } return [255, 255, 255]; };
  const low = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !e.checkVisibility({ opacityProperty: true })) continue;
    if (e.closest("svg, .glyph, .hidden, .skip, :disabled, option")) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color).rgb), light(behind(e))].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5) low.push(`${e.tagName}.${e.className}: ${e.textContent.slice(0, 40)}`);
  }
  return low;
}"""


def test_a_hundred_thousand_pairs_answer_at_once(browser, tmp_path):
    rows = ({"prompt": f"question {i} about {i % 977}", "chosen": f"yes {i}", "rejected": "no", "score": i % 1009}
            for i in range(100_000))  # fmt: skip
    write_text(tmp_path / "many.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    with served(tmp_path / "many.jsonl") as server, visit(browser, server) as page:
        start = time.perf_counter()
        page.goto(f"{server.base}pairs?sort=-score")
        page.fill("#q", "976")
        page.wait_for_selector(".conditions")
        assert "of 100,000" in page.inner_text(".tally")
        assert time.perf_counter() - start < 5
    assert Path(tmp_path / "many.jsonl").exists()
