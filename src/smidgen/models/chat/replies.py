"""Replies that were paid for, kept in one SQLite file, so that nobody pays for them again.

A row is written before its question is sent, so that a killed process leaves word of what may have been billed. One
process at a time holds the file.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from smidgen.errors import SmidgenError
from smidgen.models.chat.base import NoReply, Reply, Sampling
from smidgen.models.chat.budget import Usage
from smidgen.pairs import Messages
from smidgen.runs import refuse_programs, room_told

# "smdg", which tells these files from other SQLite files.
_FILE_KIND = 0x736D6467
# In the first form a question had one row, whoever asked it, so that one run's tries moved to another's account.
_FORM = 2
_COLUMNS = """
    key TEXT NOT NULL, run TEXT NOT NULL,
    most_prompt INTEGER NOT NULL, most_completion INTEGER NOT NULL,
    under_way INTEGER NOT NULL, unsure INTEGER NOT NULL,
    prompt INTEGER NOT NULL, completion INTEGER NOT NULL, prompt_atop INTEGER NOT NULL,
    completion_atop INTEGER NOT NULL, reply TEXT, seal INTEGER, PRIMARY KEY (key, run)
"""


def reply_key(source: str, model: str, messages: Messages, sampling: Sampling) -> str:
    """What a reply is kept under: the same for the same question alone (hex, 64 characters)."""
    turns = [[m.role, m.content] for m in messages]
    text = json.dumps([source, model, turns, asdict(sampling)], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Account:
    """What a run has spent according to the file.

    Attributes:
        settled: Tokens of the replies that are there.
        unsure: At most so many tokens more, of tries whose replies never came and of replies that were not counted.
        n_unsure: How many tries those are.
    """

    settled: Usage
    unsure: Usage
    n_unsure: int


@dataclass(frozen=True, slots=True)
class Forgiven:
    """Tries that counted as spent, and do so no longer."""

    usage: Usage
    n_tries: int


class ReplyStore:
    """The replies of one file, and what the run in hand asked for.

    Args:
        path: The file; made where it is missing.
        run: Whose spending to count, where several runs share the file.

    Raises:
        SmidgenError: Another process holds the file, it is damaged, or it is something else.
    """

    def __init__(self, path: Path, *, run: str = "") -> None:
        self._path, self._run = path, run
        with self._explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, timeout=0.5, isolation_level=None, check_same_thread=False)
            try:
                self._open()
            except BaseException:
                self._database.close()
                raise

    def _open(self) -> None:
        execute = self._database.execute
        execute("PRAGMA locking_mode=EXCLUSIVE")
        (kind,) = execute("PRAGMA application_id").fetchone()
        (n_tables,) = execute("SELECT count(*) FROM sqlite_master").fetchone()
        if n_tables and kind != _FILE_KIND:
            raise SmidgenError(f"expected a file of replies at {self._path}, got another kind. Name another file.")
        refuse_programs(self._database, self._path)
        execute("PRAGMA journal_mode=WAL")
        # A killed process loses nothing; a power cut loses what came since the last of these frequent checkpoints.
        execute("PRAGMA synchronous=NORMAL")
        execute("PRAGMA wal_autocheckpoint=64")
        execute("BEGIN IMMEDIATE")
        execute(f"PRAGMA application_id={_FILE_KIND}")
        (form,) = execute("PRAGMA user_version").fetchone()
        if n_tables and form < _FORM:
            execute("ALTER TABLE replies RENAME TO first_form")
        execute(f"CREATE TABLE IF NOT EXISTS replies ({_COLUMNS})")
        if n_tables and form < _FORM:
            execute("INSERT INTO replies SELECT * FROM first_form")
            execute("DROP TABLE first_form")
        execute(f"PRAGMA user_version={_FORM}")
        # Whoever asked is gone, with whatever was under way.
        execute("UPDATE replies SET unsure = unsure + under_way, under_way = 0 WHERE under_way > 0")
        execute("COMMIT")
        if execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("quick_check")

    def close(self) -> None:
        """Let go of the file; one that holds nothing goes with it."""
        holds_any = self._all("SELECT 1 FROM replies LIMIT 1")
        self._database.close()
        if not holds_any:
            self._path.unlink()

    def account(self) -> Account:
        """What the run in hand has spent, earlier processes included."""
        rows = self._all(
            "SELECT sum(prompt), sum(completion), sum(unsure * most_prompt + prompt_atop),"
            " sum(unsure * most_completion + completion_atop), sum(unsure) FROM replies WHERE run = ?",
            self._run,
        )
        prompt, completion, most_prompt, most_completion, n_unsure = (value or 0 for value in rows[0])
        return Account(Usage(prompt, completion), Usage(most_prompt, most_completion), n_unsure)

    def find(self, key: str) -> Reply | NoReply | None:
        """What was answered to a question; None where nothing was yet.

        Raises:
            SmidgenError: What is stored is not what was written.
        """
        rows = self._all("SELECT reply, seal FROM replies WHERE key = ? AND reply IS NOT NULL", key)
        if not rows:
            return None
        text, seal = rows[0]
        if _seal(key, text) != seal:
            raise self._damaged()
        found = json.loads(text)
        return NoReply(**found, final=True) if "reason" in found else Reply(**found | {"cached": True})

    def begin(self, key: str, most: Usage) -> None:
        """Write down that a question is about to be sent, which may use so many tokens."""
        self._all(
            "INSERT INTO replies VALUES (?, ?, ?, ?, 1, 0, 0, 0, 0, 0, NULL, NULL)"
            " ON CONFLICT (key, run) DO UPDATE SET under_way = 1",
            key, self._run, most.prompt, most.completion,
        )  # fmt: skip

    def end_free(self, key: str) -> None:
        """The try was refused, and so costs nothing."""
        mine = (key, self._run)
        self._all("UPDATE replies SET under_way = 0 WHERE key = ? AND run = ?", *mine)
        self._all("DELETE FROM replies WHERE key = ? AND run = ? AND unsure = 0 AND reply IS NULL", *mine)

    def end_unsure(self, key: str) -> None:
        """The try ended without a reply that could be read, and may have been billed."""
        self._all("UPDATE replies SET under_way = 0, unsure = unsure + 1 WHERE key = ? AND run = ?", key, self._run)

    def settle(self, key: str, reply: Reply | NoReply, used: Usage, *, atop: Usage, forgive: bool) -> Forgiven:
        """Keep what was answered.

        Args:
            used: Tokens that the answer cost.
            atop: How many more they may be, where they are an estimate.
            forgive: Whether earlier tries of this question were not billed apart. Another run's stay in its account:
                one of them may be the one that was billed.
        """
        said = {"reason": reply.reason, "detail": reply.detail} if isinstance(reply, NoReply) else asdict(reply)
        text = json.dumps(said, ensure_ascii=True)
        mine = (key, self._run)
        ((n_unsure, *most),) = self._all(
            "SELECT unsure, most_prompt, most_completion FROM replies WHERE key = ? AND run = ?", *mine
        )
        self._all(
            "UPDATE replies SET under_way = 0, unsure = ?, prompt = ?, completion = ?, prompt_atop = ?,"
            " completion_atop = ?, reply = ?, seal = ? WHERE key = ? AND run = ?",
            0 if forgive else n_unsure, used.prompt, used.completion, atop.prompt, atop.completion,
            text, _seal(key, text), *mine,
        )  # fmt: skip
        return Forgiven(Usage(*most) * n_unsure, n_unsure) if forgive else Forgiven(Usage(), 0)

    def _all(self, query: str, *values: object) -> list[tuple]:
        with self._explained():
            return self._database.execute(query, values).fetchall()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """SQLite's errors as those that a user can act on."""
        try:
            with room_told(self._path):
                yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                raise SmidgenError(
                    f"expected {self._path} to be free, got one that another process holds. Wait for it to end, or "
                    "name another file by --replies."
                ) from None
            raise SmidgenError(f"{self._path}: expected to read and write it, got: {error}. Check the disk.") from None
        except sqlite3.DatabaseError:
            raise self._damaged() from None

    def _damaged(self) -> SmidgenError:
        return SmidgenError(
            f"expected {self._path} as it was written, got a damaged file. Restore it from a copy, or delete it: the "
            "replies that it held are then asked, and paid, again."
        )


def _seal(key: str, text: str) -> int:
    """A checksum of a reply and its key, so that neither a flipped bit nor a mixed-up row is read."""
    return zlib.crc32(f"{key} {text}".encode())
