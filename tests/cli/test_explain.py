"""`smidgen explain`: what it prints and writes, ratings from files, and clear words for what cannot be taken."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]
PAIR = ("--policy", ".2,.3", "--reference", ".2,.4")
SHEET = ("--group", "1,1,2", "--group", "2,1,2", "--group", "3,1,0", "--group", "0,2,3")


@pytest.fixture
def run(command_line: Run) -> Run:
    return partial(command_line, "explain")


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (("ratings", *SHEET), ["0.3333", "0.9526", "MaxMin picks y2"]),
        (("reward", "--chosen", ".5", "--rejected", ".8"), ["0.854355", "0.425557"]),
        (("dpo", *PAIR, "--beta", "2"), ["0.446287", "0.640000", "puts the chosen answer"]),
        (("beta", *PAIR, "--reference", ".2,.2"), ["4.071844", "0.054785"]),
        (("policy", *PAIR, "--beta", "2", "--rewards", ".5,.8"), ["0.4199", "They disagree"]),
        (("objectives", *PAIR, "--beta", "2", "--loss", "dpo", "--loss", "orpo"), ["1.709291"]),
    ],
)
def test_each_explanation_on_the_terminal(run: Run, argv: tuple[str, ...], shown: list[str]) -> None:
    code, out, err = run(*argv)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    for text in shown:
        assert text in out
    code, out, _ = run(*argv, "--json")
    assert json.loads(out)["explanation"] == argv[0]


def test_a_number_changed_changes_the_words(run: Run) -> None:
    one, other = (run("reward", "--chosen", chosen, "--rejected", ".8")[1] for chosen in (".5", "1.5"))
    assert "against what people chose" in re.sub(r"\s+", " ", one)
    assert "as people did" in re.sub(r"\s+", " ", other)


def test_rewards_may_be_negative(run: Run) -> None:
    code, out, _ = run("reward", "--chosen", "-1", "--rejected", "-2.5")
    assert code == 0
    assert "chosen answer 1.5 above" in out
    assert run("policy", *PAIR, "--rewards", "-1,.5", "--rest-reward", "-3")[0] == 0
    assert run("dpo", "--policy", "-45.2,-50", "--reference", "-46,-49", "--logs")[0] == 0


def test_settings_may_come_from_a_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("policy: [.2, .3]\nreference: [.2, .4]\nbeta: 2\n")
    assert run("dpo", "--config", "c.yaml") == run("dpo", *PAIR, "--beta", "2")


def test_a_folder_holds_page_pictures_and_numbers(run: Run, tmp_path: Path) -> None:
    command = ("reward", "--chosen", ".5", "--rejected", ".8", "--out", "out")
    code, out, _ = run(*command)
    assert code == 0
    assert out.splitlines()[-1] == "out/explanation.html"
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"explanation.html", "explanation.json", "reward.png", "run.json", "settings.yaml"}
    assert run(*command)[0] == 0
    code, _, err = run("reward", "--chosen", ".6", "--rejected", ".8", "--out", "out")
    assert code == 2
    assert "other chosen" in err


def test_a_sheet_is_one_page(run: Run, tmp_path: Path) -> None:
    (tmp_path / "sheet.yaml").write_text(
        "title: Mine\nreward: {chosen: .5, rejected: .8}\nratings: {groups: [[1, 1, 2], [0, 2, 3]]}\n"
    )
    code, out, _ = run("sheet", "sheet.yaml", "--out", "out")
    assert code == 0
    assert "0.854355" in out
    page = (tmp_path / "out" / "explanation.html").read_text()
    assert "<title>Mine" in page
    assert page.count("<section") == 2


GROUPS = ({"group": "young", "weight": 3, "tea": 1, "rum": 2}, {"group": "old", "weight": 1, "tea": 2, "rum": 0})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("r.csv", "group,weight,tea,rum\nyoung,3,1,2\nold,1,2,0\n"),
        ("r.jsonl", "".join(json.dumps(group) + "\n" for group in GROUPS)),
        ("r.json", json.dumps(GROUPS)),
    ],
)
def test_ratings_from_a_file(run: Run, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    code, out, _ = run("ratings", "--file", name, "--json")
    groups = json.loads(out)["numbers"]["groups"]
    assert code == 0
    assert [(g["name"], g["share"], g["ratings"]) for g in groups] == [("young", 0.75, [1, 2]), ("old", 0.25, [2, 0])]
    assert run("ratings", "--file", name, "--weights", "1,1")[0] == 0


def test_records_that_hold_no_ratings(run: Run, tmp_path: Path) -> None:
    for text, message in (
        ("[1, 2]\n", "line 1: expected an object with a rating for each answer, got [1, 2]. Give a column to each"),
        ('{"tea": true, "rum": 2}\n', "line 1: expected a number in column tea, got True. Correct it"),
    ):
        (tmp_path / "r.jsonl").write_text(text)
        code, _, err = run("ratings", "--file", "r.jsonl")
        assert code == 3
        assert message in re.sub(r"\s+", " ", err)


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("", 3, "empty"),
        ("group,tea,rum\nyoung,1,many\n", 3, "line 2: expected a number in column rum, got 'many'"),
        ("group,tea,rum\nyoung,1,-2\n", 2, "at least 0, got -2"),
        ("group,tea,rum\nyoung,1\n", 3, "line 2: expected a group's ratings, got"),
        ("group,tea\nyoung,1\n", 2, "two or more answers"),
        ("group,weight,tea,rum\nyoung,0,1,2\n", 2, "weights above 0"),
    ],
)
def test_a_file_that_holds_no_ratings(run: Run, tmp_path: Path, text: str, code: int, message: str) -> None:
    (tmp_path / "r.csv").write_text(text)
    found, out, err = run("ratings", "--file", "r.csv")
    assert (found, out) == (code, "")
    assert message in err


def test_rows_of_a_file_need_the_same_columns(run: Run, tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text('{"tea": 1, "rum": 2}\n{"tea": 1, "gin": 2}\n')
    code, _, err = run("ratings", "--file", "r.jsonl")
    assert code == 3
    assert "line 2: expected the columns tea, rum as in the first group, got tea, gin" in err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("dpo", "--policy", ".2", "--reference", ".2,.4"), "--policy with two numbers"),
        (("dpo", "--policy", ".2,x", "--reference", ".2,.4"), "expected numbers between commas"),
        (("dpo", *PAIR, "--beta", "0"), "expected --beta above 0, got 0"),
        (("dpo", "--policy", ".8,.3", "--reference", ".2,.4"), "together at most 1, got 0.8 and 0.3"),
        (("dpo", *PAIR, "--bta", "1"), "--bta"),
        (("dpo",), "--policy"),
        (("beta", *PAIR, "--betas", "1,nan"), "expected --betas above 0, got nan"),
        (("ratings",), "either --group or --file"),
        (("ratings", "--group", "1,2", "--group", "1"), "same two or more answers"),
        (("ratings", "--group", "1,two"), "expected numbers between commas, got '1,two'"),
        (("ratings", *SHEET, "--answers", "a,b"), "expected 3 names of answers"),
        (("objectives", *PAIR, "--loss", "dop"), "unknown loss 'dop'; expected one of"),
        (("policy", *PAIR, "--rewards", "1"), "--rewards with two numbers"),
        (("theory",), "expected"),
    ],
)
def test_wrong_flags_are_told(run: Run, argv: tuple[str, ...], message: str) -> None:
    code, out, err = run(*argv)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_a_sheet_that_is_none(run: Run, tmp_path: Path) -> None:
    for text, message in (("", "at least one section"), ("[1]", "name: value"), ("dop: {}", "unknown explanation")):
        (tmp_path / "sheet.yaml").write_text(text)
        code, _, err = run("sheet", "sheet.yaml")
        assert code == 2
        assert message in err


def test_names_cannot_steer_the_terminal(run: Run) -> None:
    code, out, _ = run("ratings", "--group", "1,2", "--answers", "a\x1b[2J,b")
    assert code == 0
    assert "\x1b" not in out
