"""Stages that are killed at random moments, again and again; run by test_killed.py.

    python -m tests.faults.soak KILLS SEED FOLDER < STAGES

A process of its own, in which everything is imported: its children fork from it, do one call each, and are killed by
SIGKILL, half of them while a file is being written. STAGES is JSON: by name, smidgen's own arguments, with {out} for
where to write. Each stage is run once to its end, in FOLDER/NAME/whole. Then come the kills; a run that ends in spite
of them is followed by another in a fresh place, FOLDER/NAME/0, FOLDER/NAME/1 and so on.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from tests.faults.forked import DONE, fork, preload

_FOREVER = 1e9


def is_writing(folder: Path) -> bool:
    return any(name.endswith(".part") for _, folders, files in os.walk(folder) for name in (*folders, *files))


def killed(pid: int, folder: Path, seconds: float, *, while_writing: bool, log: Path) -> bool:
    """Wait so long, then, if so wanted, for a write; then kill. False where it was done before."""
    start = time.perf_counter()
    while time.perf_counter() - start < seconds or (while_writing and not is_writing(folder)):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            assert code in DONE, f"exit status {code}: {log.read_text()}"
            return False
        time.sleep(0.0005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return True


def soak(argv: list[str], kills: int, draw: random.Random, folder: Path) -> str:
    """Put a stage through so many kills; what to say of it."""
    log = folder / "log"

    def call(run: str, seconds: float, *, while_writing: bool = False) -> bool:
        place = folder / run
        place.mkdir(parents=True, exist_ok=True)
        pid = fork([word.format(out=place) for word in argv], log)
        return killed(pid, place, seconds, while_writing=while_writing, log=log)

    started = time.perf_counter()
    call("whole", _FOREVER)
    whole = time.perf_counter() - started
    runs, left = 0, kills
    while left > 0:
        # Past the last kill, a run is left to come to its end.
        while call(str(runs), draw.expovariate(4 / whole) if left > 0 else _FOREVER, while_writing=draw.random() < 0.5):
            left -= 1
        runs += 1
    return f"{whole:.1f} s, {kills} kills, {runs} runs, {time.perf_counter() - started:.0f} s in all"


if __name__ == "__main__":
    preload()
    n_kills, seed, out = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    for name, words in json.loads(sys.stdin.read()).items():
        print(f"{name}: {soak(words, n_kills, random.Random(f'{seed} {name}'), out / name)}", flush=True)
