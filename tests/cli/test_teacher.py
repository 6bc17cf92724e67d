"""What the shared flags promise: a chat that goes on where it was, flags refused early, an account that adds up."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from tests.servers.faulty import FaultyServer, cut_connection

from smidgen.cli.outcome import claimed
from smidgen.cli.teacher import (
    TeacherFlags,
    asking_progress,
    estimate_data,
    estimate_lines,
    progress_line,
    spending_lines,
)
from smidgen.errors import SmidgenError, UsageError
from smidgen.models.chat.asking import ask_each
from smidgen.models.chat.base import NoReply, Reply, Sampling
from smidgen.models.chat.budget import Prices, Usage
from smidgen.models.chat.estimate import estimate, growing
from smidgen.models.chat.spending import Spending
from smidgen.models.chat.teacher import open_chat
from smidgen.models.load import LanguageModel, save_language_model
from smidgen.pairs import messages_from


def run(flags: TeacherFlags, folder: Path, n: int = 5) -> tuple[list[Reply | NoReply | None], Spending]:
    async def main() -> tuple[list[Reply | NoReply | None], Spending]:
        async with open_chat(flags.settings(), folder) as (chat, spending):
            with asking_progress(n, spending, "asking") as show:
                found = await ask_each(
                    range(n),
                    lambda i: chat(messages_from(f"Question {i}?", "user"), Sampling(max_new_tokens=20)),
                    concurrency=flags.concurrency,
                    on_done=show,
                )
            return found, spending

    return asyncio.run(main())


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def test_a_run_taken_up_again_asks_nobody_and_its_account_stays(tmp_path: Path) -> None:
    with FaultyServer(plan=[cut_connection()], honours_keys=False) as server:
        flags = TeacherFlags(teacher=server.url, model="teacher", price_in=2, price_out=6)
        first, before = run(flags, tmp_path / "run")
        assert before.calls == 5 and before.n_unsure == 1
        again, after = run(flags, tmp_path / "run")
        assert (after.calls, after.cached, len(server.asked)) == (0, 5, 6)
        assert [r and replace(r, cached=True) for r in first if isinstance(r, Reply)] == again
        same = ("tokens", "cost", "prompt_tokens", "unsure_tries", "unsure_tokens_at_most")
        assert {k: before.summary()[k] for k in same} == {k: after.summary()[k] for k in same}
        assert before.cost == pytest.approx(sum(r.cost for r in first if isinstance(r, Reply))) and before.cost > 0


def test_a_budget_ends_the_work_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    with FaultyServer() as server:
        small = TeacherFlags(teacher=server.url, model="teacher", budget="150", concurrency=2)
        first, _ = run(small, tmp_path / "run", n=40)
        n_first = sum(isinstance(r, Reply) for r in first)
        assert 0 < n_first < 40 and first[-1] is None and server.tokens_billed <= 150
        every, _ = run(replace(small, budget="100k"), tmp_path / "run", n=40)
        assert all(isinstance(r, Reply) for r in every)
        assert len(server.asked) == 40


def test_one_file_of_replies_serves_many_runs_and_each_has_its_own_budget(tmp_path: Path) -> None:
    with FaultyServer() as server:
        flags = TeacherFlags(teacher=server.url, model="teacher", budget="2k", replies=tmp_path / "shared.sqlite")
        run(flags, tmp_path / "one")
        found, spending = run(flags, tmp_path / "two", n=6)
        assert (spending.cached, spending.calls, len(server.asked)) == (5, 1, 6)
        assert spending.tokens == server.bills[-1].tokens and all(found)
        assert not (tmp_path / "one").exists()


def test_a_teacher_that_is_not_there_leaves_no_folder_behind(tmp_path: Path) -> None:
    with FaultyServer() as server:
        gone = server.url
    folder = tmp_path / "run"
    with pytest.raises(SmidgenError, match="expected a server to ask"), claimed(folder, "ask", {"a": 1}, []):
        run(TeacherFlags(teacher=gone, model="teacher"), folder)
    assert not folder.exists()


def test_only_what_changes_replies_makes_another_run(tmp_path: Path) -> None:
    flags = TeacherFlags(teacher="http://localhost:1/v1", model="teacher")
    with claimed(tmp_path / "run", "ask", {"teacher": flags}, []):
        pass
    other = replace(flags, budget="5k", concurrency=2, price_in=1.0, price_out=0.0, tries=2, timeout=9.0)
    with claimed(tmp_path / "run", "ask", {"teacher": other}, []):
        pass
    with (
        pytest.raises(UsageError, match="other model"),
        claimed(tmp_path / "run", "ask", {"teacher": replace(flags, model="another")}, []),
    ):
        pass
    # What was spent stands in the file of replies: with another, everything would be paid for again.
    elsewhere = replace(flags, replies=tmp_path / "other.sqlite")
    with pytest.raises(UsageError, match="other replies"), claimed(tmp_path / "run", "ask", {"teacher": elsewhere}, []):
        pass


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"teacher": "https://me:hunter2@host/v1"}, "without user and password"),
        ({"teacher": "locl"}, "or `local`"),
        ({"key_variable": "hunter2"}, "the name of an environment variable"),
        ({"budget": "much"}, "--budget in tokens"),
        ({"budget": "$5"}, "--price-in and --price-out"),
        ({"budget": "$5", "price_in": 0.6}, "Give --price-out too"),
        ({"price_in": -1.0}, "--price-in of 0 or above"),
        ({"timeout": 0.0}, "--timeout above 0"),
        ({"requests_per_minute": 0.0}, "requests per minute above 0"),
    ],
)
def test_wrong_flags_are_refused_before_anything_is_written(wrong: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words) as raised:
        TeacherFlags(**wrong)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(("given", "missing"), [({}, "--teacher"), ({"teacher": "local"}, "--model")])
def test_whom_to_ask_must_be_said(given: dict, missing: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"expected {missing}, got none"):
        run(TeacherFlags(**given), tmp_path)


def test_a_local_teacher_is_asked_the_same_way(tiny: LanguageModel, tmp_path: Path) -> None:
    save_language_model(tiny, tmp_path / "model", card="")
    flags = TeacherFlags(teacher="local", model=str(tmp_path / "model"), budget="10k")
    first, spending = run(flags, tmp_path / "run")
    assert all(isinstance(r, Reply) and r.model == "model" for r in first) and spending.calls == 5
    again, spending = run(flags, tmp_path / "run")
    assert spending.cached == 5 and [r.text for r in again if isinstance(r, Reply)] == [
        r.text for r in first if isinstance(r, Reply)
    ]
    with pytest.raises(UsageError, match="expected a tokenizer with a chat template"):
        run(replace(flags, teacher_template="chat"), tmp_path / "run")


def test_progress_tells_speed_tokens_and_cost_to_come() -> None:
    prices = Prices(1e6, 1e6)
    before = Spending(prices, earlier=Usage(4, 1))
    spending = Spending(prices, calls=10, used=Usage(10, 5), earlier=Usage(4, 1))
    assert progress_line(10, 40, 5.0, spending, before) == "2.0/s  20 tokens  cost 20, about 45 to come"
    assert progress_line(1, 2, 1.0, Spending(calls=1, used=Usage(1500, 0)), Spending()) == "1.0/s  1,500 tokens"


def test_cost_to_come_is_told_by_what_this_work_paid_for_alone() -> None:
    prices = Prices(1e6, 1e6)
    judged = Spending(prices, calls=100, used=Usage(10, 0))
    probing = Spending(prices, calls=101, used=Usage(11, 0))
    assert progress_line(1, 280, 1.0, probing, judged).endswith("cost 11, about 279 to come")
    assert progress_line(1, 280, 1.0, judged, judged).endswith("cost 10")
    # Half of what is done came from the store; what is to come is all paid.
    resumed = Spending(prices, calls=6, cached=6, used=Usage(12, 0), earlier=Usage(12, 0))
    assert progress_line(4, 8, 1.0, resumed, Spending(prices, earlier=Usage(12, 0))).endswith(
        "cost 24, about 24 to come"
    )


def test_an_account_says_what_may_come_on_top() -> None:
    spending = Spending(calls=3, cached=2, used=Usage(10, 5), unsure=Usage(90, 10), n_unsure=1)
    said = "\n".join(spending_lines(spending))
    assert "3 calls, 2 replies from the store; 15 tokens" in said and "at most 100 tokens more" in said


def test_a_dry_run_names_no_cost_without_prices() -> None:
    calls = growing("", ["Why?", "Criticise.", "Revise."], Sampling(max_new_tokens=100))
    assert "cost unknown" in estimate_lines(estimate(calls))[0]
    assert estimate_data(estimate(calls))["most_cost"] is None
    found = estimate(calls, prices=Prices(1.0, 2.0))
    data = estimate_data(found)
    assert 0 < data["expected_cost"] < data["most_cost"] and data["calls"] == 3
    assert f"{found.most.tokens:,}" in estimate_lines(found)[0]
