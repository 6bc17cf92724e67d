"""SQLite files of a run, opened for one piece of work; what cannot be read or written is told as to a user."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from smidgen.errors import SmidgenError
from smidgen.runs.room import room_told

# Longer than the longest transaction of another process.
_WAIT_SECONDS = 60


@contextmanager
def open_database(path: Path, *, held: str, do: str) -> Iterator[sqlite3.Connection]:
    """A connection, closed at the end; a file that is not there is made.

    Args:
        path: The file.
        held: What it holds, for the message.
        do: What to do where it cannot be read.

    Raises:
        CannotWrite: An OSError, where there is no room or no access.
        SmidgenError: The file is damaged, or no database.
    """
    try:
        with room_told(path), closing(sqlite3.connect(path, timeout=_WAIT_SECONDS)) as connection:
            yield connection
    except sqlite3.DatabaseError as error:
        # Its subclasses say of a statement, not of the file, that it is wrong.
        if type(error) is not sqlite3.DatabaseError:
            raise
        raise SmidgenError(f"{path}: expected {held}, got a damaged file or another kind ({error}). {do}") from None
