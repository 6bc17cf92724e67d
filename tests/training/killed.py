"""A command that is killed at random moments, again and again, until it is done; run by test_killed.py.

    python killed.py STEPS_BETWEEN_KILLS SEED OUT -- smidgen's own arguments

A process of its own: its children fork from it, so that none has to import anything, and are killed by SIGKILL. Prints
how many were.
"""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import time
from pathlib import Path

import torch

import smidgen.cli.train
from smidgen.cli import main


def newest_step(out: Path) -> int:
    names = [re.fullmatch(r"step-(\d+)", path.name) for path in (out / "checkpoints").glob("step-*")]
    return max((int(name[1]) for name in names if name), default=0)


def child(argv: list[str]) -> int:
    pid = os.fork()
    if not pid:
        os._exit(main(argv))
    return pid


def killed_soon(pid: int, out: Path, after: int, moment: float) -> bool:
    """Wait until there are `after` steps more, then `moment` seconds, then kill; False where it was done before."""
    start = newest_step(out)
    while newest_step(out) < start + after:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            assert status == 0, f"exit status {status}"
            return False
        time.sleep(0.001)
    time.sleep(moment)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return True


if __name__ == "__main__":
    assert smidgen.cli.train.app
    torch.set_num_threads(1)
    most, seed, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    arguments = sys.argv[sys.argv.index("--") + 1 :]
    draw = random.Random(seed)
    kills = 0
    while killed_soon(child(arguments), folder, draw.randint(1, most), draw.uniform(0, 0.05)):
        kills += 1
    print("kills", kills)
