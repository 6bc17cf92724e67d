"""Calls of the command line in processes that fork from one in which everything is imported, and so start at once."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import torch

from smidgen.cli import main

DONE = (0, 4)
_MODULES = (
    *("app", "prepare", "select", "study", "critique", "train", "score", "generate", "compare", "export"),
    *("explain", "bench"),
)


def preload() -> None:
    """Import what commands need, on one thread: a process with several does not fork well."""
    torch.set_num_threads(1)
    for module in _MODULES:
        importlib.import_module(f"smidgen.cli.{module}")


def fork(argv: list[str], log: Path) -> int:
    """Start a process that makes one call, its output in `log`; its number."""
    pid = os.fork()
    if not pid:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        code = 99
        try:
            code = main(argv)
        finally:
            os._exit(code)
    return pid
