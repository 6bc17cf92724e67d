"""Packed files as bytes, up to what texts can pack to: a few kilobytes can unpack to more than any memory."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from smidgen.errors import InvalidData

LEAST_LIMIT_BYTES = 256 * 2**20
"""Any file may unpack to so much."""
_MOST_RATIO = 100
DAMAGE = (EOFError, gzip.BadGzipFile, zlib.error)


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """A file's bytes, unpacked where its first two say gzip, whatever its name says."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if packed:
            with gzip.open(file) as unpacked, io.BufferedReader(_Watched(unpacked, path)) as watched:
                yield watched
        else:
            yield file


class _Watched(io.RawIOBase):
    """The bytes of a packed file, which end in InvalidData where they are more than any text packs to."""

    def __init__(self, unpacked: gzip.GzipFile, path: Path) -> None:
        self._unpacked, self._path = unpacked, path
        self._left = most_unpacked(path)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._unpacked.read(len(buffer))
        buffer[: len(data)] = data
        self._left -= len(data)
        if self._left < 0:
            raise bomb(self._path)
        return len(data)


def most_unpacked(path: Path) -> int:
    """Bytes that a packed file may unpack to: texts pack to a tenth, and hardly any to a hundredth."""
    return max(LEAST_LIMIT_BYTES, _MOST_RATIO * path.stat().st_size)


def bomb(path: Path) -> InvalidData:
    """What to raise for a file that unpacks to more than `most_unpacked`."""
    return InvalidData(
        f"{path}: expected a packed file of texts, got one of {path.stat().st_size:,} bytes that unpacks to more than "
        f"{most_unpacked(path):,}. If that is meant, unpack it first, or take out the rows that stand there again and "
        "again."
    )
