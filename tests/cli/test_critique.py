"""`smidgen critique`: what it writes, what it never overwrites, and that it goes on without asking twice."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.foreground import COMMAND
from tests.synthesis.scripted_teacher import WITHHELD, Teacher, Turns, spread, teaching, well_behaved

from smidgen.cli import main
from smidgen.synthesis.task import task_names

Run = Callable[..., tuple[int, str, str]]
PROMPTS = [f"How do I {spread(str(i), 8)}?" for i in range(8)]
DOCS = Path(__file__).parents[2] / "docs" / "synthesis.md"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run the command line in a folder with prompts.txt: its exit code, output and complaints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")

    def call(*argv: object) -> tuple[int, str, str]:
        code = main([str(word) for word in argv])
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def teacher() -> Iterator[Teacher]:
    with teaching() as found:
        yield found


def critique(teacher: Teacher, *more: str, out: str = "pairs.jsonl") -> tuple[str, ...]:
    asked = ("--teacher", teacher.url, "--model", "scripted", "--prompts", "prompts.txt", "--out", out)
    return ("critique", "--task", "safety", *asked, *more)


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def left_behind(folder: Path, stem: str = "pairs") -> dict[str, object]:
    """All that a run's results are, without what tells of its calls."""
    account = folder / f"{stem}.critique"
    summary = json.loads((account / "summary.json").read_text())
    summary.pop("spending")
    return {
        "pairs": (folder / f"{stem}.jsonl").read_bytes(),
        "quarantine": (account / "quarantine.jsonl").read_bytes(),
        "summary": summary,
    }


def test_pairs_are_written_with_their_account_and_a_second_run_says_done(
    run: Run, teacher: Teacher, tmp_path: Path
) -> None:
    code, out, err = run(*critique(teacher, "--price-in", "1", "--price-out", "2"))
    assert (code, err) == (0, "")
    assert "8 pairs of 8 draws in pairs.jsonl" in out
    rows = rows_of(tmp_path / "pairs.jsonl")
    assert [row["idx"] for row in rows] == list(range(8))
    assert {row["plain_prompt"] for row in rows} == set(PROMPTS)
    assert all(row["chosen"].startswith("I'm sorry") and row["rejected"].startswith("Gladly") for row in rows)
    summary = json.loads((tmp_path / "pairs.critique" / "summary.json").read_text())
    assert summary["cost"] == pytest.approx(sum(row["cost"] for row in rows))
    assert summary["cost"] == pytest.approx((summary["prompt_tokens"] + 2 * summary["completion_tokens"]) / 1e6)
    assert len(teacher.asked) == 24
    before = left_behind(tmp_path)
    code, out, err = run(*critique(teacher, "--json"))
    assert (code, json.loads(out)["counts"]["pairs"]) == (0, 8)
    assert "done before, nothing to do" in run(*critique(teacher))[1]
    assert left_behind(tmp_path) == before
    assert len(teacher.asked) == 24


def test_the_pairs_are_prepared_and_trained_on_unchanged(run: Run, teacher: Teacher, tmp_path: Path) -> None:
    assert run(*critique(teacher))[0] == 0
    assert run("prepare", "--pairs", "pairs.jsonl", "--out", "prepared")[0] == 0
    assert rows_of(tmp_path / "prepared" / "pairs.jsonl") == rows_of(tmp_path / "pairs.jsonl")
    size = ("--shape", "tiny", "--vocabulary", "300", "--positions", "512", "--steps", "1")
    assert run("train", "sft", "--pairs", "pairs.jsonl", "--out", "sft", *size)[0] == 0
    argv = ("--pairs", "pairs.jsonl", "--model", "sft/model", "--steps", "1", "--out", "dpo", "--json")
    code, out, _ = run("train", "dpo", *argv)
    assert code == 0
    assert json.loads(out)["loss"] == pytest.approx(0.693147, abs=1e-5)
    assert json.loads(out)["quarantined"] == 0


def test_results_depend_on_the_seed_alone(run: Run, teacher: Teacher, tmp_path: Path) -> None:
    for name, more in {"a": ("--concurrency", "1"), "b": ("--concurrency", "16"), "c": ("--seed", "1")}.items():
        assert run(*critique(teacher, "--n", "5", *more, out=f"{name}.jsonl"))[0] == 0
    a, b, c = (left_behind(tmp_path, name) for name in "abc")
    assert a == b
    assert a["pairs"] != c["pairs"]


def test_a_spent_budget_keeps_what_is_complete_and_a_larger_one_goes_on(
    run: Run, teacher: Teacher, tmp_path: Path
) -> None:
    assert run(*critique(teacher, out="free.jsonl"))[0] == 0
    n_asked = len(teacher.asked)
    short = ("--max-new-tokens", "64")
    assert run(*critique(teacher, *short, out="all.jsonl"))[0] == 0
    code, out, err = run(*critique(teacher, *short, "--budget", "2500", "--concurrency", "2"))
    assert (code, err) == (4, "")
    (done,) = re.findall(r"the budget is spent: (\d+) of 8 draws are done; run the same command with a larger", out)
    assert 0 < int(done) < 8
    assert len(rows_of(tmp_path / "pairs.jsonl")) == int(done)
    summary = json.loads((tmp_path / "pairs.critique" / "summary.json").read_text())
    # Draws that wait have cost something too, and that stands in the spending alone.
    assert summary["spending"]["tokens"] >= summary["prompt_tokens"] + summary["completion_tokens"]
    code, out, err = run(*critique(teacher, *short, "--budget", "1M"))
    assert (code, err) == (0, "")
    assert left_behind(tmp_path) == left_behind(tmp_path, "all")
    assert len(teacher.asked) == 3 * n_asked


def test_other_settings_and_other_files_are_never_overwritten(run: Run, teacher: Teacher, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text("years of work\n")
    code, _, err = run(*critique(teacher, out="mine.jsonl"))
    assert (code, (tmp_path / "mine.jsonl").read_text()) == (2, "years of work\n")
    assert "mine.jsonl stands there" in err
    assert teacher.asked == []
    assert run(*critique(teacher))[0] == 0
    before = left_behind(tmp_path)
    code, _, err = run(*critique(teacher, "--seed", "1"))
    assert code == 2
    assert "other seed" in err
    (tmp_path / "prompts.txt").write_text("Something else?\n")
    assert run(*critique(teacher))[0] == 2
    assert left_behind(tmp_path) == before
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")
    with (tmp_path / "pairs.jsonl").open("a") as file:
        file.write("\n")
    assert run(*critique(teacher))[0] == 2
    (tmp_path / "pairs.jsonl").unlink()
    n_asked = len(teacher.asked)
    assert run(*critique(teacher))[0] == 0
    assert left_behind(tmp_path) == before
    assert len(teacher.asked) == n_asked


def test_bad_rows_are_listed_and_unanswered_ones_asked_again(run: Run, tmp_path: Path) -> None:
    silent = [True]

    def script(turns: Turns) -> str | tuple[int, dict]:
        if PROMPTS[1] in turns[1]["content"]:
            return ""
        if PROMPTS[2] in turns[1]["content"] and silent:
            return 422, {"error": {"message": "no \x1b[2J"}}
        return well_behaved(turns)

    with teaching(script) as teacher:
        code, out, _ = run(*critique(teacher))
        assert code == 4
        assert "6 pairs of 8 draws" in out
        assert "1 empty_reply: The teacher's reply was empty." in out
        assert "1 draws got no reply; the same command asks again" in out
        assert "\x1b" not in out
        assert {row["plain_prompt"] for row in rows_of(tmp_path / "pairs.critique" / "quarantine.jsonl")} == {
            *PROMPTS[1:3]
        }
        silent.clear()
        n_asked = len(teacher.asked)
        assert "7 pairs of 8 draws" in run(*critique(teacher))[1]
        assert len(teacher.asked) == n_asked + 3


def test_a_run_with_a_withheld_reply_is_done_once_the_others_are(run: Run) -> None:
    def script(turns: Turns) -> str | tuple[int, dict]:
        if PROMPTS[2] in turns[1]["content"]:
            return WITHHELD
        return well_behaved(turns)

    with teaching(script) as teacher:
        code, out, _ = run(*critique(teacher))
        assert code == 4
        assert "7 pairs of 8 draws" in out
        assert "asks again" not in out
        n_asked = len(teacher.asked)
        assert "done before, nothing to do" in run(*critique(teacher))[1]
        assert len(teacher.asked) == n_asked


def test_work_that_is_refused_gives_its_place_back(run: Run, tmp_path: Path) -> None:
    with teaching(lambda turns: (401, {"error": {"message": "who are you?"}})) as teacher:
        code, out, err = run(*critique(teacher))
    assert (code, out) == (1, "")
    assert "who are you?" in err
    with teaching() as teacher:
        assert run(*critique(teacher))[0] == 0


@pytest.mark.parametrize("task", task_names())
def test_a_dry_run_asks_nobody_and_writes_nothing(run: Run, tmp_path: Path, task: str) -> None:
    priced = ("--price-in", "1", "--price-out", "2", "--json")
    code, out, err = run("critique", "--task", task, "--n", "30", "--out", "pairs.jsonl", "--dry-run", *priced)
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["draws"], found["calls"]) == (30, 90)
    assert 0 < found["expected_cost"] < found["most_cost"]
    assert {path.name for path in tmp_path.iterdir()} == {"prompts.txt"}


def test_the_task_of_the_page_works(run: Run, tmp_path: Path) -> None:
    (task,) = re.findall(r"```yaml[^\n]*\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "careful.yaml").write_text(task, encoding="utf-8")
    asked = ("--prompts", "prompts.txt", "--out", "p.jsonl", "--dry-run")
    argv = ("critique", "--task", "careful.yaml", *asked)
    assert "16 draws" in run(*argv, "--n", "16")[1]
    # One frame stands there.
    assert "8 draws" in run(*argv, "--n", "8", "--frames", "held_out")[1]
    assert run(*argv, "--n", "9", "--frames", "held_out")[0] == 2


@pytest.mark.parametrize(
    ("argv", "code", "complaint"),
    [
        (["--task", "safty"], 2, "unknown task 'safty'.*role_play, safety, sycophancy"),
        (["--task", "broken.yaml"], 3, "broken.yaml: expected a task, got one with problems"),
        (["--frames", "nowhere"], 2, "unknown set of frames 'nowhere'.*expected one of: train"),
        (["--n", "100000"], 2, "expected --n of at most"),
        (["--n", "0"], 2, "--n"),
        (["--out", "pairs.csv"], 2, "ends in .jsonl, got pairs.csv"),
        (["--out", "."], 2, "ends in .jsonl"),
        (["--prompts", "empty.txt"], 3, "expected at least one prompt"),
        (["--prompts", "nowhere.txt"], 2, "nowhere.txt"),
        (["--temperature", "-1"], 2, "--temperature of at least 0"),
        (["--top-p", "0"], 2, "--top-p above 0"),
        (["--max-new-tokens", "0"], 2, "--max-new-tokens"),
        ([], 2, "expected --teacher"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_said(run: Run, tmp_path: Path, argv: list[str], code: int, complaint: str) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "broken.yaml").write_text("about: nothing\nframes: {}\n")
    given = {
        "--task": "safety",
        "--prompts": "prompts.txt",
        "--out": "pairs.jsonl",
        **dict(zip(argv[::2], argv[1::2], strict=True)),
    }
    found, out, err = run("critique", *(word for pair in given.items() for word in pair))
    assert (found, out) == (code, "")
    assert re.search(complaint, err.replace("\n", " ")), err
    assert "Traceback" not in err
    assert not (tmp_path / "pairs.jsonl").exists()


def test_the_published_set_up_is_a_file_of_settings(run: Run) -> None:
    config = Path(__file__).parents[2] / "recipes" / "critique" / "published.yaml"
    argv = ("--config", config, "--task", "safety", "--out", "pairs.jsonl", "--n", "1", "--dry-run", "--json")
    assert json.loads(run("critique", *argv)[1])["calls"] == 3


class Pause:
    """Well behaved until `after` replies were given; the rest waits, until let go."""

    def __init__(self, after: int) -> None:
        self.answered: list[Turns] = []
        self.go, self.reached = threading.Event(), threading.Event()
        self._lock, self._after = threading.Lock(), after

    def __call__(self, turns: Turns) -> str:
        with self._lock:
            waits = len(self.answered) >= self._after and not self.go.is_set()
            if not waits:
                self.answered.append(turns)
        if waits:
            self.reached.set()
            self.go.wait(60)
        return well_behaved(turns)


@contextmanager
def stopped(teacher: Teacher, pause: Pause, how: signal.Signals) -> Iterator[subprocess.Popen[str]]:
    """A run of the command that was stopped while its questions waited for answers."""
    command = [*COMMAND, *critique(teacher, "--concurrency", "3")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert pause.reached.wait(120)
            process.send_signal(how)
            yield process
        finally:
            process.kill()
            pause.go.set()


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 10, 23])
def test_killed_and_resumed_is_never_killed_and_no_answer_is_paid_twice(run: Run, tmp_path: Path, after: int) -> None:
    pause = Pause(after)
    with teaching(pause) as teacher:
        with stopped(teacher, pause, signal.SIGKILL) as process:
            process.wait(30)
        assert not (tmp_path / "pairs.jsonl").exists()
        kept, n_before = pause.answered[:after], len(teacher.asked)
        assert run(*critique(teacher))[0] == 0
        again = teacher.asked[n_before:]
        # Of three conversations one was waiting; replies to the others may have been on their way.
        assert sum(turns in again for turns in kept) <= 2
        assert len(again) <= 24 - after + 2
        assert run(*critique(teacher, out="whole.jsonl"))[0] == 0
    assert left_behind(tmp_path) == left_behind(tmp_path, "whole")


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(run: Run, tmp_path: Path) -> None:
    pause = Pause(7)
    with teaching(pause) as teacher:
        with stopped(teacher, pause, signal.SIGINT) as process:
            _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (130, "smidgen: interrupted; run the same command again to resume\n")
        assert run(*critique(teacher))[0] == 0
        assert run(*critique(teacher, out="whole.jsonl"))[0] == 0
    assert left_behind(tmp_path) == left_behind(tmp_path, "whole")


@pytest.mark.slow
def test_two_at_once_do_not_harm_each_other(run: Run, tmp_path: Path) -> None:
    pause = Pause(5)
    with teaching(pause) as teacher:
        with stopped(teacher, pause, signal.Signals.SIGCONT) as process:
            code, _, err = run(*critique(teacher))
            assert code == 1
            assert f"pairs.critique for this process alone, got one where process {process.pid} is at work" in err
            pause.go.set()
            assert process.wait(60) == 0
        assert "done before" in run(*critique(teacher))[1]
