"""A comparison's page and pictures: themed, the same bytes for the same verdicts, ends that are missing shown so."""

from __future__ import annotations

from pathlib import Path

from smidgen.evaluation.conclusion import conclusion
from smidgen.evaluation.matches import Match
from smidgen.evaluation.ratings import leaderboard
from smidgen.evaluation.sidebyside import compare
from smidgen.evaluation.verdicts import Verdict
from smidgen.report.comparison import render
from smidgen.report.comparison_figures import outcomes_svg
from smidgen.report.ratings_figure import ratings_png, ratings_svg
from smidgen.report.svg import STAND_INS

TRIO = [("a", "b"), ("b", "c"), ("a", "c")]


def verdicts(n: int = 8) -> list[Verdict]:
    return [
        Verdict(
            judge=judge, number=i, letter="A", model_a=x, model_b=y, outcome=[1.0, 0.0, 0.5][(i + k) % 3], why="<b>"
        )
        for judge in ("j", "k")
        for i in range(n)
        for k, (x, y) in enumerate(TRIO)
    ]


def matches(n: int = 8) -> list[Match]:
    return [
        Match(number=i, letter="A", prompt=f"<img src=x> {i}", model_a=x, model_b=y, a="<script>" * i, b="")
        for i in range(n)
        for x, y in TRIO
    ]


def test_the_page_shows_every_text_escaped_and_equal_verdicts_give_equal_bytes() -> None:
    found = compare(verdicts(), matches())
    pages = [render(found, conclusion(found), matches(), verdicts()) for _ in range(2)]
    assert pages[0] == pages[1]
    assert "<img src" not in pages[0] and "<script" not in pages[0] and "&lt;script&gt;" in pages[0]
    assert "default-src 'none'" in pages[0] and "script-src" not in pages[0]
    assert "<th>" not in pages[0] and '<th class="n">' not in pages[0], "every heading says what it heads"
    assert pages[0].count('class="scroll"') == pages[0].count('role="region"') == pages[0].count('tabindex="0"') > 3
    assert pages[0].count('<li class="pair">') == 3 * 8 and "By k" in pages[0]


def test_without_texts_or_verdicts_there_is_a_page_all_the_same() -> None:
    found = compare(verdicts())
    assert "Prompt by prompt" not in render(found, conclusion(found), [], verdicts())
    assert "Cannot be told apart" in render(compare([]), [], [], [])


def test_a_page_of_judges_who_gave_no_verdict_says_so() -> None:
    none = [
        Verdict(judge="chat", number=1, letter=x, model_a="a", model_b="b", outcome=None, problem="over_long")
        for x in "ABC"
    ]
    one = Verdict(judge="longer", number=1, letter="A", model_a="a", model_b="b", outcome=1.0)
    for given in (none, [*none, one]):
        found = compare(given, [])
        assert "nothing can be said of a and b" in render(found, conclusion(found), [], given)


def test_figures_use_the_pages_colours_and_say_what_they_show(tmp_path: Path) -> None:
    found = compare(verdicts())
    bars = outcomes_svg([r for r in found.results if (r.model_a, r.model_b) == ("a", "b")])
    board = ratings_svg(found.ratings)
    for drawn in (bars, board):
        assert "var(--series-1)" in drawn and "var(--ink)" in drawn
        assert not any(color in drawn for color in STAND_INS.values())
        assert "outcomes-narrow" in drawn or "ratings-narrow" in drawn
    assert "j: a wins 3, ties 2, loses 3" in bars and "aria-label" in board
    first, second = (ratings_png(found.ratings, tmp_path / name).read_bytes() for name in ("1.png", "2.png"))
    assert first == second and first.startswith(b"\x89PNG")
    assert outcomes_svg([]) == ""


def test_an_interval_without_an_end_is_drawn(tmp_path: Path) -> None:
    one_sided = [
        Verdict(judge="j", number=i, letter="A", model_a="a", model_b=b, outcome=float(i > 0))
        for i in range(6)
        for b in ("b", "c")
    ]
    board = leaderboard(one_sided)
    assert board and board.rows[0].high is None
    assert ratings_png({"j": board}, tmp_path / "r.png").stat().st_size > 5000


def test_judges_that_have_met_other_models_share_a_picture(tmp_path: Path) -> None:
    met_all = [v for v in verdicts() if v.judge == "j"]
    met_two = [v for v in verdicts() if v.judge == "k" and (v.model_a, v.model_b) == ("a", "b")]
    few, all_of_them = leaderboard(met_two), leaderboard(met_all)
    assert few and all_of_them
    for boards in ({"k": few, "j": all_of_them}, {"j": all_of_them, "k": few}):
        assert "c 1000" in ratings_svg(boards)
        assert ratings_png(boards, tmp_path / "r.png").stat().st_size > 5000
