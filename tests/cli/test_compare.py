"""`smidgen compare`: files and models in, the same work taken up again, people's votes, verdicts from anywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tests.servers.faulty import FaultyServer, refused

from smidgen.assets import DEMO
from smidgen.cli.compare_text import comparison_text
from smidgen.evaluation.completions import Completed, Completions
from smidgen.evaluation.completions_files import write_completions_jsonl, write_completions_text
from smidgen.evaluation.human import HumanVotes
from smidgen.evaluation.sidebyside import compare, turn
from smidgen.evaluation.verdicts import Verdict, read_verdicts, write_verdicts

Run = Callable[..., tuple[int, str, str]]
NASTY = "</p><script>alert(1)</script> \x1b[2J {{ 7 * 7 }} \u202e"


@pytest.fixture
def run(command_line: Run) -> Run:
    return partial(command_line, "compare")


def completions(model: str, longest: int, n: int = 6) -> Completions:
    rng = np.random.default_rng(longest)
    rows = [Completed(f"p{i}", tuple("word " * int(rng.integers(1, longest)) + NASTY for _ in "AB")) for i in range(n)]
    return Completions(model=model, rows=tuple(rows))


@pytest.fixture
def files(run: Run) -> tuple[str, str]:
    write_completions_jsonl("output_x_sft.jsonl", completions("sft", 8))
    write_completions_text("output_x_completions_dpo.txt", completions("dpo", 20))
    return "output_x_sft.jsonl", "output_x_completions_dpo.txt"


def data(out: str) -> dict:
    return json.loads(Path(out, "comparison.json").read_text())


def test_files_are_compared_and_the_page_holds_nothing_alive(run: Run, files: tuple[str, str]) -> None:
    code, out, _ = run(*files, "--judge", "longer", "--judge", "matches:pattern=WORD WORD", "--out", "r")
    page = Path("r/comparison.html").read_text()

    assert code == 0 and "first: sft   second: dpo" in out and "longer" in out
    assert {path.name for path in Path("r").iterdir()} == {
        *("run.json", "settings.yaml", "matches.jsonl", "verdicts.jsonl", "comparison.json", "comparison.html"),
    }
    assert "<script" not in page.replace("&lt;script", "") and "&lt;script&gt;" in page and "{{ 7 * 7 }}" in page
    assert "http" not in page.replace("http-equiv", "") and "\x1b" not in page
    found = data("r")
    assert found["models"] == ["sft", "dpo"] and found["judges"] == ["longer", "matches:pattern=WORD WORD"]
    assert found["conclusion"] and found["conclusion"][0].startswith("Of 2 judges of sft and dpo")
    assert found["conclusion"][1].startswith("By longer")


def test_equal_files_tie_and_names_may_be_given(run: Run, files: tuple[str, str]) -> None:
    assert run(f"one={files[0]}", f"two={files[0]}", "--judge", "longer", "--out", "r")[0] == 0
    (result,) = data("r")["results"]
    assert result["tally"] == {"wins": 0, "losses": 0, "ties": 12} and result["rate"]["mean"] == 0.5
    code, _, err = run(files[0], files[0], "--judge", "longer", "--out", "s")
    assert code == 3 and "different names" in err and not Path("s").exists()


def test_the_same_command_gives_the_same_bytes_and_other_work_is_left_alone(run: Run, files: tuple[str, str]) -> None:
    argv = (*files, "--judge", "longer", "--out", "r")
    run(*argv)
    before = {path.name: path.read_bytes() for path in Path("r").iterdir()}
    assert run(*argv)[0] == 0
    assert {path.name: path.read_bytes() for path in Path("r").iterdir()} == before
    code, _, err = run(*files, "--judge", "shorter", "--out", "r")
    assert code == 2 and "other judge" in err


def test_people_judge_between_two_calls(run: Run, files: tuple[str, str]) -> None:
    argv = (*files, "--judge", "human", "--out", "r")
    code, out, _ = run(*argv)
    assert code == 0 and "nobody has judged yet" in out and "smidgen view r" in out
    assert Path("r/matches.jsonl").exists() and not Path("r/comparison.json").exists()

    votes = HumanVotes("r")
    for rater in ("ann", "bob"):
        while shown := votes.next(rater):
            votes.cast(rater, shown.place, "left" if len(shown.left) > len(shown.right) else "tie")
    code, out, _ = run(*argv)
    found = data("r")
    assert code == 0 and "24 verdicts by people so far" in out
    assert found["results"][0]["raters"] == ["ann", "bob"] and found["results"][0]["tally"]["losses"] > 0
    assert any(accord["who"] == ["human ann", "human bob"] for accord in found["accords"])


def test_verdicts_from_anywhere_are_rated_without_completions(run: Run) -> None:
    def on(number: int, a: str, b: str, outcome: float) -> Verdict:
        return Verdict(judge="j", number=number, letter="A", model_a=a, model_b=b, outcome=outcome)

    rng = np.random.default_rng(0)
    pairs = [("x", "y"), ("y", "z"), ("z", "x")]
    write_verdicts("one.jsonl", [on(i, *pair, float(rng.integers(2))) for i in range(30) for pair in pairs[:2]])
    write_verdicts("two.jsonl", [on(i, *pairs[2], 0.5) for i in range(30)])
    code, out, err = run("--verdicts", "one.jsonl", "--verdicts", "two.jsonl", "--out", "r")
    assert code == 0, err
    assert "ratings by j" in out and Path("r/ratings.png").exists() and not Path("r/matches.jsonl").exists()
    assert len(data("r")["ratings"]["j"]["rows"]) == 3

    write_verdicts("cut.jsonl", [on(1, "x", "y", 1), on(1, "y", "z", 1)])
    code, out, _ = run("--verdicts", "cut.jsonl", "--out", "s")
    assert code == 0 and "no finite fit exists" in out and not Path("s/ratings.png").exists()


def test_a_later_verdict_takes_the_place_of_an_earlier_one_everywhere(run: Run, files: tuple[str, str]) -> None:
    assert run(*files, "--judge", "longer", "--out", "r")[0] == 0
    given = read_verdicts("r/verdicts.jsonl")
    write_verdicts("old.jsonl", [replace(turn(v), outcome=0.5, why="superseded") for v in given])
    code, out, _ = run(*files, "--judge", "longer", "--verdicts", "old.jsonl", "--out", "s")
    assert code == 0 and f"{len(given)} verdicts gave way to later ones" in out
    assert data("s")["replaced"] == len(given) and data("s")["results"] == data("r")["results"]
    for name in ("verdicts.jsonl", "comparison.html"):
        assert Path("s", name).read_text() == Path("r", name).read_text()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"letter": "\x1b[31mA"}, "none of A, B, C"),
        ({"letter": ""}, "none of A"),
        ({"model_b": "a"}, "'a' against itself"),
    ],
)
def test_a_verdict_that_is_none_is_refused(run: Run, change: dict[str, str], said: str) -> None:
    row = {"judge": "j", "number": 1, "letter": "A", "model_a": "a", "model_b": "b", "outcome": 1}
    Path("v.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row | change) + "\n")
    code, out, err = run("--verdicts", "v.jsonl", "--out", "r")
    assert code == 3 and "v.jsonl, line 2" in err and said in " ".join(err.split()) and "\x1b" not in out + err


def test_letters_are_safe_to_print() -> None:
    verdicts = [
        Verdict(judge="j", number=1, letter=letter, model_a="a", model_b="b", outcome=1.0)
        for letter in ("A", "\x1b[2J")
    ]
    assert "\x1b" not in comparison_text(compare(verdicts), [])


@pytest.mark.parametrize(
    "argv", [["compare", "--help"], ["generate", "--help"], ["compare", "a.jsonl", "b.jsonl", "--judge", "longer"]]
)
def test_no_torch_where_no_model_is_used(run: Run, argv: list[str]) -> None:
    for name, longest in (("a", 3), ("b", 9)):
        write_completions_jsonl(f"{name}.jsonl", completions(name, longest))
    words = argv if "--help" in argv else [*argv, "--out", "r"]
    script = (
        f"import sys; from smidgen.cli import main; code = main({words!r}); "
        "sys.exit(code or bool({'torch', 'transformers'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--judge", "longer"], 2, "expected two models or more"),
        (["output_x_sft.jsonl", "--judge", "longer"], 2, "got 1"),
        (["output_x_sft.jsonl", "output_x_completions_dpo.txt"], 2, "expected --judge, got none"),
        (["output_x_sft.jsonl", "output_x_completions_dpo.txt", "--judge", "best"], 2, "unknown judge 'best'"),
        (["output_x_sft.jsonl", "gone.txt", "--judge", "longer"], 2, "gone.txt"),
        (["output_x_sft.jsonl", "empty.txt", "--judge", "longer"], 3, "empty.txt"),
        (["output_x_sft.jsonl", "fewer.jsonl", "--judge", "longer"], 3, "as many completions"),
        (["output_x_sft.jsonl", "some/model", "--judge", "longer"], 2, "expected --prompts"),
        (["output_x_sft.jsonl", "output_x_completions_dpo.txt", "--judge", "chat"], 2, "expected a chat model to ask"),
        (
            ["output_x_sft.jsonl", "output_x_completions_dpo.txt", "--judge", "longer", "--judge", "longer"],
            2,
            "distinct",
        ),
        (
            ["output_x_sft.jsonl", "output_x_completions_dpo.txt", "--judge", "longer", "--rubric", "x"],
            2,
            "--judge chat only",
        ),
        (
            ["output_x_sft.jsonl", "output_x_completions_dpo.txt", "--judge", "longer", "--temperature", "0"],
            2,
            "expected --temperature with a model that writes only",
        ),
        (["--verdicts", "bad.jsonl", "--completions", "3"], 2, "expected --completions with a model that writes"),
        (["--verdicts", "empty.txt"], 2, "empty.txt"),
        (["--verdicts", "bad.jsonl"], 3, "bad.jsonl, line 1"),
        (["--verdicts", "bad.jsonl", "--judge", "longer"], 2, "--verdicts alone"),
        (["=output_x_sft.jsonl", "b", "--judge", "longer"], 2, "NAME=SOURCE"),
    ],
)
def test_bad_input_is_named_and_leaves_no_folder(
    run: Run, files: tuple[str, str], flags: list[str], code: int, said: str
) -> None:
    Path("empty.txt").write_text("")
    Path("bad.jsonl").write_text(
        '{"judge": "j", "number": 1, "letter": "A", "model_a": "a", "model_b": "b", "outcome": NaN}\n'
    )
    write_completions_jsonl("fewer.jsonl", completions("few", 5, n=3))
    found, _, err = run(*flags, "--out", "r")
    assert found == code and said in " ".join(err.split()), err
    assert not Path("r").exists()


def test_a_chat_judge_costs_what_the_dry_run_says_and_is_asked_once(run: Run, files: tuple[str, str]) -> None:
    with FaultyServer(lambda turns: "Verdict: 1", plan=[refused(400)]) as server:
        argv = [*files, "--judge", "chat", "--teacher", server.url, "--model", "j", "--key-variable", "none"]
        argv += ["--rubric", "more words, more context", "--out", "r"]
        code, out, _ = run(*argv, "--dry-run")
        # Twelve matches in two orders, less those of equal answers.
        assert code == 0 and "18 calls" in out and not Path("r").exists() and not server.asked
        code, out, _ = run(*argv)
        assert code == 4 and "changed its mind on 100.0%" in out and "1 bad_request" in out
        n_asked = len(server.asked)
        assert "the same command asks again" in out and n_asked == 18
        # What was refused may be answered another time; nothing else is asked again.
        assert run(*argv)[0] == 0 and len(server.asked) == n_asked + 1
        assert data("r")["results"][0]["missing"] == {} and len(server.times_billed()) == 18


@pytest.mark.slow
def test_models_write_first_and_are_taken_up_again(run: Run) -> None:
    Path("p.txt").write_text("How do I bake bread?\nHow do I pick a lock?\n")
    argv = ["one=" + str(DEMO / "model"), "two=" + str(DEMO / "model"), "--prompts", "p.txt", "--judge", "longer"]
    code, _, err = run(*argv, "--max-new-tokens", 8, "--out", "r")
    assert code == 0, err
    # The same model, seed and prompts: the same words.
    assert data("r")["results"][0]["tally"] == {"wins": 0, "losses": 0, "ties": 6}
    before = Path("r/comparison.json").read_bytes()
    assert run(*argv, "--max-new-tokens", 8, "--out", "r")[0] == 0
    assert Path("r/comparison.json").read_bytes() == before
    plan = run(*argv, "--out", "s", "--dry-run")[1]
    assert "matches to judge by longer" in plan and "completions, at most" in plan and not Path("s").exists()


@pytest.mark.slow
def test_what_is_cut_of_prompts_and_texts_is_told_every_time(run: Run) -> None:
    Path("p.json").write_text(json.dumps(["Hi", "flour " * 500 + "and salt"]))
    argv = [f"../one={DEMO / 'model'}", f"..-one={DEMO / 'model'}", "--prompts", "p.json", "--judge", "longer"]
    argv += ["--truncate-prompt", "--max-new-tokens", "4", "--completions", "2", "--out", "r"]
    code, out, err = run(*argv)
    assert code == 0, err
    first = data("r")
    found = first["written"]["../one"]
    assert found["truncated_prompts"] == [2] and found["completions"] == 4
    assert "../one: 1 prompt lost the beginning" in out and f"..-one: {found['cut']} of 4 completions were cut" in out
    assert first["models"] == ["../one", "..-one"]
    # Nothing but what is of use, inside the folder, and no name takes another's file.
    kept = list(Path("r/completions").iterdir())
    assert len(kept) == 4 and all(path.is_file() for path in kept) and not list(Path().glob("output_*"))
    code, again, _ = run(*argv)
    assert (code, again, data("r")) == (0, out, first)


def test_the_greedy_write_once(run: Run) -> None:
    Path("p.txt").write_text("How do I bake bread?\n")
    argv = [f"one={DEMO / 'model'}", f"two={DEMO / 'model'}", "--prompts", "p.txt", "--judge", "longer"]
    code, _, err = run(*argv, "--temperature", 0, "--max-new-tokens", 2, "--out", "r")
    assert code == 0 and data("r")["letters"] == ["A"], err


def test_the_help_page_fits_a_screen(run: Run) -> None:
    _, out, _ = run("--help")
    assert len(out.splitlines()) <= 27 and max(map(len, out.splitlines())) <= 80


def test_a_runs_settings_make_the_same_run(run: Run, files: tuple[str, str]) -> None:
    assert run(*files, "--judge", "longer", "--out", "r")[0] == 0
    before = Path("r/comparison.json").read_bytes()
    assert run("--config", "r/settings.yaml")[0] == 0
    assert Path("r/comparison.json").read_bytes() == before
