"""How models are named: a folder on this disk, or a name on a hub."""

from __future__ import annotations

from pathlib import Path

from smidgen.errors import UsageError


def model_name(name_or_path: str | Path) -> str:
    """A model's folder or hub name, as loaders take it.

    Raises:
        UsageError: What can only be a path, and leads nowhere: a hub would be asked for it, and say why it is no name.
    """
    name = str(name_or_path)
    is_path = isinstance(name_or_path, Path) or name.startswith((".", "/", "~")) or name.count("/") > 1
    if is_path and not Path(name).expanduser().exists():
        raise UsageError(
            f"expected a model's folder at {name}, found none; give a folder with config.json, or a hub name such as "
            "owner/model."
        )
    return name
