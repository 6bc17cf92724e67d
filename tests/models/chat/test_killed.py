"""A process killed at random moments and started again ends with every reply, each paid for once."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from tests.models.chat.killed import N
from tests.servers.faulty import Asked, Fault, FaultyServer, cut_connection, plain_reply, slow

KILLED = Path(__file__).with_name("killed.py")


def run_killed(url: str, folder: Path, seed: int, budget: str) -> tuple[int, dict]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    argv = [sys.executable, str(KILLED), url, str(folder), str(seed), budget]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    kills, said = done.stdout.splitlines()
    return int(kills), json.loads(said)


@pytest.mark.slow
@pytest.mark.parametrize("honours_keys", [True, False])
def test_killed_at_any_moment_nothing_is_lost_and_nothing_finished_is_paid_twice(
    tmp_path: Path, honours_keys: bool
) -> None:
    seed = random.randrange(1000)
    luck = random.Random(seed)

    cuts: list[Asked] = []

    def plan(asked: Asked) -> Fault:
        if luck.random() < 0.05:
            cuts.append(asked)
            return cut_connection()
        # Some time between asking and answering, for a kill to fall into.
        return slow(luck.uniform(0.02, 0.3))

    budget = 30_000
    with FaultyServer(plan=plan, honours_keys=honours_keys) as server:
        kills, said = run_killed(server.url, tmp_path, seed, str(budget))
        assert kills >= 3, f"seed {seed}"
        expected = [plain_reply([{"role": "user", "content": f"Question {i}?"}]) for i in range(N)]
        assert said["texts"] == expected, f"seed {seed}"
        times = server.times_billed()
        assert len(times) == N
        # What the account says was spent, at most, is at least what was billed.
        assert server.tokens_billed <= said["tokens"] + said["unsure_tokens_at_most"] <= budget, f"seed {seed}"
        if honours_keys:
            assert set(times.values()) == {1}, f"seed {seed}"
            assert said["tokens"] == server.tokens_billed, f"seed {seed}"
        # Only what was in flight at a kill, five at most, or cut, is ever asked again.
        assert len(server.asked) <= N + 5 * kills + len(cuts), f"seed {seed}"
        before = len(server.asked)
        _, again = run_killed(server.url, tmp_path, seed, str(budget))
        assert again["texts"] == expected and len(server.asked) == before
        assert again["cached_calls"] == N and again["calls"] == 0 and again["tokens"] == said["tokens"]


@pytest.mark.slow
def test_the_budget_holds_over_kills(tmp_path: Path) -> None:
    seed = random.randrange(1000)
    with FaultyServer(plan=lambda asked: slow(0.1), honours_keys=False) as server:
        # Sixty calls use six hundred tokens: with the worst case of the last one set aside, not all fit, killed or not.
        _, said = run_killed(server.url, tmp_path, seed, "650")
        assert None in said["texts"]
        assert server.tokens_billed <= said["tokens"] + said["unsure_tokens_at_most"] <= 650, f"seed {seed}"
