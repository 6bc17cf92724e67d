"""Folders outside of any run that vanish with the processes that use them, even where those are killed.

Whoever uses a folder holds a lock on it, which the kernel gives up for the dead; who comes next removes what nobody
holds. They stand below one folder of the user's own in the machine's temporary one, which nobody else may enter.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from smidgen.errors import SmidgenError

# Unix sockets below such a folder must not be longer than about a hundred bytes.
_LONGEST_BASE = 40
_held: dict[Path, int] = {}


def scratch_base() -> Path:
    """The user's own folder for scratch, mode 700.

    Raises:
        SmidgenError: Something else stands there, or it is another user's.
    """
    temporary = tempfile.gettempdir()
    base = Path(temporary if len(temporary) < _LONGEST_BASE else "/tmp") / f"smidgen-{os.getuid()}"
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = base.lstat()
    if base.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise SmidgenError(
            f"expected {base} to be a folder of this user that nobody else may enter, got owner {found.st_uid} and "
            f"mode {found.st_mode & 0o777:o}. Remove it, or set TMPDIR to a folder of your own."
        )
    return base


def hold(name: str) -> Path:
    """The scratch folder of this name, made where it is missing; held until this process ends or lets go of it.

    Several processes may hold one. Folders that nobody holds any more are removed.
    """
    base = scratch_base()
    folder = base / name
    if folder in _held and not _is_still(folder, _held[folder]):  # another holder has let go of it
        os.close(_held.pop(folder))
    while folder not in _held:
        folder.mkdir(mode=0o700, exist_ok=True)
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if _is_still(folder, descriptor):
            _held[folder] = descriptor
        else:  # removed between the two
            os.close(descriptor)
    _sweep(base)
    return folder


def let_go(folder: Path) -> None:
    """Remove a scratch folder; other holders find it empty."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder in _held:
        os.close(_held.pop(folder))


def forget(name: str) -> None:
    """Remove the scratch folder of this name, whoever made it."""
    let_go(scratch_base() / name)


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Inside, no other process is inside for the same scratch folder, and it is there; it may have become empty."""
    with _locked(folder / ".lock"):
        yield


def _locked(path: Path) -> IO[str]:
    """The file, locked, in a folder that is held, and made again wherever another holder has let go of it."""
    while True:
        hold(path.parent.name)
        try:
            file = path.open("w")
        except FileNotFoundError:
            continue
        fcntl.flock(file, fcntl.LOCK_EX)
        if _is_still(path, file.fileno()):
            return file
        file.close()


def _sweep(base: Path) -> None:
    for folder in base.iterdir():
        if folder in _held or folder.is_symlink() or not folder.is_dir():
            continue
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False
