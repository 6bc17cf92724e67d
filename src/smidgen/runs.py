"""A run's folder: files appear whole or not at all, and what is done stays done."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from smidgen.errors import NotWritten, UsageError


@contextmanager
def atomic_write(path: Path | str, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file that takes `path`'s place only once it is whole and on disk; text is UTF-8 with plain newlines.

    A crash, an exception or a full disk leaves whatever stood at `path` as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
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

    A crash, an exception or a full disk leaves whatever stood at `folder` as it was; a crash may also leave a folder
    beside it, whose name starts with a point.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        yield part
        part.chmod(_let(0o755))
        for file in part.iterdir():
            file.chmod(_let(0o644))
            _sync(file)
        _sync(part)
        if folder.exists():
            remove_folder(folder)
        part.replace(folder)
        _sync(folder.parent)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _let(mode: int) -> int:
    """Of these permissions, those that the user gives to new files."""
    # It can only be read by setting it; what another thread makes meanwhile is the more private.
    mask = os.umask(0o077)
    os.umask(mask)
    return mode & ~mask


def remove_folder(folder: Path | str) -> None:
    """Remove a folder so that it is gone at once, not file by file."""
    folder = Path(folder)
    gone = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    shutil.rmtree(folder.replace(gone))


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


def content_hash(value: Any) -> str:
    """A short stable hash of any JSON-able value (hex, 16 characters)."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def file_hash(path: Path | str) -> str:
    """SHA-256 of a file's bytes (hex)."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_run(folder: Path | str, identity: dict[str, Any], *, beside: Collection[str] = ()) -> Path:
    """Make or reopen a run's folder for exactly this work.

    `identity` is what the run's results depend on (settings, input hashes). A folder that holds other work is
    never overwritten: resuming needs the same identity. Names `beside` are no work and may stand in any folder.

    Raises:
        UsageError: The folder belongs to a run with another identity, or holds something that is not a run.
    """
    folder = Path(folder)
    marker = folder / "run.json"
    identity = json.loads(json.dumps(identity))  # as it reads back: tuples are lists
    if marker.exists():
        found = read_json(marker)
        if found != identity:
            keys = sorted(k for k in {*found, *identity} if found.get(k) != identity.get(k))
            raise UsageError(
                f"{folder} holds a run with other {', '.join(keys)}; expected the same to resume it. "
                "Give another --out, or move that folder away."
            )
        return folder
    if folder.exists() and any(path.name not in beside for path in folder.iterdir()):
        raise UsageError(f"{folder} is not empty and holds no run of this project; give another --out.")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(marker, identity)
    return folder
