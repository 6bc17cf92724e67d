"""Links in a run's folder: one that leads out of it would have Smidgen read, show or overwrite what lies elsewhere."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from smidgen.errors import UsageError


def refuse_links_out(folder: Path, *, beside: Collection[str] = ()) -> None:
    """Look at what stands in a run's folder; names `beside` may lead anywhere.

    Raises:
        UsageError: A link to what lies outside.
    """
    if not folder.is_dir():
        return
    inside = folder.resolve()
    for path in sorted(folder.iterdir()):
        if path.is_symlink() and path.name not in beside and not path.resolve().is_relative_to(inside):
            raise UsageError(
                f"expected {folder} to hold its own files, got a link {path.name} that leads to {path.resolve()}. Put "
                "the file itself there, or remove the link."
            )
