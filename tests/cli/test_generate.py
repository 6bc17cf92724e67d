"""`smidgen generate`: files that read back, work that is taken up again, and flags that cannot be meant."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.servers.faulty import FaultyServer, Turns, refused

from smidgen.cli import generators, main
from smidgen.data.templates import load_template
from smidgen.evaluation.complete import complete
from smidgen.evaluation.completions import Completed
from smidgen.evaluation.completions_files import read_completions
from smidgen.models.load import LanguageModel, load_language_model, save_language_model

Run = Callable[..., tuple[int, str, str]]
PLAYS = "ROMEO:\nIs the day\n\nso young?\n\nBut new\nstruck nine.\n"
TEXT, JSONL = (f"out/output_shakespeare_completions_tiny.{end}" for end in ("txt", "jsonl"))


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny: LanguageModel
) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    save_language_model(tiny, tmp_path / "tiny", card="")
    Path("input_shakespeare_prefixes.txt").write_text(PLAYS)
    Path("questions.txt").write_text("How do I bake bread?\nName a tree.\nName a tree.\n")

    def call(*argv: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["generate", *(str(word) for word in argv)])
        out, err = capsys.readouterr()
        return code, out, err

    return call


PLAY = (
    *("--model", "tiny", "--prompts", "input_shakespeare_prefixes.txt", "--prompt-format", "blocks"),
    *("--template", "verbatim", "--max-new-tokens", 5, "--out", "out"),
)


def test_both_files_hold_what_the_model_writes(run: Run) -> None:
    code, said, _ = run(*PLAY, "--seed", 4, "--top-p", 0.9)
    assert code == 0 and "3 completions of each of 3 prompts by tiny" in said and TEXT in said
    found = read_completions("out")
    prompts = ["ROMEO:\nIs the day", "so young?", "But new\nstruck nine."]
    lm = load_language_model("tiny")
    wanted = complete(lm, load_template("verbatim"), prompts, n=3, seed=4, top_p=0.9, max_new_tokens=5)
    assert (found.rows, found.model) == (wanted.rows, "tiny")
    assert found.meta == {**wanted.meta, "template": "verbatim", "fingerprint": lm.fingerprint}
    as_text = read_completions(TEXT)
    assert [(r.prompt, r.texts) for r in as_text.rows] == [(r.prompt, r.texts) for r in found.rows]
    assert as_text.model == "tiny"
    account = json.loads(Path("out/generation.json").read_text())
    assert account["weights"]["fingerprint"] == lm.fingerprint and account["completions"] == 9
    assert account["cut"] == sum(sum(row.cut) for row in found.rows)
    assert sorted(path.name for path in Path("out").iterdir()) == [
        *("generation.json", Path(JSONL).name, Path(TEXT).name, "run.json", "settings.yaml")
    ]


def test_what_is_done_stays_and_other_work_is_refused(run: Run) -> None:
    run(*PLAY)
    before = {path: path.stat().st_mtime_ns for path in Path("out").glob("output_*")}
    code, said, _ = run(*PLAY)
    assert code == 0 and "done before, nothing to do" in said
    assert {path: path.stat().st_mtime_ns for path in Path("out").glob("output_*")} == before
    code, _, said = run(*PLAY, "--seed", 1)
    assert code == 2 and "holds a run with other seed" in said


def test_a_text_file_that_might_be_blocks_has_to_be_told(run: Run) -> None:
    prompts = ("--prompts", "input_shakespeare_prefixes.txt")
    code, _, said = run("--model", "tiny", *prompts, "--out", "out")
    assert code == 2 and "5 lines into 3 blocks" in said and "--prompt-format blocks for 3 prompts" in said
    assert not Path("out").exists()


def test_greedy_is_one_completion_and_a_repeated_prompt_is_told(run: Run) -> None:
    code, said, _ = run(
        *("--model", "tiny", "--prompts", "questions.txt", "--out", "out", "--temperature", 0),
        *("--label", "SUMMARY", "--max-new-tokens", 3, "--stop", r"\n"),
    )
    assert code == 0 and "1 completion of each of 3 prompts by tiny" in said
    assert "1 prompt came before and got the same completions again" in said
    found = read_completions("out/output_questions_summaries_tiny.txt")
    assert found.n_letters == 1 and found.rows[1] == found.rows[2] and found.label == "SUMMARY"


def test_a_long_prompt_is_named_or_cut_and_counted(run: Run) -> None:
    Path("long.json").write_text(json.dumps(["Hi", "flour " * 200 + "and salt"]))
    flags = ("--model", "tiny", "--prompts", "long.json", "--template", "verbatim", "--out", "out")
    code, _, said = run(*flags)
    assert code == 3 and "prompt 2 ('flour flour" in said and "--truncate-prompt" in said
    assert not Path("out").exists()
    code, said, _ = run(*flags, "--truncate-prompt", "--max-new-tokens", 4, "--json")
    data = json.loads(said)
    assert code == 0 and data["truncated_prompts"] == [2] and data["prompt_tokens"]["most"] == 92
    assert read_completions("out").rows[1].prompt.startswith("flour flour")


def test_the_environment_says_where_a_model_goes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMIDGEN_DEVICE", "nowhere")
    code, _, said = run(*PLAY)
    assert code == 2 and "expected a device" in said and "'nowhere'" in said


def test_a_dry_run_writes_nothing(run: Run) -> None:
    code, said, _ = run(*PLAY, "--dry-run")
    assert code == 0 and "at most 45 tokens to write" in said and not Path("out").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--model", "tiny", "--temperature", 0, "--completions", 3), "one completion a prompt at temperature 0"),
        (("--model", "tiny", "--label", "prompt"), "expected a label in capital letters"),
        (("--model", "tiny", "--budget", "20k"), "expected --budget with --teacher URL only"),
        (("--model", "tiny", "--template", "chat"), "without. Take --template plain or hh"),
        (("--model", "m", "--teacher", "http://127.0.0.1:9/v1", "--top-k", 3), "expected --top-k with a model on"),
        (("--model", "tiny", "--dtype", "int8"), "unknown dtype 'int8'"),
        ((), "expected --model, got none"),
        (("--model", "none"), "expected a model with its tokenizer"),
    ],
)
def test_what_cannot_be_meant_leaves_no_folder(run: Run, flags: tuple, message: str) -> None:
    code, _, said = run("--prompts", "questions.txt", "--out", "out", *flags)
    assert code in (1, 2) and message in said and not Path("out").exists()


def test_every_finished_part_is_written_once(tmp_path: Path) -> None:
    written: list[int] = []

    def write_until(end: int) -> Callable[..., list[Completed]]:
        def write(positions: list[int]) -> list[Completed]:
            if len(written) >= end:
                raise KeyboardInterrupt
            written.extend(positions)
            return [Completed(f"p{i}\n", (f"a{i}", ""), (True, False)) for i in positions]

        return write

    order = [3, 1, 4, 0, 2]
    for end in (0, 2, 4):
        with pytest.raises(KeyboardInterrupt):
            generators._in_parts(write_until(end), order, 2, tmp_path / "parts")
    found = generators._in_parts(write_until(9), order, 2, tmp_path / "parts")
    assert written == order
    assert found == [Completed(f"p{i}\n", (f"a{i}", ""), (True, False)) for i in range(5)]


@pytest.mark.slow
def test_killed_and_called_again_is_never_killed(run: Run, tmp_path: Path) -> None:
    Path("many.json").write_text(json.dumps([f"Name tree {i}." for i in range(30)]))

    def command(out: str) -> list[str]:
        flags = ("--model", "tiny", "--prompts", "many.json", "--batch-size", "3", "--max-new-tokens", "40")
        return [sys.executable, "-m", "smidgen", "generate", *flags, "--out", out]

    assert subprocess.run(command("whole"), capture_output=True).returncode == 0
    process = subprocess.Popen(command("killed"), stdout=subprocess.DEVNULL)
    while len(list(Path("killed").glob("parts/*.json"))) < 5 and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(Path("killed").glob("output_*"))
    assert subprocess.run(command("killed"), capture_output=True).returncode == 0
    for path in (*Path("whole").glob("output_*"), Path("whole/generation.json")):
        assert path.read_bytes() == (Path("killed") / path.name).read_bytes(), path
    assert len(list(Path("killed").iterdir())) == len(list(Path("whole").iterdir()))


def echo(turns: Turns) -> str:
    return f"You said:\n\n{turns[-1]['content']}"


def asked(server: FaultyServer, *more: object) -> tuple[object, ...]:
    return ("--teacher", server.url, "--model", "org/big", "--prompts", "questions.txt", "--out", "out", *more)


def test_an_endpoint_is_asked_once_for_each_letter(run: Run) -> None:
    with FaultyServer(echo) as server:
        code, said, _ = run(*asked(server, "--completions", 2, "--stop", r"\n\nName"))
        assert code == 0 and "4 calls, 2 replies from the store" in said
        assert {a.body["messages"][0]["content"] for a in server.asked} == {"How do I bake bread?", "Name a tree."}
        run(*asked(server, "--completions", 2, "--stop", r"\n\nName"))
        assert len(server.bills) == 4
    found = read_completions("out/output_questions_completions_big.txt")
    assert found.rows[0].texts == ("You said:\n\nHow do I bake bread?",) * 2
    assert found.rows[1].texts == ("You said:",) * 2


def test_a_missing_reply_is_asked_for_again(run: Run) -> None:
    with FaultyServer(echo, plan=[None, refused(400, "too rude")]) as server:
        code, _, said = run(*asked(server, "--completions", 1, "--concurrency", 1))
        assert code == 1 and "expected 3 replies, got 1 fewer" in said and "too rude" in said
        assert not list(Path("out").glob("output_*"))
        code, said, _ = run(*asked(server, "--completions", 1, "--concurrency", 1))
        assert code == 0 and set(server.times_billed().values()) == {1}


def test_a_spent_budget_is_no_result(run: Run) -> None:
    with FaultyServer(echo) as server:
        code, _, said = run(*asked(server, "--budget", 130, "--concurrency", 1))
        assert code == 1 and "the budget is spent" in said
        code, said, _ = run(*asked(server, "--budget", "20k"))
        # Three letters of two different prompts.
        assert code == 0 and len(server.bills) == 6


def test_a_dry_run_tells_what_an_endpoint_will_cost(run: Run) -> None:
    with FaultyServer(echo) as server:
        code, said, _ = run(*asked(server, "--dry-run", "--price-in", 1, "--price-out", 2))
        assert code == 0 and "9 calls" in said and "cost" in said and not server.asked
    assert not Path("out").exists()
