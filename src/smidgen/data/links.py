"""What may not stand in a run's folder: links that have Smidgen read, show or overwrite what lies elsewhere; pipes."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from smidgen.errors import UsageError


def refuse_links_and_pipes(folder: Path, *, beside: Collection[str] = ()) -> None:
    """Look at all that stands in a run's folder; those of its names that are `beside` may be or hold anything.

    Raises:
        UsageError: A link to what lies outside, or what is neither a file nor a folder: a pipe that nobody writes to is
            read for ever.
    """
    inside = folder.resolve()
    for place, folders, files in os.walk(folder):
        if place == str(folder):
            folders[:] = [name for name in folders if name not in beside]
            files = [name for name in files if name not in beside]
        for path in sorted(Path(place, name) for name in (*folders, *files)):
            if path.is_symlink() and not path.resolve().is_relative_to(inside):
                got = f"a link {path.relative_to(folder)} that leads to {path.resolve()}"
            elif path.is_fifo() or path.is_socket() or path.is_char_device() or path.is_block_device():
                got = f"{path.relative_to(folder)}, which is neither a file nor a folder"
            else:
                continue
            raise UsageError(
                f"expected {folder} to hold its own files, got {got}. Put the file itself there, or remove it."
            )
