"""A run's folder: files appear whole or not at all, what is done stays done, and one process at a time is at work."""

from smidgen.runs.databases import open_database, refuse_programs
from smidgen.runs.files import (
    LOCK,
    atomic_folder,
    atomic_write,
    json_lines,
    read_json,
    remove_folder,
    sweep,
    sweep_beside,
    write_json,
    write_text,
)
from smidgen.runs.folder import held, open_run
from smidgen.runs.hashes import content_hash, file_hash
from smidgen.runs.interrupts import deaf_children, run_async, uninterrupted
from smidgen.runs.room import CannotWrite, explained, room_told

__all__ = [
    "LOCK",
    "CannotWrite",
    "atomic_folder",
    "atomic_write",
    "content_hash",
    "deaf_children",
    "explained",
    "file_hash",
    "held",
    "json_lines",
    "open_database",
    "open_run",
    "read_json",
    "refuse_programs",
    "remove_folder",
    "room_told",
    "run_async",
    "sweep",
    "sweep_beside",
    "uninterrupted",
    "write_json",
    "write_text",
]
