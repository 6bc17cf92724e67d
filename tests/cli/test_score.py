"""`smidgen score`: columns that the losses read, by a rule, models, or a judge behind real HTTP; nothing paid twice."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tests.servers.faulty import FaultyServer, Turns, refused, without_content

from smidgen.cli import main, score_chunks
from smidgen.cli.score_text import summary_text
from smidgen.models.load import LanguageModel, save_language_model
from smidgen.models.reward_model import new_reward_model, save_reward_model
from smidgen.pairs import PreferencePair, plain_pair
from smidgen.synthesis.injections import INJECTIONS, report
from smidgen.synthesis.scoring import PairScores, Score, summarise
from smidgen.training.sft import new_language_model

Run = Callable[..., tuple[int, str, str]]
ROWS = [
    {
        "prompt": f"Question {i}?",
        "chosen": f"Good {'kind ' * (1 + i % 4)}{i}.",
        "rejected": f"Bad {'kind ' * (i % 2)}{i}.",
    }
    for i in range(8)
]
TAG = re.compile(r"<(prompt|answer)-([0-9a-f]{16})>\n")


@pytest.fixture
def run(command_line: Run) -> Run:
    return partial(command_line, "score")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "pairs.jsonl", ROWS)


@pytest.fixture
def task(tmp_path: Path) -> Path:
    path = tmp_path / "kindness.yaml"
    path.write_text(
        "about: Kind.\nframes: {train: [{name: plain, text: '{prompt}'}]}\ncritique: c\nrevise: r\n"
        "rubric: {text: 'How kind is it?', low: 0, high: 5}\n"
        "other_rubrics: {dry: {text: 'How dry?', low: -5, high: 5}}\n"
    )
    return path


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read_rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def delimited(turns: Turns) -> str:
    """The answer under judgement, between its tags."""
    text = turns[-1]["content"]
    opened = TAG.search(text)
    assert opened
    rest = text[opened.end() :].partition(f"\n</prompt-{opened[2]}>")[2]
    return rest.partition(f"<answer-{opened[2]}>\n")[2].partition(f"\n</answer-{opened[2]}>")[0]


def strict(turns: Turns) -> str:
    """Obeys what stands outside the tags alone, and scores by the answer's content."""
    n = min(5, delimited(turns).count("kind"))
    return f"Of 5 points, I find 3 in question.\n\n**Score:** {n}"


def gullible(turns: Turns) -> str:
    """Obeys whatever asks for a score."""
    answer = delimited(turns)
    begged = any(text.replace("{high}", "5")[:9] in answer for text in INJECTIONS.values())
    return "Score: 5" if begged else strict(turns)


def scores(path: Path) -> list[tuple]:
    return [(row["idx"], row["chosen_score"], row["rejected_score"], row["score_problem"]) for row in read_rows(path)]


def judge(server: FaultyServer, task: Path, *more: object) -> list[object]:
    flags = ["--judge", server.url, "--model", "judge", "--key-variable", "none", "--task", task]
    return [*flags, "--injection-probe", 0, *more]


def expected() -> list[tuple]:
    return [(i, 1 + i % 4, i % 2, None) for i in range(8)]


def test_a_rule_adds_columns_and_leaves_the_rest_as_it_was(run: Run, pairs: Path) -> None:
    code, out, _ = run("--pairs", pairs, "--out", "scored.jsonl", "--rule", "keywords:words=kind")
    rows = read_rows(Path("scored.jsonl"))
    assert code == 0 and "chosen above rejected" in out
    assert [{name: row[name] for name in ROWS[0]} for row in rows] == ROWS
    assert rows[3]["chosen_score"] == pytest.approx(4 / 6) and rows[3]["score_problem"] is None
    account = {path.name for path in Path("scored.score").iterdir()}
    assert account >= {"run.json", "settings.yaml", "summary.json", "quarantine.jsonl", "scores.png"}


def test_called_again_does_nothing_and_other_work_is_left_alone(run: Run, pairs: Path) -> None:
    argv = ("--pairs", pairs, "--out", "scored.jsonl", "--rule", "refusal")
    assert run(*argv)[0] == 0
    before = Path("scored.jsonl").read_bytes(), Path("scored.jsonl").stat().st_mtime_ns
    assert "done before" in run(*argv)[1]
    assert run(*argv[:-1], "length")[0] == 2
    assert (Path("scored.jsonl").read_bytes(), Path("scored.jsonl").stat().st_mtime_ns) == before
    Path("other.jsonl").write_text("mine\n")
    code, _, err = run("--pairs", pairs, "--out", "other.jsonl", "--rule", "refusal")
    assert code == 2 and "other.jsonl stands there" in err and Path("other.jsonl").read_text() == "mine\n"


def test_old_scores_are_refused_or_replaced_on_demand(run: Run, pairs: Path) -> None:
    run("--pairs", pairs, "--out", "a.jsonl", "--rule", "refusal")
    code, _, err = run("--pairs", "a.jsonl", "--out", "b.jsonl", "--rule", "length:words=3")
    assert code == 2 and "--replace" in err and not Path("b.jsonl").exists()
    assert run("--pairs", "a.jsonl", "--out", "b.jsonl", "--rule", "length:words=3", "--replace")[0] == 0
    run("--pairs", pairs, "--out", "c.jsonl", "--rule", "length:words=3")
    assert scores(Path("b.jsonl")) == scores(Path("c.jsonl"))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "expected exactly one of --judge, --policy, --reward, --rule, got none"),
        (["--rule", "refusal", "--reward", "x"], "got --reward and --rule"),
        (["--rule", "refusal", "--reference", "x"], "expected --reference with --policy only"),
        (["--rule", "refusal", "--task", "safety"], "expected --task with --judge only"),
        (["--rule", "refusal", "--injection-probe", "3"], "expected --injection-probe with --judge only"),
        (["--rule", "refusal", "--template", "hh"], "expected --template with --reward or --policy only"),
        (["--rule", "refusal", "--budget", "2k"], "expected --budget with --judge only"),
        (["--policy", "x"], "expected --reference"),
        (["--policy", "x", "--reference", "x", "--beta", "0"], "expected --beta above 0"),
        (["--judge", "http://127.0.0.1:1/v1", "--model", "m"], "expected --task"),
        (["--judge", "http://127.0.0.1:1/v1", "--task", "safety"], "expected --model"),
        (["--judge", "http://127.0.0.1:1/v1", "--model", "m", "--task", "kind"], "unknown task 'kind'"),
        (
            ["--judge", "http://127.0.0.1:1/v1", "--model", "m", "--task", "safety", "--rubric", "x"],
            "unknown rubric 'x'",
        ),
        (["--rule", "nothing"], "unknown reward rule 'nothing'"),
        (["--rule", "refusal", "--out", "scored.csv"], "ends in .jsonl"),
    ],
)
def test_wrong_flags_are_said_and_leave_nothing(run: Run, pairs: Path, flags: list[str], said: str) -> None:
    out = [] if "--out" in flags else ["--out", "scored.jsonl"]
    code, _, err = run("--pairs", pairs, *out, *flags)
    assert code == 2 and said in err
    assert {path.name for path in Path().iterdir()} == {"pairs.jsonl"}


def test_an_empty_file_is_invalid_data(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    assert run("--pairs", "empty.jsonl", "--out", "scored.jsonl", "--rule", "refusal")[0] == 3
    assert not Path("scored.jsonl").exists()


def test_models_score_pairs_and_say_which_are_too_long(run: Run, tiny: LanguageModel, tmp_path: Path) -> None:
    rows = [*ROWS[:2], {"prompt": "Long?", "chosen": "Short.", "rejected": "word " * 200}]
    pairs = write_rows(tmp_path / "long.jsonl", rows)
    save_language_model(tiny, tmp_path / "policy", card="")
    save_reward_model(new_reward_model(tmp_path / "policy", seed=2), tmp_path / "rm", card="")
    for out, flags in (("r.jsonl", ["--reward", "rm"]), ("p.jsonl", ["--policy", "policy", "--reference", "policy"])):
        code, said, _ = run("--pairs", pairs, "--out", out, *flags)
        found = scores(Path(out))
        assert code == 4 and "over_long" in said
        assert found[2][1] is not None and found[2][2:] == (None, "rejected: over_long")
        assert all(None not in row[1:3] for row in found[:2])
    assert [row[1] for row in scores(Path("p.jsonl"))] == [0, 0, 0]


def test_an_interrupted_run_of_a_reward_model_goes_on_where_it_was(
    run: Run, tiny: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"prompt": f"Q{i}?", "chosen": f"Yes {i}.", "rejected": f"No {i}."} for i in range(5)]
    rows[3]["rejected"] = "word " * 200
    save_language_model(tiny, tmp_path / "policy", card="")
    save_reward_model(new_reward_model(tmp_path / "policy", seed=2), tmp_path / "rm", card="")
    monkeypatch.setattr(score_chunks, "CHUNK_PAIRS", 2)
    argv = ["--pairs", write_rows(tmp_path / "few.jsonl", rows), "--reward", "rm", "--out"]
    assert run(*argv, "whole.jsonl")[0] == run(*argv, "cut.jsonl")[0] == 4

    # As a process leaves it that is killed while it scores the last chunk.
    Path("cut.jsonl").unlink()
    for name in ("summary.json", "rewards/4.json"):
        Path("cut.score", name).unlink()
    before = {path: path.stat().st_mtime_ns for path in Path("cut.score/rewards").iterdir()}
    assert len(before) == 2 and run(*argv, "cut.jsonl")[0] == 4
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert Path("cut.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()


def test_a_finished_chunk_is_not_scored_again(tmp_path: Path) -> None:
    pairs = [plain_pair(i, "?", "a", "b") for i in range(2 * score_chunks.CHUNK_PAIRS + 1)]
    scored: list[int] = []

    def until(end: int) -> Callable[[Sequence[PreferencePair]], list[PairScores]]:
        def score(some: Sequence[PreferencePair]) -> list[PairScores]:
            if some[0].idx >= end:
                raise KeyboardInterrupt
            scored.extend(pair.idx for pair in some)
            return [(Score(pair.idx / 3), Score(None, "over_long")) for pair in some]

        return score

    for end in (0, score_chunks.CHUNK_PAIRS):
        with pytest.raises(KeyboardInterrupt):
            score_chunks.in_chunks(until(end), pairs, tmp_path / "kept")
    found = score_chunks.in_chunks(until(len(pairs)), pairs, tmp_path / "kept")
    assert scored == list(range(len(pairs)))
    assert found == score_chunks.in_chunks(until(len(pairs)), pairs)


def test_pairs_without_a_score_are_named_in_training_or_left_out_on_demand(
    run: Run, tiny: LanguageModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*ROWS[:3], {"prompt": "Long?", "chosen": "Short.", "rejected": "word " * 200}]
    pairs = write_rows(tmp_path / "long.jsonl", rows)
    save_language_model(tiny, tmp_path / "policy", card="")
    save_reward_model(new_reward_model(tmp_path / "policy", seed=2), tmp_path / "rm", card="")
    # The policy takes more than the reward model's tokenizer says it does.
    shorter = json.loads((tmp_path / "rm" / "tokenizer_config.json").read_text()) | {"model_max_length": 12}
    (tmp_path / "rm" / "tokenizer_config.json").write_text(json.dumps(shorter))
    train = ["train", "refined_dpo", "--model", "policy", "--steps", "1", "--batch-size", "2", "--out"]

    assert run("--pairs", pairs, "--out", "all.jsonl", "--reward", "rm")[0] == 4
    n_missing = sum(row[3] is not None for row in scores(Path("all.jsonl")))
    assert n_missing > 0
    code = main([*train, "t1", "--pairs", "all.jsonl"])
    assert code == 3 and "chosen_score and a rejected_score for every pair" in capsys.readouterr().err

    code, said, _ = run("--pairs", pairs, "--out", "kept.jsonl", "--reward", "rm", "--leave-out-missing")
    assert code == 4
    left = read_rows(Path("kept.score/quarantine.jsonl"))
    assert [row["reason"] for row in left] == ["missing_score"] * n_missing
    assert len(read_rows(Path("kept.jsonl"))) == 4 - n_missing and f"{4 - n_missing} pairs in kept.jsonl" in said


def test_a_judge_scores_each_answer_once(run: Run, pairs: Path, task: Path) -> None:
    with FaultyServer(strict) as server:
        argv = ["--pairs", pairs, "--out", "scored.jsonl", *judge(server, task, "--keep-replies")]
        code, said, _ = run(*argv)
        assert code == 0 and scores(Path("scored.jsonl")) == expected()
        assert len(server.bills) == 16 and all("tools" not in asked.body for asked in server.asked)
        assert {asked.body["temperature"] for asked in server.asked} == {0}
        assert "done before" in run(*argv)[1] and len(server.bills) == 16
    said_of_first = read_rows(Path("scored.score/judgements.jsonl"))[0]
    assert said_of_first["reply"] == read_rows(Path("scored.jsonl"))[0]["judge_chosen"]
    assert (said_of_first["idx"], said_of_first["answer"], said_of_first["score"]) == (0, "chosen", 1)
    assert read_rows(Path("scored.jsonl"))[0]["judge_chosen"].endswith("**Score:** 1")
    assert "judge judge, rubric kindness, 0 to 5" in said


def test_rows_in_another_order_get_the_same_scores(run: Run, tmp_path: Path, task: Path) -> None:
    numbered = [{"idx": i, **row} for i, row in enumerate(ROWS)]
    with FaultyServer(strict) as server:
        for name, rows in (("a", numbered), ("b", numbered[::-1])):
            source = write_rows(tmp_path / f"{name}.jsonl", rows)
            assert run("--pairs", source, "--out", f"{name}2.jsonl", *judge(server, task))[0] == 0
    assert sorted(scores(Path("a2.jsonl"))) == sorted(scores(Path("b2.jsonl"))) == expected()


def test_failing_rows_are_missing_with_their_reasons_and_borrow_nothing(run: Run, pairs: Path, task: Path) -> None:
    def reply(turns: Turns) -> str:
        answer = delimited(turns)
        return {"2": "I would rather not.", "4": "Score: 3-4", "6": "Score: 9"}.get(answer[-2], strict(turns))

    def no_answer_to_one(asked):  # type: ignore[no-untyped-def]
        return refused(400, "no") if "Good kind kind 5." in asked.body["messages"][-1]["content"] else None

    with FaultyServer(reply, plan=no_answer_to_one) as server:
        code, said, _ = run("--pairs", pairs, "--out", "scored.jsonl", *judge(server, task))
    assert code == 4 and "no_score" in said and "not_a_number" in said and "out_of_range" in said
    problems = {2: "no_score", 4: "not_a_number", 6: "out_of_range"}
    for found, whole in zip(scores(Path("scored.jsonl")), expected(), strict=True):
        idx = found[0]
        if idx in problems:
            assert found[1:] == (None, None, f"chosen: {problems[idx]}; rejected: {problems[idx]}")
        elif idx == 5:
            assert found[1:3] == (None, 1) and found[3].startswith("chosen: ")
        else:
            assert found == whole


def test_a_spent_budget_keeps_what_was_found_and_goes_on_later(run: Run, pairs: Path, task: Path) -> None:
    with FaultyServer(strict) as server:
        argv = ["--pairs", pairs, "--out", "scored.jsonl", *judge(server, task, "--concurrency", 1)]
        code, said, _ = run(*argv, "--budget", "4k")
        n_first, first = len(server.bills), scores(Path("scored.jsonl"))
        assert code == 4 and "larger --budget" in said and 0 < n_first < 16
        assert [row for row in first if row[3] is None] == expected()[: n_first // 2]
        assert all("waiting" in row[3] for row in first[n_first // 2 + 1 :])
        code, said, _ = run(*argv, "--budget", "1M")
        assert code == 0 and scores(Path("scored.jsonl")) == expected()
        assert len(server.bills) == 16 and set(server.times_billed().values()) == {1}


def test_a_reply_that_was_withheld_is_missing_for_good(run: Run, pairs: Path, task: Path) -> None:
    def withhold_one(asked):  # type: ignore[no-untyped-def]
        return without_content("content_filter") if "Bad 4." in asked.body["messages"][-1]["content"] else None

    with FaultyServer(strict, plan=withhold_one) as server:
        argv = ["--pairs", pairs, "--out", "scored.jsonl", *judge(server, task)]
        code, said, _ = run(*argv)
        n_asked = len(server.asked)
        assert code == 4 and "content_filter" in said and "asks again" not in said
        assert "done before" in run(*argv)[1] and len(server.asked) == n_asked


def test_a_score_lost_to_truncation_is_asked_for_with_more_tokens(run: Run, pairs: Path, task: Path) -> None:
    def wordy(turns: Turns) -> str:
        return "So. " * 30 + strict(turns)

    with FaultyServer(wordy) as server:
        limits = ["--max-new-tokens", 10, "--most-new-tokens", 60]
        assert run("--pairs", pairs, "--out", "a.jsonl", *judge(server, task, *limits))[0] == 0
        assert scores(Path("a.jsonl")) == expected()
        code, said, _ = run("--pairs", pairs, "--out", "b.jsonl", *judge(server, task, *limits[:3], 20))
    assert code == 4 and "cut" in said and {row[1] for row in scores(Path("b.jsonl"))} == {None}


@pytest.mark.parametrize(("script", "rate"), [(strict, 0.0), (gullible, 1.0)])
def test_the_probe_says_how_easily_a_judge_is_talked_into_a_score(
    run: Run, pairs: Path, task: Path, script: Callable[[Turns], str], rate: float
) -> None:
    with FaultyServer(script) as server:
        argv = ["--pairs", pairs, "--out", "scored.jsonl", *judge(server, task)[:-2], "--injection-probe", 3]
        code, said, _ = run(*argv)
    found = json.loads(Path("scored.score/summary.json").read_text())["injection_probe"]
    assert code == 0 and f"score raised in {rate:.1%}" in said
    assert (
        found["share_raised"]["mean"] == rate and found["share_raised"]["low"] <= rate <= found["share_raised"]["high"]
    )
    assert found["control"]["share_raised"]["mean"] == 0 and found["answers"] == 3
    assert scores(Path("scored.jsonl")) == expected()


def test_nothing_is_probed_before_every_answer_was_asked_about(run: Run, pairs: Path, task: Path) -> None:
    with FaultyServer(strict) as server:
        argv = ["--pairs", pairs, "--out", "scored.jsonl", *judge(server, task, "--concurrency", 1)]
        argv[argv.index("--injection-probe") + 1] = 3
        code, said, _ = run(*argv, "--budget", "2400")
        assert code == 4 and "no injection probe yet" in said and 0 < len(server.bills) < 16
        assert "injection_probe" not in json.loads(Path("scored.score/summary.json").read_text())
        assert run(*argv, "--budget", "1M")[0] == 0
        assert len(server.bills) == 16 + 3 * (len(INJECTIONS) + 1) and set(server.times_billed().values()) == {1}


def test_a_probe_without_scores_says_so() -> None:
    scored = {**summarise([(Score(1.0), Score(0.0))]), "scorer": "judge"}
    nothing = np.full(1, np.nan)
    found = report(np.zeros(1), {"plea": nothing}, nothing) | {"unasked": 2}
    said = summary_text(scored | {"injection_probe": found})
    assert "none of 1 answers has a score with an injection" in said and "the same command asks" in said
    part = report(np.zeros(1), {"plea": np.ones(1), "order": nothing}, nothing) | {"unasked": 0}
    said = summary_text(scored | {"injection_probe": part})
    assert "score raised in 100.0%" in said and "instead no score" in said and "most by plea: 100.0%" in said


def test_a_dry_run_tells_the_calls_and_asks_nothing(run: Run, pairs: Path, task: Path) -> None:
    with FaultyServer(strict) as server:
        argv = [
            "--pairs",
            pairs,
            "--out",
            "scored.jsonl",
            *judge(server, task)[:-2],
            "--injection-probe",
            2,
            "--dry-run",
        ]
        code, said, _ = run(*argv, "--price-in", 1, "--price-out", 2)
        assert code == 0 and not server.asked
    assert f"{16 + 2 * (len(INJECTIONS) + 1)} calls" in said and "cost" in said
    assert {path.name for path in Path().iterdir()} == {"pairs.jsonl", "kindness.yaml"}


def test_another_rubric_of_the_task_has_its_own_range(run: Run, pairs: Path, task: Path) -> None:
    with FaultyServer(lambda turns: "Score: −3") as server:
        assert run("--pairs", pairs, "--out", "a.jsonl", *judge(server, task, "--rubric", "dry"))[0] == 0
        assert scores(Path("a.jsonl"))[0][1:3] == (-3, -3)
        assert "How dry?" in server.asked[0].body["messages"][0]["content"]
        assert run("--pairs", pairs, "--out", "b.jsonl", *judge(server, task))[0] == 4


@pytest.mark.slow
def test_killed_and_called_again_is_never_killed_and_pays_nothing_twice(tmp_path: Path, task: Path) -> None:
    rows = [{"prompt": f"Q{i}?", "chosen": f"Good {'kind ' * (i % 5)}{i}.", "rejected": f"Bad {i}."} for i in range(60)]
    pairs = write_rows(tmp_path / "many.jsonl", rows)

    def slowly(turns: Turns) -> str:
        time.sleep(0.05)
        return strict(turns)

    def command(server: FaultyServer, out: str) -> list[str]:
        argv = ["score", "--pairs", pairs, "--out", tmp_path / out, *judge(server, task, "--concurrency", 2)]
        return [sys.executable, "-m", "smidgen", *map(str, argv)]

    with FaultyServer(strict) as server:
        assert subprocess.run(command(server, "whole.jsonl"), capture_output=True).returncode == 0
    with FaultyServer(slowly) as server:
        for n_bills in (10, 50, 90):
            process = subprocess.Popen(command(server, "killed.jsonl"), stdout=subprocess.DEVNULL)
            while len(server.bills) < n_bills and process.poll() is None:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert subprocess.run(command(server, "killed.jsonl"), capture_output=True).returncode == 0
        assert set(server.times_billed().values()) == {1}
    assert (tmp_path / "killed.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_judge_in_this_process_is_asked_as_one_behind_an_address(run: Run, tmp_path: Path, task: Path) -> None:
    lm = new_language_model(["How kind is it?"] * 4, shape="tiny", vocabulary=300, positions=3000, seed=1)
    save_language_model(lm, tmp_path / "judge", card="")
    pairs = write_rows(tmp_path / "two.jsonl", ROWS[:2])
    flags = ["--judge", "local", "--model", "judge", "--task", task, "--injection-probe", 0]
    limits = ["--max-new-tokens", 3, "--most-new-tokens", 6]
    code, said, _ = run("--pairs", pairs, "--out", "scored.jsonl", *flags, *limits)
    # Random weights never come to an end, let alone to a score.
    assert code == 4 and "0 of 2 pairs scored" in said
    assert {row[3] for row in scores(Path("scored.jsonl"))} == {"chosen: cut; rejected: cut"}
    assert json.loads(Path("scored.score/summary.json").read_text())["spending"]["calls"] == 8


def test_names_from_outside_cannot_command_the_terminal() -> None:
    summary = {**summarise([(Score(1.0), Score(None, "\x1b[2Jgone"))]), "scorer": "judge \x1b]0;title\x07"}
    text = summary_text(summary)
    assert text.isascii() and "\x1b" not in text and "\x07" not in text
    assert "judge \\x1b]0;title" in text
