"""What was paid for is there again, to the letter; what was under way is known; a damaged file is found out."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.errors import SmidgenError
from smidgen.models.chat.base import NoReply, Reply, Sampling
from smidgen.models.chat.budget import Usage
from smidgen.models.chat.replies import ReplyStore, reply_key
from smidgen.pairs import Message
from smidgen.runs import CannotWrite

ANSWER = Reply(text="Yes.\n\x00 汉 🙂", model="m", cut=True, prompt_tokens=7, completion_tokens=3, cost=0.5)
MOST = Usage(100, 20)
NONE = Usage()


def keep(store: ReplyStore, key: str, reply: Reply | NoReply = ANSWER) -> None:
    store.begin(key, MOST)
    store.settle(key, reply, Usage(7, 3), atop=NONE, forgive=False)


REPLIES = st.builds(
    replace, st.just(ANSWER), text=st.text(), model=st.text(min_size=1), cut=st.booleans(), cost=st.floats(0, 1e6)
)


@settings(max_examples=4, deadline=None)
@given(replies=st.lists(REPLIES, min_size=10, max_size=30))
def test_replies_read_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, replies: list[Reply]) -> None:
    path = tmp_path_factory.mktemp("store") / "replies.sqlite"
    store = ReplyStore(path)
    for i, reply in enumerate(replies):
        keep(store, str(i), reply)
    store.close()
    store = ReplyStore(path)
    assert [store.find(str(i)) for i in range(len(replies))] == [replace(reply, cached=True) for reply in replies]
    assert store.find("another") is None
    store.close()


def test_each_question_has_a_key_of_its_own() -> None:
    turns = (Message("user", "Hi"),)
    questions = [
        ("url", "m", turns, Sampling()),
        ("url2", "m", turns, Sampling()),
        ("url", "m2", turns, Sampling()),
        ("url", "m", (Message("system", "Hi"),), Sampling()),
        ("url", "m", (Message("user", "Hi!"),), Sampling()),
        ("url", "m", (*turns, Message("assistant", "")), Sampling()),
        ("url", "m", turns, Sampling(number=1)),
        ("url", "m", turns, Sampling(temperature=1.0)),
        ("url", "m", turns, Sampling(top_p=0.5)),
        ("url", "m", turns, Sampling(max_new_tokens=5)),
    ]
    keys = [reply_key(*question) for question in questions]
    assert len({*keys}) == len(keys)
    assert keys == [reply_key(*question) for question in questions]
    assert reply_key("url", "m", (Message("user", "\ud800"),), Sampling())


def test_what_was_under_way_when_the_process_died_counts_in_full_until_the_server_says_otherwise(
    tmp_path: Path,
) -> None:
    path = tmp_path / "replies.sqlite"
    pid = os.fork()
    if not pid:
        store = ReplyStore(path)
        keep(store, "done")
        store.begin("lost", MOST)
        os._exit(0)
    os.waitpid(pid, 0)
    store = ReplyStore(path)
    assert store.account().settled == Usage(7, 3)
    assert (store.account().unsure, store.account().n_unsure) == (MOST, 1)
    assert store.find("lost") is None
    store.begin("lost", MOST)
    store.end_unsure("lost")
    assert store.account().n_unsure == 2
    store.begin("lost", MOST)
    forgiven = store.settle("lost", ANSWER, Usage(7, 3), atop=NONE, forgive=True)
    assert (forgiven.usage, forgiven.n_tries) == (MOST * 2, 2)
    assert store.account().settled == Usage(14, 6) and store.account().n_unsure == 0
    store.close()


def test_a_try_that_was_refused_leaves_no_trace_and_an_empty_file_goes(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
    store = ReplyStore(path)
    store.begin("a", MOST)
    store.end_free("a")
    assert store.account().settled == store.account().unsure == NONE
    store.close()
    assert not list(tmp_path.iterdir())


def test_a_refusal_that_was_paid_for_is_kept_as_one(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path / "replies.sqlite")
    keep(store, "a", NoReply("content_filter", "withheld"))
    found = store.find("a")
    assert isinstance(found, NoReply) and (found.reason, found.detail) == ("content_filter", "withheld")
    assert found.final
    store.close()


def test_runs_that_share_a_file_share_replies_and_not_their_bills(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
    first = ReplyStore(path, run="first")
    keep(first, "a")
    first.close()
    second = ReplyStore(path, run="second")
    assert second.find("a") and second.account().settled == NONE
    keep(second, "b")
    assert second.account().settled == Usage(7, 3)
    second.close()


@pytest.mark.parametrize("forgive", [False, True])
def test_what_one_run_may_have_been_billed_stays_in_its_account_when_another_gets_the_reply(
    tmp_path: Path, forgive: bool
) -> None:
    path = tmp_path / "replies.sqlite"
    first = ReplyStore(path, run="first")
    first.begin("a", MOST)
    first.end_unsure("a")
    first.close()
    second = ReplyStore(path, run="second")
    second.begin("a", MOST)
    second.end_free("a")
    second.begin("a", MOST)
    forgiven = second.settle("a", ANSWER, Usage(7, 3), atop=NONE, forgive=forgive)
    assert (forgiven.usage, forgiven.n_tries) == (NONE, 0)
    assert (second.account().settled, second.account().unsure) == (Usage(7, 3), NONE)
    second.close()
    first = ReplyStore(path, run="first")
    assert (first.account().settled, first.account().unsure, first.account().n_unsure) == (NONE, MOST, 1)
    assert first.find("a") == replace(ANSWER, cached=True)
    first.close()


def test_a_file_of_the_first_form_keeps_its_replies(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
    store = ReplyStore(path)
    keep(store, "a")
    store.begin("b", MOST)
    store.end_unsure("b")
    store.close()
    with sqlite3.connect(path) as database:
        (columns,) = database.execute("SELECT sql FROM sqlite_master WHERE type = 'table'").fetchone()
        database.execute("ALTER TABLE replies RENAME TO new")
        first = columns.replace("key TEXT NOT NULL", "key TEXT PRIMARY KEY").replace(", PRIMARY KEY (key, run)", "")
        database.execute(first)
        database.execute("INSERT INTO replies SELECT * FROM new")
        database.execute("DROP TABLE new")
        database.execute("PRAGMA user_version=0")
    database.close()
    store = ReplyStore(path)
    assert store.find("a") == replace(ANSWER, cached=True)
    assert (store.account().settled, store.account().unsure) == (Usage(7, 3), MOST)
    keep(store, "b")
    assert store.account().settled == Usage(14, 6)
    store.close()


def _open_elsewhere(path: Path) -> str:
    try:
        ReplyStore(path).close()
    except SmidgenError as error:
        return str(error)
    return "opened"


def test_one_process_at_a_time_holds_the_file(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
    store = ReplyStore(path)
    keep(store, "a")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert "another process holds" in pool.apply(_open_elsewhere, (path,))
        store.close()
        assert pool.apply(_open_elsewhere, (path,)) == "opened"


@pytest.mark.parametrize("damage", ["garbage", "cut", "zeros"])
def test_a_damaged_file_is_found_out(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "replies.sqlite"
    store = ReplyStore(path)
    for i in range(200):
        keep(store, f"key {i}")
    store.close()
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(
        {
            "garbage": b"not a database at all " * 300,
            "cut": whole[:middle],
            "zeros": whole[:middle] + bytes(4096) + whole[middle + 4096 :],
        }[damage]
    )
    with pytest.raises(SmidgenError, match=r"damaged file\. Restore it from a copy, or delete it"):
        ReplyStore(path)


def test_a_changed_letter_in_a_reply_is_found_out(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
    store = ReplyStore(path)
    keep(store, "a")
    store.close()
    raw = path.read_bytes()
    assert raw.count(b"Yes.") == 1
    path.write_bytes(raw.replace(b"Yes.", b"Yet."))
    store = ReplyStore(path)
    with pytest.raises(SmidgenError, match="damaged"):
        store.find("a")
    store.close()


def test_another_kind_of_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "study.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE trials (id)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(SmidgenError, match="got another kind"):
        ReplyStore(path)
    assert path.read_bytes() == before
    with pytest.raises(CannotWrite, match="to be writable, got: Permission denied"):
        ReplyStore(tmp_path)
