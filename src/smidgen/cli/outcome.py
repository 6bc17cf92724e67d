"""What a command leaves behind: a folder that is its own, and something to say."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.cli.flags import flag_settings
from smidgen.data.links import refuse_links_and_pipes
from smidgen.data.literals import split_reference
from smidgen.errors import SmidgenError
from smidgen.plugins import loaded_plugins
from smidgen.runs import LOCK, content_hash, file_hash, held, open_run, write_text
from smidgen.settings import settings_yaml

if TYPE_CHECKING:
    from smidgen.data.prepare import Prepared

# What work that was refused for its data leaves for the user to read; it holds no folder.
_COMPLAINTS = {"quarantine.jsonl", "leaks.json", "dev_twins.json"}
_CLAIM = {"run.json", "settings.yaml"}
# What does not change the results, and so may differ when the same work is taken up again.
_NOT_IDENTITY = (
    "out",
    "dry_run",
    "workers",
    "executor",
    "address",
    "checkpoint_every",
    "keep_checkpoints",
    "track",
    "shard",
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a command that was done.

    Attributes:
        data: What `--json` prints.
        text: What people read on standard output otherwise.
        n_quarantined: Rows left out of what was done; more than none makes the exit code 4.
    """

    data: Mapping[str, Any]
    text: str
    n_quarantined: int = 0


@contextmanager
def claimed(
    out: Path,
    command: str,
    arguments: Mapping[str, Any],
    inputs: Sequence[str | Path],
    *,
    scratch: Collection[str] = (),
    stores: Collection[str] = (),
) -> Iterator[Path]:
    """Hold the folder `out` for one piece of work: this command, with these arguments, on inputs of this content.

    The same work may take the folder up again; other work there is never touched, and no other process may be at work
    there. Work that is refused before it has made anything (bad settings, bad data), or was a dry run, gives the folder
    back for the corrected command; not a folder in which earlier work of the same kind stands.

    Args:
        out: The folder, made where it is missing.
        command: Its name.
        arguments: What it was called with. A group's `not_identity` names those of its settings that do not change
            the results.
        inputs: Files, folders or hub names that the results depend on.
        scratch: Files and folders that are worth nothing where the work is refused.
        stores: Folders of values addressed by their content, which any later work may use: they stay where the work
            is refused, and hold nothing.

    Raises:
        UsageError: The folder holds something else, or a link that leads out of it.
        SmidgenError: Another process is at work there.
    """
    refuse_links_and_pipes(out, beside=stores)
    with held(out):
        yield from _claimed(out, command, arguments, inputs, scratch, stores)


def _claimed(
    out: Path,
    command: str,
    arguments: Mapping[str, Any],
    inputs: Sequence[str | Path],
    scratch: Collection[str],
    stores: Collection[str],
) -> Iterator[Path]:
    if _names(out) - set(stores) <= _COMPLAINTS:
        _remove(out, _COMPLAINTS)
    settings = flag_settings(arguments)
    free = {*_NOT_IDENTITY, *(name for group in arguments.values() for name in getattr(group, "not_identity", ()))}
    identity = {name: value for name, value in settings.items() if name not in free}
    identity |= {"command": command, "inputs": {str(name): input_hash(name) for name in inputs}}
    if plugins := loaded_plugins():
        # Two may have the same name; a folder that is moved keeps its work.
        identity["plugins"] = sorted([Path(file).name, file_hash(Path(file))] for file in plugins)
    was_held = (out / "run.json").exists()
    open_run(out, identity, beside=stores)
    try:
        write_text(out / "settings.yaml", settings_yaml(settings))
        yield out
    except SmidgenError:
        if not was_held:
            _give_back(out, scratch, stores)
        raise
    if arguments.get("dry_run"):
        _give_back(out, scratch, stores)
        if _names(out) <= _COMPLAINTS:
            _remove(out, _COMPLAINTS)


def _give_back(out: Path, scratch: Collection[str], stores: Collection[str]) -> None:
    if _names(out) - set(stores) <= _COMPLAINTS | _CLAIM | set(scratch):
        _remove(out, _CLAIM | set(scratch))


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {LOCK} if folder.is_dir() else set()


def _remove(folder: Path, names: Collection[str]) -> None:
    for name in names:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def input_hash(source: str | Path) -> str | None:
    """A hash of a file's or folder's content; None for what is not on this disk, such as a hub name."""
    path, _ = split_reference(source)
    if path.is_file():
        return file_hash(path)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return content_hash([(str(file.relative_to(path)), file_hash(file)) for file in files])
    return None


def left_out(prepared: Prepared) -> list[str]:
    """One line for each reason for which rows were left out."""
    return [f"  {prepared.counts[reason]:>6} {reason}: {text}" for reason, text in prepared.explanations.items()]
