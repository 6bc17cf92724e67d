"""What may not stand in a run's folder: links that have Smidgen read, show or overwrite what lies elsewhere; pipes."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from smidgen.errors import UsageError


def refuse_links_and_pipes(folder: Path, *, beside: Collection[str] = ()) -> None:
    """Look at all that stands in a run's folder; those of its names that are `beside` may be or hold anything.

    So may hidden folders, such as the .venv or .git of whoever keeps a run beside them: nothing of a run is read there.

    Raises:
        UsageError: A link to what lies outside, or what is neither a file nor a folder: a pipe that nobody writes to is
            read for ever.
    """
    inside, unseen = folder.resolve(), set(beside)
    for place, folders, files in os.walk(folder):
        if place == str(folder):
            unseen |= {name for name in folders if name.startswith(".")}
            folders[:] = [name for name in folders if name not in unseen]
            files = [name for name in files if name not in unseen]
        for path in sorted(Path(place, name) for name in (*folders, *files)):
            if path.is_symlink() and _leads_away(path.resolve(), inside, unseen):
                got = f"a link {path.relative_to(folder)} that leads to {path.resolve()}"
            elif path.is_fifo() or path.is_socket() or path.is_char_device() or path.is_block_device():
                got = f"{path.relative_to(folder)}, which is neither a file nor a folder"
            else:
                continue
            raise UsageError(
                f"expected {folder} to hold its own files, got {got}. Put the file itself there, or remove it."
            )


def _leads_away(target: Path, inside: Path, unseen: set[str]) -> bool:
    """Whether it stands outside, or in a part that nobody looks at, from where another link may lead outside."""
    if not target.is_relative_to(inside):
        return True
    return not unseen.isdisjoint(target.relative_to(inside).parts[:1])
