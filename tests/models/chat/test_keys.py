"""A key is sent where it belongs and shows nowhere, whatever a server does; nor does a server's reply do harm."""

from __future__ import annotations

import asyncio
import gzip
import traceback
from pathlib import Path

import pytest
from tests.models.chat.conftest import QUICK, OpenChat, ask_once
from tests.servers.faulty import (
    Fault,
    FaultyServer,
    broken,
    changed,
    rate_limited,
    redirected,
    refused,
)

from smidgen.errors import SmidgenError, UsageError
from smidgen.models.chat import endpoint
from smidgen.models.chat.address import check_url, read_key
from smidgen.models.chat.base import NoReply

KEY = "sk-very-secret-1234567890"


def test_a_bomb_is_not_unpacked(opened: OpenChat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "MOST_REPLY_BYTES", 1_000_000)
    bomb = Fault(body=gzip.compress(b" " * 30_000_000), headers={"Content-Encoding": "gzip"})
    with FaultyServer(plan=[bomb]) as server, pytest.raises(NoReply, match="too_large"):
        ask_once(opened, server)


@pytest.mark.parametrize("key", ["", KEY])
def test_nothing_else_of_the_environment_is_sent(opened: OpenChat, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("TEACHER_KEY", key or "unused")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-another")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-of-another")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Secret: header-of-another\nauthorization: Bearer token-of-another")
    with FaultyServer() as server:
        ask_once(opened, server, key_variable="TEACHER_KEY" if key else "none")
        sent = server.asked[0].headers
    assert "of-another" not in str(sent)
    assert sent.get("authorization") == (f"Bearer {key}" if key else None)
    assert sent.keys() - {"authorization"} <= {
        *("host", "connection", "accept", "accept-encoding", "content-type", "content-length"),
        *("user-agent", "idempotency-key", "x-stainless-raw-response"),
    }


def test_the_key_is_sent_and_shows_nowhere_even_where_the_server_says_it(
    opened: OpenChat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("TEACHER_KEY", KEY)
    echo = changed(lambda a: (a["choices"][0]["message"].update(content=f"Your key: {KEY}"), a.update(model=KEY)))
    with FaultyServer(key=KEY, plan=[echo, refused(400, f"bad {KEY}"), rate_limited(), broken()]) as server:
        reply = ask_once(opened, server, key_variable="TEACHER_KEY")
        assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
        assert (reply.text, reply.model) == ("Your key: [key]", "[key]")
    said = []
    other = KEY.replace("1234", "4321")
    monkeypatch.setenv("TEACHER_KEY", other)
    with FaultyServer(key=KEY, model="other", plan=[]) as server:
        try:
            ask_once(opened, server, key_variable="TEACHER_KEY", model="another")
        except SmidgenError as error:
            said = [str(error), traceback.format_exc()]
    assert "Incorrect API key provided: [key]" in said[0]
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for secret in (KEY, other):
        assert secret not in "".join(said) and secret not in caplog.text and secret.encode() not in kept


def test_what_a_server_says_cannot_move_the_terminal(opened: OpenChat) -> None:
    rude = refused(401, "\x1b[2J\x1b]0;owned\x07 no\nway " + "x" * 5000)
    with FaultyServer(plan=[rude]) as server, pytest.raises(SmidgenError) as raised:
        ask_once(opened, server)
    assert str(raised.value).isprintable() and len(str(raised.value)) < 600


def test_a_key_does_not_follow_a_redirect(opened: OpenChat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", KEY)
    with FaultyServer() as other, FaultyServer(plan=[redirected(f"{other.url}/chat/completions")]) as server:
        with pytest.raises(SmidgenError, match="got status 307"):
            ask_once(opened, server, key_variable="TEACHER_KEY")
        assert not other.asked


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://user:hunter2@localhost/v1", "without user and password"),
        ("https://hunter2@host/v1", "without user and password"),
        ("ftp://host/v1", "http:// or https://"),
        ("localhost:8000/v1", "http:// or https://"),
        ("", "http:// or https://"),
        ("http://", "http:// or https://"),
        ("http://[::1/v1", "cannot be read"),
        ("https://host/v1?key=hunter2", "without `\\?`"),
        ("https://host/v1#hunter2", "without `\\?`"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_unseen(url: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as raised:
        check_url(url)
    assert "hunter2" not in str(raised.value)


def test_a_key_goes_out_encrypted_or_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert read_key("http://localhost:1/v1", None) == read_key("http://lan:1/v1", None) == ""
    assert read_key("https://host/v1", "none") == ""
    with pytest.raises(UsageError, match="expected a key in the environment variable OPENAI_API_KEY"):
        read_key("https://host/v1", None)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for url in ("https://host/v1", "http://localhost/v1", "http://127.0.0.9:80/v1", "http://[::1]:80/v1"):
        assert read_key(url, None) == KEY
    for url in ("http://host/v1", "http://127.0.0.1.host/v1", "http://localhost.host/v1", "http://10.0.0.1/v1"):
        with pytest.raises(UsageError, match="expected https://") as raised:
            read_key(url, None)
        assert KEY not in str(raised.value)
        assert read_key(url, "none") == ""
    monkeypatch.setenv("OPENAI_API_KEY", "two\nlines")
    with pytest.raises(UsageError, match="plain characters in OPENAI_API_KEY"):
        read_key("https://host/v1", None)
    for pasted in (KEY, "0123456789abcdef", "abcdef0123456789"):
        with pytest.raises(UsageError, match="the name of an environment variable") as raised:
            read_key("https://host/v1", pasted)
        assert pasted not in str(raised.value)


def test_the_client_itself_shows_no_key(opened: OpenChat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", KEY)

    async def main() -> str:
        async with opened("http://localhost:9/v1", key_variable="TEACHER_KEY", retries=QUICK) as chat:
            return repr(chat) + repr(chat.source.answer)

    assert KEY not in asyncio.run(main())
