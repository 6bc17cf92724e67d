"""A run's folder: files appear whole or not at all, and what is done stays done."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from smidgen.errors import UsageError


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
        part.chmod(0o644)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_text(path: Path | str, text: str) -> None:
    with atomic_write(path) as file:
        file.write(text)


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON with sorted keys, so that equal values are equal bytes."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


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
