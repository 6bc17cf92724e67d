"""Asks a server sixty questions and is killed at random moments, again and again, until all are answered.

    python killed.py URL FOLDER SEED BUDGET

A process of its own: its children fork from it, so that none has to import anything, and are killed by SIGKILL. Prints
how many were, and then what the last one spent, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import smidgen.models.chat.endpoint
import smidgen.models.chat.once
from smidgen.models.chat.asking import ask_each
from smidgen.models.chat.base import NoReply, Reply, Sampling
from smidgen.models.chat.budget import parse_budget
from smidgen.models.chat.teacher import Teacher, open_chat
from smidgen.pairs import messages_from

N = 60


async def ask_all(url: str, folder: Path, budget: str) -> None:
    teacher = Teacher(url=url, model="teacher", budget=parse_budget(budget))
    async with open_chat(teacher, folder) as (chat, spending):
        found: list[Reply | NoReply | None] = await ask_each(
            range(N),
            lambda i: chat(messages_from(f"Question {i}?", "user"), Sampling(max_new_tokens=20)),
            concurrency=5,
        )
    texts = [reply.text if isinstance(reply, Reply) else None for reply in found]
    (folder / "done.json").write_text(json.dumps({"texts": texts, **spending.summary()}))


def child(url: str, folder: Path, budget: str) -> int:
    pid = os.fork()
    if not pid:
        asyncio.run(ask_all(url, folder, budget))
        os._exit(0)
    return pid


def killed_soon(pid: int, moment: float) -> bool:
    """Wait so many seconds, then kill; False where it was done before."""
    end = time.monotonic() + moment
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            assert status == 0, f"exit status {status}"
            return False
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return True


if __name__ == "__main__":
    assert smidgen.models.chat.endpoint and smidgen.models.chat.once
    draw = random.Random(int(sys.argv[3]))
    where, budget = Path(sys.argv[2]), sys.argv[4]
    kills = 0
    while killed_soon(child(sys.argv[1], where, budget), draw.uniform(0.1, 1.0) if kills < 12 else 60):
        kills += 1
    print(kills)
    print((where / "done.json").read_text())
