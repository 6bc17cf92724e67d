"""Pages hold every text escaped, blind pages no name, and the result what hand counting gives."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.web.conftest import HOSTILE, MODELS, build_comparison, some

from smidgen.evaluation.conclusion import conclusion
from smidgen.evaluation.human import MATCHES, VOTES, HumanVotes, read_human_verdicts
from smidgen.evaluation.matches import Match, read_matches
from smidgen.evaluation.sidebyside import compare
from smidgen.evaluation.verdicts import Verdict
from smidgen.evaluation.winrate import Tally
from smidgen.runs import write_text
from smidgen.web.app import make_app
from smidgen.web.holding import Holding, open_holding
from smidgen.web.pages import STATIC
from smidgen.web.result import outcome_of

VOID = {"meta", "link", "input", "br", "img", "hr"}
OWN_SCRIPTS = ["/static/htmx.min.js", "/static/pages.js"]


class Page(HTMLParser):
    """A page's elements; every element is closed where it must be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert tag in VOID or self.open.pop() == tag, f"</{tag}> closes what is not open"

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def client(run: Path) -> TestClient:
    return client_of(open_holding(run))


def client_of(holding: Holding) -> TestClient:
    return TestClient(make_app(holding), base_url="http://127.0.0.1:1")


@pytest.fixture(scope="module")
def holding(finished: Path) -> Holding:
    return open_holding(finished)


def check_inert(text: str) -> Page:
    page = Page(text)
    assert [script.get("src") for script in page.of("script")] == OWN_SCRIPTS
    assert not page.of("img") and not page.of("style") and not page.of("iframe")
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert not [name for _, attributes in page.elements for name in attributes if name == "style"]
    links = [a.get("href", "") for a in page.of("a")]
    assert all(link.startswith(("/", "#")) and not link.startswith("//") for link in links)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    return page


@pytest.mark.parametrize("path", [
    "/pairs", "/pairs?pair=first&is.status=kept", "/pairs?q=%3Cscript%3E", "/pairs?is.status=%22%3E%3Cimg+src%3Dx%3E",
    "/pairs?sort=-prompt_harmfulness&show=chosen_tokens&page=3", "/pairs?from.chosen_tokens=9&to.chosen_tokens=20",
    "/frontier", "/pairs?why=%3Cb%3E&in=nothing",
])  # fmt: skip
def test_texts_of_pairs_do_nothing_but_stand_there(holding, path):
    answer = client_of(holding).get(path)
    assert answer.status_code == 200
    check_inert(answer.text)


def test_every_point_shows_its_pairs_and_completions(holding):
    visitor = client_of(holding)
    points = some(holding.curve).points
    assert {point.group for point in points} == {"search", "tested", "arm"}
    page = check_inert(visitor.get("/frontier").text)
    linked = {a["href"] for a in page.of("a") if "point=" in a["href"]}
    assert linked == {f"/frontier?point={point.key}" for point in points}
    for point in points[::4]:
        shown = check_inert(visitor.get(f"/frontier?point={point.key}").text)
        assert f"{point.size:,} pairs" in shown.text and "Base" in shown.text


def test_a_point_lies_where_its_score_and_size_are(holding):
    curve = some(holding.curve)
    for drawn in curve.drawn:
        for group in ("search", "tested"):
            spots = [(spot, curve.at(spot)) for spot in drawn.spots if spot.group == group]
            by_score = sorted(spots, key=lambda both: both[1].score.mean)
            assert [spot.y for spot, _ in by_score] == sorted((spot.y for spot, _ in spots), reverse=True)
            by_size = sorted(spots, key=lambda both: both[1].size)
            assert [spot.x for spot, _ in by_size] == sorted(spot.x for spot, _ in spots)
        assert all(0 < spot.x < drawn.width and 0 < spot.y < drawn.height for spot in drawn.spots)


@pytest.mark.parametrize("path", ["/nowhere", "/static/../holding.py", "/static/", "/static/look.css/x", "/docs",
                                  "/openapi.json", "/compare", "/static/%2e%2e/door.py", "//etc/passwd"])  # fmt: skip
def test_no_path_opens_a_file(holding, path):
    answer = client_of(holding).get(path)
    assert answer.status_code == 404 and "There is no such page" in answer.text
    check_inert(answer.text)


def test_static_files_are_the_four_that_are_named(holding):
    visitor = client_of(holding)
    for name, (content, kind) in STATIC.items():
        answer = visitor.get(f"/static/{name}")
        assert answer.content == content and answer.headers["content-type"].startswith(kind)


def test_a_point_that_is_none_is_an_error_in_words(holding):
    answer = client_of(holding).get("/frontier?point=<script>")
    assert answer.status_code == 400 and "Go back to the curve" in check_inert(answer.text).text


def finish(visitor: TestClient, rater: str) -> None:
    visitor.post("/compare/finish", data={"rater": rater, "sure": "yes"})


def judge(visitor: TestClient, folder: Path, rater: str, side: str) -> None:
    place = some(HumanVotes(folder).next(rater)).place
    visitor.post("/compare/vote", data={"rater": rater, "place": str(place), "side": side})


def test_blind_pages_never_hold_a_models_name_until_the_rater_has_finished(comparison):
    visitor = client(comparison)
    answers = [visitor.get("/"), visitor.post("/compare/rater", data={"name": "Ada"}), visitor.get("/compare/result")]
    for _ in range(6):
        answers.append(visitor.get("/compare"))
        judge(visitor, comparison, "Ada", "left")
    answers += [visitor.get("/compare"), visitor.get("/pairs"), visitor.get("/frontier")]
    for answer in answers:
        for one in (answer, *answer.history):
            said = f"{one.text} {one.headers} {one.url}"
            assert not any(name in said for name in MODELS)
        check_inert(answer.text)
    shown = answers[3].text
    assert "alpha" in shown and "beta" in shown
    finish(visitor, "Ada")
    assert all(name in visitor.get("/compare/result").text for name in MODELS)


def test_what_goes_wrong_on_a_blind_page_is_told_in_the_terminal_alone(comparison):
    said = []
    visitor = TestClient(make_app(open_holding(comparison), say=said.append), base_url="http://127.0.0.1:1")
    visitor.post("/compare/rater", data={"name": "Ada"})
    (comparison / VOTES).write_bytes(b"not a database, and long enough to be looked at" * 9)
    answer = visitor.get("/compare")
    assert answer.status_code == 500 and "in the terminal" in check_inert(answer.text).text
    assert not any(name in f"{answer.text} {answer.headers}" for name in (*MODELS, comparison.name))
    assert len(said) == 1 and str(comparison) in said[0]


def test_another_rater_is_still_blind_when_one_has_finished(comparison):
    visitor = client(comparison)
    visitor.post("/compare/rater", data={"name": "Ada"})
    finish(visitor, "Ada")
    visitor.post("/compare/leave")
    visitor.post("/compare/rater", data={"name": "Grace"})
    answer = visitor.get("/compare/result")
    assert answer.url.path == "/compare" and not any(name in answer.text for name in MODELS)


def test_finishing_early_is_asked_once_more_and_ends_the_judging_of_nobody_else(comparison):
    visitor = client(comparison)
    visitor.post("/compare/rater", data={"name": "Ada"})
    judge(visitor, comparison, "Ada", "left")
    asked = check_inert(visitor.post("/compare/finish", data={"rater": "Ada"}).text)
    assert "1 of 6 matches are judged" in asked.text and {"name": "sure", "value": "yes", "type": "hidden"} in [
        *asked.of("input")]  # fmt: skip
    visitor.post("/compare/finish", data={"rater": "Grace", "sure": "yes"})
    visitor.post("/compare/finish", data={"sure": "yes"})
    assert not any(HumanVotes(comparison).progress(name).finished for name in ("Ada", "Grace"))
    finish(visitor, "Ada")
    assert HumanVotes(comparison).progress("Ada").finished


def test_who_has_judged_all_finishes_at_once(comparison):
    visitor = client(comparison)
    visitor.post("/compare/rater", data={"name": "Ada"})
    for _ in range(6):
        judge(visitor, comparison, "Ada", "tie")
    assert visitor.post("/compare/finish", data={"rater": "Ada"}).url.path == "/compare/result"


def test_features_of_any_name_give_ids_without_spaces(tmp_path):
    rows = [{"prompt": f"p{i}", "chosen": "y", "rejected": "n", "my  feature\t<é>": i, "my": -i} for i in range(9)]
    write_text(tmp_path / "pairs.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    page = check_inert(client(tmp_path / "pairs.jsonl").get("/pairs?show=my++feature%09%3C%C3%A9%3E&show=my").text)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len([one for one in ids if one.startswith("sort-")]) == 3
    assert not [one for one in ids if any(sign.isspace() for sign in one)]


def test_a_window_left_open_under_another_name_casts_nothing(comparison):
    visitor = client(comparison)
    visitor.post("/compare/rater", data={"name": "Ada"})
    visitor.post("/compare/rater", data={"name": "Grace"})
    visitor.post("/compare/vote", data={"rater": "Ada", "place": "0", "side": "left"})
    assert read_human_verdicts(comparison) == []


@pytest.mark.parametrize("form", [{"side": "left"}, {"side": "both", "place": "0"}, {"place": "0"},
                                  {"side": "left", "place": "-1"}, {"side": "left", "place": "99999999"}])  # fmt: skip
def test_a_form_that_is_none_of_ours_is_an_error_in_words(comparison, form):
    visitor = client(comparison)
    visitor.post("/compare/rater", data={"name": "Ada"})
    answer = visitor.post("/compare/vote", data={"rater": "Ada", **form})
    assert answer.status_code == 400 and "Reload" in answer.text and read_human_verdicts(comparison) == []


@pytest.mark.parametrize("name", ["", " ", "x" * 61, "a\u202eb", HOSTILE[0] * 3])
def test_a_name_that_cannot_be_taken_is_asked_for_again(comparison, name):
    answer = client(comparison).post("/compare/rater", data={"name": name})
    assert answer.status_code == 400 and "Give another" in check_inert(answer.text).text


def test_a_hostile_name_is_a_name(comparison):
    visitor = client(comparison)
    name = '"><img src=x onerror=alert(1)> ü; a=b'
    assert name in check_inert(visitor.post("/compare/rater", data={"name": name}).text).text


def verdict(rater: str, number: int, outcome: float, a: str = "x", b: str = "y") -> Verdict:
    return Verdict(judge="human", rater=rater, number=number, letter="A", model_a=a, model_b=b, outcome=outcome)


def test_the_result_is_what_counting_by_hand_gives():
    outcome = outcome_of(
        [verdict("ada", n, 1.0) for n in (1, 2, 3)] + [verdict("ada", 4, 0.0), verdict("bob", 1, 1.0),
                                                       verdict("bob", 2, 0.5), verdict("bob", 4, 0.0)]
    )  # fmt: skip
    (contest,) = outcome.contests
    assert contest.everybody.tally == Tally(wins=4, losses=2, ties=1)
    assert contest.everybody.n_prompts == 4 and some(contest.everybody.rate).mean == 4.5 / 7
    assert [(rater, line.tally.n) for rater, line in contest.raters] == [("ada", 4), ("bob", 3)]
    assert "x and y cannot be told apart" in outcome.words[0]
    assert some(outcome.agreement).n_items == 3 and some(outcome.agreement).observed == pytest.approx(2 / 3)
    assert outcome.n_raters == 2


def test_every_two_of_three_models_have_their_lines_in_the_order_of_the_matches():
    pairs = [("z", "x"), ("z", "y"), ("x", "y")]
    played = [Match(number=1, letter="A", prompt="p", model_a=a, model_b=b, a="1", b="2") for a, b in pairs]
    said = [verdict("ada", 1, 1.0, a=a, b=b) for a, b in pairs] + [verdict("bob", 1, 0.0, a="x", b="y")]
    found = outcome_of(said, played).contests
    assert [(c.everybody.model_a, c.everybody.model_b, c.everybody.tally.wins, len(c.raters)) for c in found] == [
        ("z", "x", 1, 1), ("z", "y", 1, 1), ("x", "y", 1, 2)]  # fmt: skip


@pytest.mark.parametrize(("won", "said"), [(1.0, "x is preferred to y"), (0.0, "y is preferred to x")])
def test_a_preference_is_claimed_only_beyond_its_interval(won, said):
    many = outcome_of([verdict("ada", n, won) for n in range(30)])
    assert said in many.words[0] and many.agreement is None
    few = outcome_of([verdict("ada", n, won) for n in range(2)])
    assert "cannot be told apart" in few.words[0]


def test_the_page_says_what_the_command_says(comparison):
    visitor = client(comparison)
    visitor.post("/compare/rater", data={"name": "Ada"})
    for side in ("left", "right", "tie"):
        judge(visitor, comparison, "Ada", side)
    finish(visitor, "Ada")
    shown = check_inert(visitor.get("/compare/result").text).text
    matches = read_matches(comparison / MATCHES)
    told = conclusion(compare(read_human_verdicts(comparison), matches, models=MODELS))
    assert told and all(paragraph in shown for paragraph in told)


def test_nobody_has_judged():
    assert outcome_of([]).contests == outcome_of([]).words == () and outcome_of([]).agreement is None


def test_every_page_can_be_read_by_a_screen_reader(holding, comparison, tmp_path):
    visitor, judging = client_of(holding), client(build_comparison(tmp_path / "other"))
    judging.post("/compare/rater", data={"name": "Ada"})
    key = some(holding.curve).points[0].key
    texts = [visitor.get(path).text for path in ("/pairs?pair=first", "/frontier", f"/frontier?point={key}", "/x")]
    texts += [client(comparison).get("/compare").text, judging.get("/compare").text]
    finish(judging, "Ada")
    texts.append(judging.get("/compare/result").text)
    for text in texts:
        page = Page(text)
        assert len(page.of("main")) == len(page.of("h1")) == len(page.of("header")) == 1
        assert page.of("html")[0]["lang"] == "en" and page.of("title")
        labelled = {label.get("for") for label in page.of("label")}
        for tag in ("input", "select", "progress", "textarea"):
            for control in page.of(tag):
                told = control.get("id") in labelled or control.get("type") in ("hidden", "checkbox")
                assert told or control.get("aria-label"), control
        for tag in ("nav", "section", "article"):
            assert all({"aria-label", "aria-labelledby"} & set(found) or tag == "section" for found in page.of(tag))
        ids = {attributes.get("id") for _, attributes in page.elements}
        named = [attributes[name] for _, attributes in page.elements for name in
                 ("aria-labelledby", "aria-describedby") if name in attributes]  # fmt: skip
        assert set(named) <= ids
        assert all("aria-label" in svg or svg.get("aria-hidden") == "true" for svg in page.of("svg"))
        assert all(th.get("scope") for th in page.of("th"))
        assert [p for p in page.of("p") if p.get("aria-live") == "polite"]
