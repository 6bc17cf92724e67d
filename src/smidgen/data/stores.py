"""SQLite files from a run's folder: a file can hold queries of its own, which run as soon as its tables are read."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from smidgen.errors import InvalidData

# Views, triggers, tables that code stands for, columns that are computed.
_PROGRAMS = """
SELECT made.name FROM sqlite_master AS made WHERE made.type NOT IN ('table', 'index') OR made.type = 'table' AND (
  coalesce(made.rootpage, 0) = 0 OR EXISTS (SELECT 1 FROM pragma_table_xinfo(made.name) WHERE hidden <> 0)) LIMIT 1
"""


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
