"""What is said where something cannot be written: the path, how much room its disk has, and what to do.

Libraries tell of a full disk in many ways, most of them without the path; here they become one.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_ACCESS = {errno.EROFS, errno.EACCES, errno.EPERM}
# SQLite's primary result codes, https://sqlite.org/rescode.html: READONLY, IOERR, FULL, CANTOPEN.
_OF_SQLITE = {8: errno.EROFS, 10: errno.EIO, 13: errno.ENOSPC, 14: errno.EACCES}
# How Rust (safetensors, tokenizers) and Arrow put it.
_IN_WORDS = re.compile(r"\b(?:os error|errno) (\d+)\b")


_NEXT_TO_NOTHING_BYTES = 1 << 16


class CannotWrite(OSError):
    """A file could not be written; the message has its path, the room on its disk, and what to do."""


@contextmanager
def room_told(path: Path | str) -> Iterator[None]:
    """Inside, whatever is raised because `path` could not be written is raised as `CannotWrite`."""
    try:
        yield
    except CannotWrite:
        raise
    except Exception as error:
        number, named = _number(error), Path(str(getattr(error, "filename", None) or path))
        is_ours = named.absolute().is_relative_to(Path(path).absolute().parent)
        if number is None or (number in _NO_ACCESS and not is_ours):
            raise
        raise CannotWrite(_message(number, path if is_ours else named)) from error


def explained(error: OSError) -> str:
    """What to print for an error of the operating system that reached the command line."""
    if isinstance(error, CannotWrite) or error.errno not in _NO_ROOM or error.filename is None:
        return str(error)
    return _message(error.errno, error.filename)


def _number(error: Exception) -> int | None:
    """The error number of what could not be written; None for everything else."""
    number = None
    if isinstance(error, sqlite3.OperationalError):
        number = _OF_SQLITE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
    elif isinstance(error, OSError) and error.errno is not None:
        number = error.errno
    elif found := _IN_WORDS.search(str(error)):
        number = int(found[1])
    return number if number in _NO_ROOM | _NO_ACCESS | {errno.EIO} else None


def _message(number: int, path: Path | str) -> str:
    if number in _NO_ACCESS:
        return (
            f"expected {path} to be writable, got: {os.strerror(number)}. Give write access there, or another place "
            "to write to; what was there is as it was."
        )
    usage = shutil.disk_usage(next(parent for parent in Path(path).absolute().parents if parent.exists()))
    if number == errno.EIO:
        if usage.free > _NEXT_TO_NOTHING_BYTES:
            return (
                f"expected to write {path}, got: {os.strerror(number)}. Check the disk, and run the same command "
                "again, or write to another one; what was written before is whole."
            )
        # SQLite's word for it where it cannot lengthen the files beside its own.
        number = errno.ENOSPC
    free = f"{_bytes(usage.free)} of {_bytes(usage.total)} are free there"
    limit = ", so a quota or a limit of this process it is (ulimit -f)" if number != errno.ENOSPC else ""
    return (
        f"expected room to write {path}, got: {os.strerror(number)}; {free}{limit}. Make room, and run the same "
        "command again, or write to another disk; what was written before is whole."
    )


def _bytes(n: int) -> str:
    """A number of bytes for people.

    >>> _bytes(999), _bytes(1_500_000)
    ('999 B', '1.5 MB')
    """
    size, units = float(n), ["B", "kB", "MB", "GB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.3g} {units[0]}" if size < 1000 else f"{size:.0f} {units[0]}"
