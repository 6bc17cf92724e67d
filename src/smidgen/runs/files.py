"""Files and folders that appear whole or not at all, and what a killed process left of those that did not."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from smidgen.errors import NotWritten
from smidgen.runs.interrupts import uninterrupted
from smidgen.runs.room import room_told

# Between the point and the end, `tempfile` puts eight characters of its own.
_PART = ".part"
_LEFT = re.compile(r"\..+\.[a-z0-9_]{8}\.part")
# Held by the process that is at work in a run's folder.
LOCK = "run.lock"
_asking_for_mask = threading.Lock()


@contextmanager
def atomic_write(path: Path | str, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file that takes `path`'s place only once it is whole and on disk; text is UTF-8 with plain newlines.

    A crash, an exception or a full disk leaves whatever stood at `path` as it was; Ctrl-C waits for the end.

    Raises:
        CannotWrite: There is no room, or no access.
    """
    path = Path(path)
    with uninterrupted(), room_told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_PART)
        part = Path(name)
        try:
            text = (None, None) if "b" in mode else ("utf-8", "")
            with os.fdopen(descriptor, mode, encoding=text[0], newline=text[1]) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.chmod(_let(0o644))
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


@contextmanager
def atomic_folder(folder: Path | str) -> Iterator[Path]:
    """Yield an empty folder that takes `folder`'s place only once its files are whole and on disk.

    A crash, an exception or a full disk leaves whatever stood at `folder` as it was, unless a crash comes between two
    renamings at the very end; a crash may also leave a folder beside it, see `sweep`. Ctrl-C waits for the end.

    Raises:
        CannotWrite: There is no room, or no access.
    """
    folder = Path(folder)
    with uninterrupted(), room_told(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = _part_folder(folder)
        try:
            yield part
            part.chmod(_let(0o755))
            for path in part.rglob("*"):
                path.chmod(_let(0o755 if path.is_dir() else 0o644))
                _sync(path)
            _sync(part)
            old = folder.replace(_part_folder(folder)) if folder.exists() else None
            part.replace(folder)
            _sync(folder.parent)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        if old:
            shutil.rmtree(old)


def _let(mode: int) -> int:
    """Of these permissions, those that the user gives to new files."""
    # It can only be read by setting it; what another thread makes meanwhile is the more private. Two threads that read
    # it at once would leave it so.
    with _asking_for_mask:
        mask = os.umask(0o077)
        os.umask(mask)
    return mode & ~mask


def remove_folder(folder: Path | str) -> None:
    """Remove a folder so that it is gone at once, not file by file."""
    folder = Path(folder)
    shutil.rmtree(folder.replace(_part_folder(folder)))


def _part_folder(folder: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=_PART))


def sweep(folder: Path | str) -> None:
    """Remove what processes that were killed while they wrote left in a run's folder that this process holds.

    Of the folders below it, those that are held are left alone: other processes may be at work there.
    """
    for place, folders, files in os.walk(folder):
        for name in [name for name in folders if _LEFT.fullmatch(name)]:
            folders.remove(name)
            if not Path(place, name).is_symlink():
                shutil.rmtree(Path(place, name), ignore_errors=True)
        for name in files:
            if _LEFT.fullmatch(name):
                Path(place, name).unlink(missing_ok=True)
        folders[:] = [name for name in folders if not Path(place, name, LOCK).exists()]


def sweep_beside(path: Path) -> None:
    """Remove what processes that were killed while they wrote this very file left beside it."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{_PART}"):
        if _LEFT.fullmatch(left.name):
            left.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path | str, text: str) -> None:
    with atomic_write(path) as file:
        file.write(text)


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON with sorted keys, so that equal values are equal bytes."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """The value in a JSON file.

    Raises:
        ValueError: Not JSON in UTF-8, or nested too deeply; a NotWritten, so that a user need not see where.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise NotWritten(
            f"{path}: expected JSON as it was written, got {str(error)[:200]}. Bring the file back from a copy, or "
            "move its folder away to do the work again."
        ) from None


def json_lines(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as JSONL, equal rows as equal texts.

    >>> json_lines([{"prompt": "Où?"}])
    '{"prompt": "Où?"}\\n'
    """
    return "".join(f"{_json_line(row)}\n" for row in rows)


def _json_line(row: Mapping[str, Any]) -> str:
    text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        # Half a surrogate pair has no UTF-8, only an escape.
        return json.dumps(row, allow_nan=False)
    return text
