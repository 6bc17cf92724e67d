"""Stages on a disk that is full at each write in turn; run by test_disk_full.py.

    python -m tests.faults.full FOLDER < STAGES

Each stage is run once to its end, in FOLDER/NAME/whole. Then its place is a disk of its own in memory, in
FOLDER/NAME/disk, which holds next to nothing at first: the stage is called, has to fail and say why, and finds the disk
half as large again when it is called next, until it comes to its end. Prints what was said, as JSON, one line a stage.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.faults.forked import DONE, fork, preload
from tests.faults.left import damaged

_FIRST_BYTES, _GROWTH = 4096, 1.5


def call(argv: list[str], place: Path, log: Path) -> int:
    place.mkdir(parents=True, exist_ok=True)
    _, status = os.waitpid(fork([word.format(out=place) for word in argv], log), 0)
    return os.waitstatus_to_exitcode(status)


def fill(argv: list[str], folder: Path) -> list[str]:
    """What a stage said on ever larger disks before it came to its end."""
    log, disk, size, said = folder.with_suffix(".log"), folder / "disk", _FIRST_BYTES, []
    assert call(argv, folder / "whole", log) in DONE, log.read_text()
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], check=True)
    while (code := call(argv, disk, log)) not in DONE:
        text = log.read_text()
        assert code == 1, f"exit code {code}: {text}"
        said.append(text)
        wrong = damaged(disk)
        assert not wrong, f"{wrong} after: {text}"
        size = int(size * _GROWTH)
        subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)
    return said


if __name__ == "__main__":
    preload()
    for name, words in json.loads(sys.stdin.read()).items():
        print(json.dumps({name: fill(words, Path(sys.argv[1]) / name)}), flush=True)
