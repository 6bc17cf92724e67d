"""Reference log-probabilities, computed once per pair and kept on disk for every subset, seed, order and process.

A value is addressed by the model's weights and the very token ids it was computed for, so nothing stale can be read.
"""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from smidgen.errors import SmidgenError
from smidgen.models.load import LanguageModel, computing_dtype
from smidgen.models.logprobs import score_answers
from smidgen.models.rows import Layout, Tokens
from smidgen.runs import open_database, room_told, uninterrupted

_SEAL_BYTES = 4
# Gives what `score_answers` gives for the same model, prompts, answers, dtype and layout, bit for bit.
Score = Callable[..., list[list[np.ndarray]]]


class ReferenceStore:
    """Per-token values by content, in one SQLite file that several processes may write.

    Raises:
        SmidgenError: The file is damaged, or another kind; here or in any method.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        with room_told(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._opened() as connection, connection:
            connection.execute("CREATE TABLE IF NOT EXISTS logps (key BLOB PRIMARY KEY, value BLOB NOT NULL)")

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        held = "stored reference log-probabilities"
        do = "Delete the file; what it held is computed again."
        with open_database(self._path, held=held, do=do) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            yield connection

    def logps(
        self,
        lm: LanguageModel,
        prompts: Sequence[Tokens],
        answers: Sequence[Sequence[Tokens]],
        *,
        dtype: str = "float32",
        layout: Layout | None = None,
        score: Score = score_answers,
    ) -> list[list[np.ndarray]]:
        """As `score_answers`, having `score` compute only what is not stored yet.

        Raises:
            SmidgenError: A stored value is not what was written; the file is damaged.
        """
        dtype = computing_dtype(dtype, lm.device)
        keys = [
            [_key(lm.fingerprint, f"{lm.model.dtype} {dtype}", prompt, answer) for answer in group]
            for prompt, group in zip(prompts, answers, strict=True)
        ]
        with self._opened() as connection:
            known = self._read(connection, [key for group in keys for key in group])
            missing = [i for i, group in enumerate(keys) if any(key not in known for key in group)]
            if missing:
                wanted = [prompts[i] for i in missing], [answers[i] for i in missing]
                fresh = score(lm, *wanted, dtype=dtype, layout=layout)
                found = {
                    k: v for i, group in zip(missing, fresh, strict=True) for k, v in zip(keys[i], group, strict=True)
                }
                with uninterrupted(), connection:
                    connection.executemany(
                        "INSERT OR IGNORE INTO logps VALUES (?, ?)",
                        [(k, _sealed(k, v.tobytes())) for k, v in found.items()],
                    )
                # Another process may have been first; its values count, so that all processes agree to the last bit.
                known |= self._read(connection, list(found))
        return [[known[key] for key in group] for group in keys]

    def _read(self, connection: sqlite3.Connection, keys: list[bytes]) -> dict[bytes, np.ndarray]:
        known: dict[bytes, np.ndarray] = {}
        for start in range(0, len(keys), 500):
            part = keys[start : start + 500]
            query = f"SELECT key, value FROM logps WHERE key IN ({','.join('?' * len(part))})"
            for key, value in connection.execute(query, part):
                if _sealed(key, value[:-_SEAL_BYTES]) != value:
                    raise SmidgenError(
                        f"{self._path} is damaged: a stored value is not the one that was written. Delete the file; "
                        "what it held is computed again."
                    )
                known[key] = np.frombuffer(value[:-_SEAL_BYTES], dtype=np.float32)
        return known


def _sealed(key: bytes, value: bytes) -> bytes:
    """A value with a checksum behind it, of its key too, so that neither a flipped bit nor a mixed-up row is read."""
    return value + zlib.crc32(key + value).to_bytes(_SEAL_BYTES, "little")


def _key(fingerprint: str, dtype: str, prompt: Tokens, answer: Tokens) -> bytes:
    digest = hashlib.sha256(f"{fingerprint} {dtype} {len(prompt)} ".encode())
    digest.update(np.asarray([*prompt, *answer], dtype=np.int64).tobytes())
    return digest.digest()[:16]
