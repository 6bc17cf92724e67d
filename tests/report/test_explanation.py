"""An explanation's page opens offline, says what was computed, and takes names as text; pictures are reproducible."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from smidgen.explain.base import Explanation
from smidgen.explain.objectives import objectives
from smidgen.explain.policy import policy
from smidgen.explain.ratings import ratings
from smidgen.explain.reward import reward
from smidgen.report.explanation import render, write_explanation

HOSTILE = "<script>alert(1)</script>\x1b[2J"


@pytest.fixture(scope="module")
def found() -> list[Explanation]:
    return [
        ratings(groups=((1.0, 1.0, 2.0), (3.0, 1.0, 0.0))),
        reward(chosen=0.5, rejected=0.8),
        policy(policy=(0.2, 0.3), reference=(0.2, 0.4), rewards=(0.5, 0.8), beta=2),
        objectives(policy=(0.2, 0.3), reference=(0.2, 0.4), beta=2, losses=("dpo", "ipo", "orpo")),
    ]


@pytest.fixture(scope="module")
def page(found: list[Explanation]) -> str:
    return render(found, title="A sheet")


def test_the_page_says_every_conclusion_and_every_table(page: str, found: list[Explanation]) -> None:
    text = re.sub(r"\s+", " ", _text(page))
    for one in found:
        assert all(paragraph in text for paragraph in one.conclusion)
        assert all(table.title in text for table in one.tables)
    assert "0.854355" in text


def test_nothing_is_fetched_and_no_script_runs(page: str) -> None:
    assert not re.findall(r"<script|<link[^>]+href=\"(?!data:)|src=|https?://(?!www\.w3\.org)", page)
    assert "default-src 'none'" in page
    assert not re.search(r'\sstyle="', page)


def test_ids_are_distinct(page: str) -> None:
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_no_stand_in_colour_is_left(page: str) -> None:
    assert "#0a00" not in page
    assert "var(--series-1)" in page


def test_names_are_text(found: list[Explanation]) -> None:
    hostile = ratings(groups=((1.0, 2.0),), answers=(HOSTILE, "$\\alpha$"), names=("<b>me</b>",))
    page = render([hostile])
    assert "<script>" not in page
    assert "\x1b" not in page
    assert "<b>me" not in page
    assert "&lt;script&gt;" in page


def test_equal_numbers_give_equal_bytes(found: list[Explanation], tmp_path: Path) -> None:
    both = [write_explanation(tmp_path / name, found[:2], title="A sheet") for name in ("a", "b")]
    assert [path.name for path in both[0]] == [
        "explanation.html", "explanation.json", "1_ratings.png", "1_shares.png", "2_reward.png"
    ]  # fmt: skip
    for one, other in zip(*both, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def test_the_json_holds_the_numbers(found: list[Explanation], tmp_path: Path) -> None:
    write_explanation(tmp_path, [found[1]])
    data = json.loads((tmp_path / "explanation.json").read_text())
    assert data["numbers"]["loss"] == pytest.approx(0.854355, abs=5e-7)
    assert data["conclusion"] == list(found[1].conclusion)


def _text(page: str) -> str:
    parts: list[str] = []

    class Reader(HTMLParser):
        def handle_data(self, data: str) -> None:
            parts.append(data)

    Reader().feed(page)
    return "".join(parts)
