"""The client against `transformers serve`, as a user would run the two on one machine."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from smidgen.errors import SmidgenError
from smidgen.models.chat.asking import ask_each
from smidgen.models.chat.base import NoReply, Reply, Sampling
from smidgen.models.chat.teacher import Teacher, open_chat
from smidgen.models.load import save_language_model
from smidgen.pairs import Message
from smidgen.training.sft import new_language_model

TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {% if m.content is string %}{{ m.content }}{% else %}"
    "{% for part in m.content %}{{ part.text }}{% endfor %}{% endif %} {% endfor %}assistant:"
)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Address and name of a tiny random model behind the server."""
    folder = tmp_path_factory.mktemp("served")
    corpus = ["user: How do I bake bread? assistant: Mix flour, water and salt, and wait an hour."] * 4
    lm = new_language_model(corpus, shape="tiny", vocabulary=300, positions=256, seed=3)
    lm.tokenizer.chat_template = TEMPLATE
    save_language_model(lm, folder / "model", card="")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder / "model")]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        for _ in range(600):
            assert server.poll() is None, (folder / "log").read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health").close()
                break
            except OSError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1", str(folder / "model")
    finally:
        server.terminate()
        server.wait(20)


def ask_all(teacher: Teacher, folder: Path, n: int, sampling: Sampling) -> list[Reply | NoReply | None]:
    async def main() -> list[Reply | NoReply | None]:
        async with open_chat(teacher, folder) as (chat, _):
            turns = (Message("system", "Be kind."),)
            return await ask_each(
                range(n), lambda i: chat((*turns, Message("user", f"Bread {i}?")), sampling), concurrency=2
            )

    return asyncio.run(main())


def test_two_at_once_get_replies_and_get_them_again_from_the_store(served: tuple[str, str], tmp_path: Path) -> None:
    url, model = served
    teacher = Teacher(url=url, model=model)
    first = ask_all(teacher, tmp_path, 4, Sampling(max_new_tokens=8))
    for reply in first:
        assert isinstance(reply, Reply)
        assert reply.prompt_tokens > 5 and 0 < reply.completion_tokens <= 8 and not reply.estimated
        assert reply.cut == (reply.completion_tokens == 8)
    again = ask_all(teacher, tmp_path, 4, Sampling(max_new_tokens=8))
    assert all(isinstance(reply, Reply) and reply.cached for reply in again)
    # Greedy replies are the same when asked anew.
    anew = ask_all(teacher, tmp_path / "anew", 4, Sampling(max_new_tokens=8))
    assert [r.text for r in anew if isinstance(r, Reply)] == [r.text for r in first if isinstance(r, Reply)]


def test_sampled_replies_come_too(served: tuple[str, str], tmp_path: Path) -> None:
    url, model = served
    found = ask_all(Teacher(url=url, model=model), tmp_path, 2, Sampling(temperature=1.0, max_new_tokens=8))
    assert all(isinstance(reply, Reply) for reply in found)


def test_an_unknown_model_is_one_clear_error(served: tuple[str, str], tmp_path: Path) -> None:
    url, _ = served
    with pytest.raises(SmidgenError, match=r"'nobody/nothing'.*Check --model") as raised:
        ask_all(Teacher(url=url, model="nobody/nothing"), tmp_path, 4, Sampling(max_new_tokens=8))
    assert not isinstance(raised.value, NoReply)
