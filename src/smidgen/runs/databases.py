"""SQLite files of a run: told as to a user what cannot be read or written, and looked at before they are read.

A file can hold queries of its own, which run as soon as its tables are read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from smidgen.errors import InvalidData, SmidgenError
from smidgen.runs.room import room_told

# Longer than the longest transaction of another process.
_WAIT_SECONDS = 60
# Views, triggers, tables that code stands for, columns that are computed.
_PROGRAMS = """
SELECT made.name FROM sqlite_master AS made WHERE made.type NOT IN ('table', 'index') OR made.type = 'table' AND (
  coalesce(made.rootpage, 0) = 0 OR EXISTS (SELECT 1 FROM pragma_table_xinfo(made.name) WHERE hidden <> 0)) LIMIT 1
"""


@contextmanager
def open_database(path: Path, *, held: str, do: str) -> Iterator[sqlite3.Connection]:
    """A connection for one piece of work, closed at the end; a file that is not there is made.

    Args:
        path: The file.
        held: What it holds, for the message.
        do: What to do where it cannot be read.

    Raises:
        CannotWrite: An OSError, where there is no room or no access.
        SmidgenError: The file is damaged, or no database.
        InvalidData: As in `refuse_programs`.
    """
    try:
        with room_told(path), closing(sqlite3.connect(path, timeout=_WAIT_SECONDS)) as connection:
            refuse_programs(connection, path)
            yield connection
    except sqlite3.DatabaseError as error:
        # Its subclasses say of a statement, not of the file, that it is wrong.
        if type(error) is not sqlite3.DatabaseError:
            raise
        raise SmidgenError(f"{path}: expected {held}, got a damaged file or another kind ({error}). {do}") from None


def refuse_programs(database: sqlite3.Connection, path: Path) -> None:
    """Look at what a file declares, before anything in it is read.

    Raises:
        InvalidData: Something in it is computed when it is read, which may take for ever and any memory.
        sqlite3.Error: It is no such file.
    """
    if found := database.execute(_PROGRAMS).fetchone():
        raise InvalidData(
            f"{path}: expected tables that hold what was written, got {found[0]!r}, which is computed when it is read. "
            "Take the file from whoever made it by Smidgen itself, or move it away."
        )
