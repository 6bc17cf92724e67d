"""What people say of matches: the votes of a blind comparison, in one SQLite file that survives whatever happens.

Every rater meets the matches in an order of her own (`raters`), and goes on where she was. Nothing is removed: what is
undone stays in the file, marked.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from smidgen.errors import InvalidData, UsageError
from smidgen.evaluation.matches import Match, read_matches
from smidgen.evaluation.raters import a_is_left, rater_order
from smidgen.evaluation.verdicts import LOSS, TIE, WIN, Verdict
from smidgen.runs import content_hash, refuse_programs

VOTES = "verdicts.sqlite"
MATCHES = "matches.jsonl"
LEFT, RIGHT, BOTH = "left", "right", "tie"
# A match that was skipped comes again at the end; skipped once more, it is left without a verdict.
MOST_SKIPS = 2

_SCHEMA = """
CREATE TABLE IF NOT EXISTS comparison (matches TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS votes (
  id INTEGER PRIMARY KEY AUTOINCREMENT, rater TEXT NOT NULL, number INTEGER NOT NULL, letter TEXT NOT NULL,
  model_a TEXT NOT NULL, model_b TEXT NOT NULL, outcome REAL, a_was_left INTEGER NOT NULL, cast_at TEXT NOT NULL,
  undone_at TEXT);
CREATE UNIQUE INDEX IF NOT EXISTS one_verdict ON votes (rater, number, letter, model_a, model_b)
  WHERE undone_at IS NULL AND outcome IS NOT NULL;
CREATE TABLE IF NOT EXISTS finished (rater TEXT PRIMARY KEY, at TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Shown:
    """A match as one rater sees it: who wrote what is not in it.

    Attributes:
        place: In her order, from 0; it names the match towards her.
        again: Whether she has skipped it before.
    """

    place: int
    prompt: str
    left: str
    right: str
    again: bool


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a rater has come; `n_passed` matches she has skipped for good."""

    n_matches: int
    n_judged: int
    n_passed: int
    finished: bool

    @property
    def done(self) -> bool:
        """Whether nothing is left to ask her."""
        return self.finished or self.n_judged + self.n_passed == self.n_matches


class HumanVotes:
    """The votes on the matches of one comparison's folder.

    Raises:
        InvalidData: The folder's matches cannot be read, or its votes were cast on others.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.matches = _matches(self.folder)
        self.path = self.folder / VOTES
        with self._database() as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.executescript(_SCHEMA)
            # Only the matches that were first there are filed: votes are on these, whatever came to lie beside them.
            database.execute(
                "INSERT INTO comparison SELECT ? WHERE NOT EXISTS (SELECT 1 FROM comparison)",
                (_fingerprint(self.matches),),
            )
            _check_same(database, self.matches, self.path)
            database.commit()

    def next(self, rater: str) -> Shown | None:
        """The match that a rater is to judge now; None where she is done."""
        with self._database() as database:
            judged, skips, finished = _standing(database, rater)
        order = rater_order(rater, self.matches)
        left = [
            (skips.get(self.matches[i].key, 0), place, i)
            for place, i in enumerate(order)
            if self.matches[i].key not in judged and skips.get(self.matches[i].key, 0) < MOST_SKIPS
        ]
        if finished or not left:
            return None
        n_skips, place, i = min(left)
        match = self.matches[i]
        sides = (match.a, match.b) if a_is_left(rater, match) else (match.b, match.a)
        return Shown(place, match.prompt, *sides, again=n_skips > 0)

    def cast(self, rater: str, place: int, side: str | None) -> bool:
        """File a rater's word on the match at `place` of her order.

        Args:
            side: `left`, `right` or `tie`; None skips it.

        Returns:
            Whether it was taken: not where she has judged the match already, as from a second window, or is done.

        Raises:
            UsageError: No such side or place.
        """
        if side not in (LEFT, RIGHT, BOTH, None) or not 0 <= place < len(self.matches):
            raise UsageError(
                f"expected left, right, tie or a skip for a match below {len(self.matches)}, got {side!r} for {place}. "
                "Reload the page."
            )
        match = self.matches[rater_order(rater, self.matches)[place]]
        a_left = a_is_left(rater, match)
        outcome = None if side is None else TIE if side == BOTH else WIN if (side == LEFT) == a_left else LOSS
        with self._database() as database:
            # One transaction from reading to writing, so that two windows cannot both be first.
            database.execute("BEGIN IMMEDIATE")
            judged, skips, finished = _standing(database, rater)
            if finished or match.key in judged or skips.get(match.key, 0) >= MOST_SKIPS:
                return False
            database.execute(
                "INSERT INTO votes (rater, number, letter, model_a, model_b, outcome, a_was_left, cast_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (rater, *match.key, outcome, int(a_left), _now()),
            )
            database.commit()
        return True

    def undo(self, rater: str) -> bool:
        """Take back a rater's last verdict or skip that counts, so that `next` shows that match; False without one."""
        with self._database() as database:
            database.execute("BEGIN IMMEDIATE")
            if _standing(database, rater)[2]:
                return False
            changed = database.execute(
                "UPDATE votes SET undone_at = ? WHERE id = "
                "(SELECT max(id) FROM votes WHERE rater = ? AND undone_at IS NULL)",
                (_now(), rater),
            ).rowcount
            database.commit()
        return changed > 0

    def finish(self, rater: str) -> None:
        """End a rater's judging: she may see the models' names now, so nothing she said later would be blind."""
        with self._database() as database:
            database.execute("INSERT OR IGNORE INTO finished VALUES (?, ?)", (rater, _now()))
            database.commit()

    def progress(self, rater: str) -> Progress:
        with self._database() as database:
            judged, skips, finished = _standing(database, rater)
        passed = sum(n >= MOST_SKIPS and key not in judged for key, n in skips.items())
        return Progress(len(self.matches), len(judged), passed, finished)

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        with _opened(self.path, "rwc") as database:
            yield database


def read_human_verdicts(folder: Path | str) -> list[Verdict]:
    """All verdicts of people on a comparison's matches, by rater, in the order of matches; none where nobody judged.

    What was skipped or undone is not among them.

    Raises:
        InvalidData: The votes cannot be read, or were cast on other matches.
    """
    folder = Path(folder)
    if not (folder / VOTES).is_file():
        return []
    matches = _matches(folder)
    with _opened(folder / VOTES, "rw") as database:
        _check_same(database, matches, folder / VOTES)
        rows = database.execute(
            "SELECT rater, number, letter, model_a, model_b, outcome FROM votes "
            "WHERE undone_at IS NULL AND outcome IS NOT NULL"
        ).fetchall()
    place = {match.key: i for i, match in enumerate(matches)}
    for rater, n, letter, a, b, outcome in rows:
        if not isinstance(rater, str) or (n, letter, a, b) not in place or outcome not in (WIN, TIE, LOSS):
            raise InvalidData(
                f"{folder / VOTES}: expected votes on the matches of {MATCHES} beside it, got {outcome!r:.20} by "
                f"{rater!r:.60} on {n!r:.20}-{letter!r:.20}. Restore it from a copy, or move it away to start anew."
            )
    verdicts = [
        Verdict(judge="human", rater=rater, number=n, letter=letter, model_a=a, model_b=b, outcome=outcome)
        for rater, n, letter, a, b, outcome in rows
    ]
    return sorted(verdicts, key=lambda verdict: (verdict.rater, place[verdict.key]))


def _standing(
    database: sqlite3.Connection, rater: str
) -> tuple[set[tuple[int, str, str, str]], dict[tuple[int, str, str, str], int], bool]:
    """The matches a rater has judged, how often she skipped which, and whether she has finished."""
    rows = database.execute(
        "SELECT number, letter, model_a, model_b, outcome FROM votes WHERE rater = ? AND undone_at IS NULL", (rater,)
    ).fetchall()
    judged = {(n, letter, a, b) for n, letter, a, b, outcome in rows if outcome is not None}
    skips: dict[tuple[int, str, str, str], int] = {}
    for n, letter, a, b, outcome in rows:
        if outcome is None:
            skips[n, letter, a, b] = skips.get((n, letter, a, b), 0) + 1
    finished = database.execute("SELECT 1 FROM finished WHERE rater = ?", (rater,)).fetchone() is not None
    return judged, skips, finished


@contextmanager
def _opened(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    """The file, for one piece of work; a vote that was committed is on disk.

    Raises:
        InvalidData: It cannot be opened, read or written.
    """
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode={mode}", uri=True, timeout=30)) as database:
            refuse_programs(database, path)
            database.execute("PRAGMA synchronous = FULL")
            yield database
    except (sqlite3.Error, UnicodeEncodeError, OverflowError) as error:
        raise InvalidData(
            f"{path}: expected the votes of a comparison, to read and write, got {error}. "
            "Make room or give write access; if the file is broken, move it away to start anew."
        ) from error


def _matches(folder: Path) -> list[Match]:
    path = folder / MATCHES
    if not path.is_file():
        raise InvalidData(
            f"expected the folder of a comparison, with {MATCHES}, got {folder} without it. "
            "Run `smidgen compare … --judge human` first, and give its folder."
        )
    matches = read_matches(path)
    if len({match.key for match in matches}) != len(matches) or not matches:
        raise InvalidData(
            f"{path}: expected matches that differ in number, letter or models, got {len(matches)} of which some are "
            "the same, or none. Run `smidgen compare` anew."
        )
    return matches


def _fingerprint(matches: Sequence[Match]) -> str:
    return content_hash([asdict(match) for match in matches])


def _check_same(database: sqlite3.Connection, matches: Sequence[Match], path: Path) -> None:
    found = [fingerprint for (fingerprint,) in database.execute("SELECT matches FROM comparison")]
    if found != [_fingerprint(matches)]:
        raise InvalidData(
            f"{path}: expected votes on the matches of {MATCHES} beside it, got votes on others. "
            "Bring the old matches back, or move the votes away."
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
