"""Which executors there are, and what can be said against one before any work is done for it."""

from __future__ import annotations

from typing import Literal

from smidgen.errors import UsageError

ExecutorName = Literal["local", "ray"]


def check_executor(name: ExecutorName, address: str | None) -> None:
    """Look at an executor without starting it.

    Raises:
        UsageError: An address without Ray; Ray that is not installed, or too old.
    """
    if name == "local" and address:
        raise UsageError(f"--address {address}: expected --executor ray beside it, got local; give it.")
    if name == "ray":
        from smidgen.study.cluster import check_installed

        check_installed()
