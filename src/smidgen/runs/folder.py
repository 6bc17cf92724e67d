"""A run's folder: whose work it holds, in which version of the files, and which process is at work in it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from smidgen import __version__
from smidgen.errors import SmidgenError, UsageError
from smidgen.runs.files import LOCK, read_json, sweep, sweep_beside, write_json
from smidgen.runs.room import room_told

# Of the files that an unfinished run goes on from: to be raised whenever one of them changes its form. Runs from before
# versions were written down count as 0.
FILES_VERSION = 1
_BESIDE_IDENTITY = ("files_version", "smidgen")


@contextmanager
def held(folder: Path | str) -> Iterator[None]:
    """Hold a folder, made where it is missing, against all other processes; one that ends empty is removed.

    The kernel lets go of it when this process ends, however it ends.

    Raises:
        SmidgenError: Another process holds it.
        CannotWrite: There is no room, or no access.
    """
    folder = Path(folder)
    with room_told(folder / LOCK):
        folder.mkdir(parents=True, exist_ok=True)
        lock = _locked(folder / LOCK)
    try:
        yield
    finally:
        # Removed while it is held, so that nobody's but one's own goes.
        with suppress(FileNotFoundError):
            (folder / LOCK).unlink()
        os.close(lock)
        with suppress(OSError):
            folder.rmdir()


def _locked(path: Path) -> int:
    """A descriptor that holds the file, with this process's number in it."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            _take(lock, path)
            # Its last holder may have removed it in between; what nobody else can open holds nothing.
            with suppress(FileNotFoundError):
                if os.fstat(lock).st_ino == path.stat().st_ino:
                    os.ftruncate(lock, 0)
                    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
                    return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


def _take(lock: int, path: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        number = os.pread(lock, 20, 0).decode("ascii", "replace").strip()
        raise SmidgenError(
            f"expected {path.parent} for this process alone, got one where process {number or 'of unknown number'} is "
            "at work. Wait for it to end, or give another --out."
        ) from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        warnings.warn(
            f"{path.parent}: this disk knows no locks; see to it that one process at a time works there", stacklevel=2
        )


def open_run(folder: Path | str, identity: dict[str, Any], *, beside: Collection[str] = ()) -> Path:
    """Make or reopen a run's folder for exactly this work.

    `identity` is what the run's results depend on (settings, input hashes). A folder that holds other work is
    never overwritten: resuming needs the same identity. Names `beside` are no work and may stand in any folder. What
    killed processes left of half-written files goes, once the folder is known to be this work's; so it must be held.

    Raises:
        UsageError: The folder belongs to a run with another identity, holds something that is not a run, or an
            unfinished run in files of another version.
    """
    folder = Path(folder)
    marker = folder / "run.json"
    identity = json.loads(json.dumps(identity))  # as it reads back: tuples are lists
    if marker.exists():
        found = read_json(marker)
        if not isinstance(found, dict):
            raise UsageError(f"{marker}: expected the account of a run, got {found!r:.60}. Give another --out.")
        version, writer = (found.pop(name, None) for name in _BESIDE_IDENTITY)
        if not (folder / "DONE").exists():
            _check_version(folder, version or 0, writer)
        if found != identity:
            keys = sorted(k for k in {*found, *identity} if found.get(k) != identity.get(k))
            raise UsageError(
                f"{folder} holds a run with other {', '.join(keys)}; expected the same to resume it. "
                "Give another --out, or move that folder away."
            )
    else:
        _begin(folder, marker, identity, beside)
    sweep(folder)
    return folder


def _begin(folder: Path, marker: Path, identity: dict[str, Any], beside: Collection[str]) -> None:
    # A process that was killed before it had claimed the folder may have left half of the marker.
    sweep_beside(marker)
    if folder.exists() and any(path.name not in {*beside, LOCK} for path in folder.iterdir()):
        raise UsageError(f"{folder} is not empty and holds no run of this project; give another --out.")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(marker, {**identity, **dict(zip(_BESIDE_IDENTITY, (FILES_VERSION, __version__), strict=True))})


def _check_version(folder: Path, version: int, writer: str | None) -> None:
    if version == FILES_VERSION:
        return
    by = f"smidgen {writer}" if writer else "the smidgen that began it"
    newer = f"Update to {by} or a newer one" if version > FILES_VERSION else f"Finish it with {by}"
    raise UsageError(
        f"{folder} holds an unfinished run whose files have version {version}; expected version {FILES_VERSION}, which "
        f"is what smidgen {__version__} goes on from. {newer}, or give another --out to start anew."
    )
