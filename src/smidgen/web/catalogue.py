"""All pairs in a database in memory, so that filtering, searching and sorting tens of thousands takes no time.

Texts stand apart from what is filtered and sorted by: a list is made from rows of a few numbers, and only the texts
of one page are read.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from smidgen.web.wanted import IDX, Wanted

PAGE = 50
_HEAD = 240  # characters of a prompt that a list shows
_MOST_REASONS = 40
_MOST_VALUES = 60
_BINS = 24
_NUMBERS = re.compile(r"\d[\d,.]*")
# Scripts that write no spaces between words: the index of words cannot find a part of such a run.
_NO_SPACES = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A pair as the catalogue takes it; texts are None where they are not known."""

    idx: int
    prompt: str | None
    chosen: str | None
    rejected: str | None
    labels: Mapping[str, str]
    reason: str
    features: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Row:
    """A pair in a list: the beginning of its prompt, its labels, and its features."""

    idx: int
    prompt: str | None
    labels: Mapping[str, str]
    features: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Found:
    """One page of what was asked for, and how many there are on all."""

    rows: Sequence[Row]
    n: int
    page: int

    @property
    def n_pages(self) -> int:
        return max(1, -(-self.n // PAGE))


@dataclass(frozen=True, slots=True)
class Spread:
    """How a feature is distributed: its ends, and counts in bins of equal width between them."""

    low: float
    high: float
    counts: tuple[int, ...]
    is_flag: bool


class Catalogue:
    """The pairs of a run.

    Args:
        pairs: In any order, with distinct idx.
        flags: Features that are yes or no.
    """

    def __init__(self, pairs: Sequence[Listed], *, flags: frozenset[str] = frozenset()) -> None:
        self.n = len(pairs)
        self.features = sorted({name for pair in pairs for name in pair.features})
        self.labels = _told_apart(pairs)
        self.reasons = Counter(pattern for pair in pairs if (pattern := reason_pattern(pair.reason)))
        self.reasons = dict(self.reasons.most_common(_MOST_REASONS))
        self.spreads = {name: _spread(pairs, name, name in flags) for name in self.features}
        self._feature = {name: f"f{i}" for i, name in enumerate(self.features)}
        self._label = {name: f"l{i}" for i, name in enumerate(self.labels)}
        self._database = sqlite3.connect(":memory:", check_same_thread=False)
        self._fill(pairs)

    def find(self, wanted: Wanted, among: Sequence[int] | None = None) -> Found:
        """The page that is asked for, or the last where there are not so many; see `Wanted`.

        Args:
            among: The idx of the pairs that `wanted.among` means.
        """
        where, values = self._where(wanted, among)
        (n,) = self._database.execute(f"SELECT count(*) FROM pairs {where}", values).fetchone()
        page = min(wanted.page, max(1, -(-n // PAGE)))
        column = self._feature.get(wanted.sort, IDX)
        # Where a feature is not known, a pair comes last in either direction; equals stand by idx.
        order = f"{column} IS NULL, {column} {'DESC' if wanted.down else 'ASC'}, idx"
        columns = ", ".join([IDX, "head", *self._label.values(), *self._feature.values()])
        # What is sorted is idx alone: sorting whole rows makes far pages slow.
        idxs = f"SELECT idx FROM pairs {where} ORDER BY {order} LIMIT {PAGE} OFFSET {PAGE * (page - 1)}"
        rows = self._database.execute(f"SELECT {columns} FROM pairs WHERE idx IN ({idxs}) ORDER BY {order}", values)
        return Found([self._row(row) for row in rows.fetchall()], n, page)

    def pair(self, idx: int) -> Listed | None:
        """A pair with all that is known of it."""
        columns = ", ".join(["reason", *self._label.values(), *self._feature.values()])
        row = self._database.execute(f"SELECT {columns} FROM pairs WHERE idx = ?", (idx,)).fetchone()
        if row is None:
            return None
        texts = self._database.execute("SELECT prompt, chosen, rejected FROM texts WHERE idx = ?", (idx,)).fetchone()
        prompt, chosen, rejected = texts or (None, None, None)
        labels = dict(zip(self._label, row[1:], strict=False))
        features = dict(zip(self._feature, row[1 + len(labels) :], strict=True))
        return Listed(
            idx=idx,
            prompt=prompt,
            chosen=chosen,
            rejected=rejected,
            labels={name: value for name, value in labels.items() if value},
            reason=row[0],
            features={name: value for name, value in features.items() if value is not None},
        )

    def sharing_words(self, words: Sequence[str], *, rarest: int = 12, most: int = 100) -> list[int]:
        """The idx of pairs that share the most of a text's rarest words, most alike first, by BM25."""
        marks = ",".join("?" * len(words))
        rare = self._database.execute(
            f"SELECT term FROM vocabulary WHERE term IN ({marks}) AND doc > 1 ORDER BY doc LIMIT ?", (*words, rarest)
        ).fetchall()
        if not rare:
            return []
        query = " OR ".join(_quoted(term) for (term,) in rare)
        found = self._database.execute(
            "SELECT rowid FROM words WHERE words MATCH ? ORDER BY bm25(words) LIMIT ?", (query, most)
        )
        return [idx for (idx,) in found]

    def _row(self, row: tuple[Any, ...]) -> Row:
        values = iter(row[2:])
        labels = {name: value for name, value in zip(self._label, values, strict=False) if value}
        return Row(row[0], row[1], labels, dict(zip(self._feature, row[2 + len(self._label) :], strict=True)))

    def _where(self, wanted: Wanted, among: Sequence[int] | None) -> tuple[str, list[Any]]:
        conditions: list[tuple[str, list[Any]]] = []
        for name, value in wanted.labels.items():
            if name in self._label:
                conditions.append((f"{self._label[name]} = ?", [value]))
        for name, ends in wanted.ranges.items():
            for end, sign in zip(ends, (">=", "<="), strict=True):
                if end is not None and name in self._feature:
                    conditions.append((f"{self._feature[name]} {sign} ?", [end]))
        if wanted.why:
            conditions.append(("why = ?", [wanted.why]))
        if among is not None:
            self._database.execute("DELETE FROM among")
            self._database.executemany("INSERT OR IGNORE INTO among VALUES (?)", ((idx,) for idx in among))
            conditions.append(("idx IN (SELECT idx FROM among)", []))
        if wanted.text:
            conditions.append(_text_condition(wanted.text))
        text = " AND ".join(condition for condition, _ in conditions)
        return f"WHERE {text}" if text else "", [value for _, values in conditions for value in values]

    def _fill(self, pairs: Sequence[Listed]) -> None:
        columns = [f"{c} TEXT" for c in self._label.values()] + [f"{c} REAL" for c in self._feature.values()]
        database = self._database
        database.executescript(
            f"""CREATE TABLE pairs ({", ".join(["idx INTEGER PRIMARY KEY", "head", "reason", "why", *columns])});
            CREATE TABLE texts (idx INTEGER PRIMARY KEY, prompt TEXT, chosen TEXT, rejected TEXT);
            CREATE TABLE among (idx INTEGER PRIMARY KEY);
            CREATE VIRTUAL TABLE words USING fts5 (prompt, chosen, rejected, content = 'texts', content_rowid = 'idx',
              tokenize = 'unicode61 remove_diacritics 2', prefix = '2 3');
            CREATE VIRTUAL TABLE vocabulary USING fts5vocab (words, row);"""
        )
        marks = ",".join("?" * (4 + len(columns)))
        with database:
            database.executemany(
                f"INSERT INTO pairs VALUES ({marks})",
                (
                    (p.idx, None if p.prompt is None else _clean(p.prompt[:_HEAD]), _clean(p.reason),
                     reason_pattern(_clean(p.reason)), *(_clean(p.labels.get(name, "")) for name in self._label),
                     *(_finite(p.features.get(name)) for name in self._feature))
                    for p in pairs
                ),
            )  # fmt: skip
            texts = ((p.idx, *(_clean(t or "") for t in (p.prompt, p.chosen, p.rejected))) for p in pairs if p.prompt)
            database.executemany("INSERT INTO texts VALUES (?, ?, ?, ?)", texts)
            database.execute("INSERT INTO words (words) VALUES ('rebuild')")


def reason_pattern(reason: str) -> str:
    """A reason without its numbers: what it has in common with others.

    >>> reason_pattern("ranked 71 of 1,900: harmfulness 0.99")
    'ranked # of #: harmfulness #'
    """
    return _NUMBERS.sub("#", reason)


def _told_apart(pairs: Sequence[Listed]) -> dict[str, dict[str, int]]:
    """Labels that divide the pairs, each with its values and how many pairs have them, the most frequent first."""
    counts: dict[str, Counter[str]] = {}
    for pair in pairs:
        for name, value in pair.labels.items():
            counts.setdefault(name, Counter())[value] += 1
    return {
        name: dict(found.most_common())
        for name, found in counts.items()
        if len(found) <= _MOST_VALUES and (len(found) > 1 or sum(found.values()) < len(pairs))
    }


def _spread(pairs: Sequence[Listed], name: str, is_flag: bool) -> Spread:
    values = np.array([pair.features.get(name, np.nan) for pair in pairs], dtype=np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return Spread(0.0, 0.0, (), is_flag)
    low, high = float(values.min()), float(values.max())
    counts = np.histogram(values, bins=_BINS, range=(low, high if high > low else low + 1))[0]
    return Spread(low, high, tuple(int(n) for n in counts), is_flag)


def _text_condition(text: str) -> tuple[str, list[Any]]:
    if _NO_SPACES.search(text):
        like = "%" + re.sub(r"([%_\\])", r"\\\1", text) + "%"
        fields = " OR ".join(f"{name} LIKE ? ESCAPE '\\'" for name in ("prompt", "chosen", "rejected"))
        return f"idx IN (SELECT idx FROM texts WHERE {fields})", [like] * 3
    phrases = re.findall(r'"([^"]+)"|(\S+)', text.replace("\x00", " "))
    terms = [
        _quoted(phrase) if phrase else f"{_quoted(word)}*"
        for phrase, word in phrases
        if re.search(r"\w", phrase + word)
    ]
    if not terms:
        return "0", []
    return "idx IN (SELECT rowid FROM words WHERE words MATCH ?)", [" ".join(terms)]


def _quoted(term: str) -> str:
    return '"' + term.replace('"', '""') + '"'


def _clean(text: str) -> str:
    """A text that SQLite takes: half a surrogate pair is no character."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None
