"""Verdicts: which of two answers a judge prefers, and the file that holds them, whoever judged."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from smidgen.data.checks import BadRow, excerpt
from smidgen.data.readers import read_records
from smidgen.errors import InvalidData
from smidgen.runs import json_lines, write_text

WIN, TIE, LOSS = 1.0, 0.5, 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A judge's word on one match.

    Attributes:
        judge: Who judged: a judge's name with its settings, or `human`.
        rater: Which person, for `human`; empty otherwise.
        number: Of the match, as are `letter`, `model_a` and `model_b`.
        outcome: Of `model_a`: 1 won, 0.5 tied, 0 lost. None where there is no verdict.
        problem: Why there is none; empty otherwise.
        flipped: Of a judge that was asked in both orders: whether its two answers disagreed (then it is a tie). None
            for others.
        orders: Of the same: what it said with `model_a`'s answer first, then with `model_b`'s first, in that order and
            parted by a space: 1, 2, tie, or why nothing. Empty for others.
        score_a: What the judge gave `model_a`'s answer, where it scores answers; None otherwise.
        score_b: The same of `model_b`.
        why: What it said, where it says anything.
    """

    judge: str
    rater: str = ""
    number: int
    letter: str
    model_a: str
    model_b: str
    outcome: float | None
    problem: str = ""
    flipped: bool | None = None
    orders: str = ""
    score_a: float | None = None
    score_b: float | None = None
    why: str = ""

    @property
    def key(self) -> tuple[int, str, str, str]:
        """The match that it is on."""
        return self.number, self.letter, self.model_a, self.model_b


def write_verdicts(path: Path | str, verdicts: Iterable[Verdict]) -> None:
    """JSONL, one verdict a line."""
    write_text(path, json_lines(asdict(verdict) for verdict in verdicts))


def read_verdicts(path: Path | str) -> list[Verdict]:
    """Verdicts from any file of records with at least judge, number, letter, model_a, model_b and outcome.

    Raises:
        InvalidData: A line that is no verdict; says which.
    """
    path, verdicts = Path(path), []
    for line, row in read_records(path, columns=("judge", "number", "letter", "model_a", "model_b", "outcome")):
        if problem := _problem(row):
            raise InvalidData(
                f"{path}, line {line}: expected a verdict (judge, number, letter, model_a, model_b, and an outcome of "
                f"1, 0.5, 0 or null), got {problem}. Correct or remove that line."
            )
        verdicts.append(Verdict(**{name: value for name, value in row.items() if name in _KINDS}))
    return verdicts


_NUMBER: tuple[type, ...] = (int, float)
_KINDS: dict[str, tuple[type, ...]] = {f.name: (str,) for f in fields(Verdict)} | {
    "number": (int,),
    "outcome": (*_NUMBER, type(None)),
    "flipped": (bool, type(None)),
    "score_a": (*_NUMBER, type(None)),
    "score_b": (*_NUMBER, type(None)),
}


def _problem(row: Any) -> str:
    """What is wrong with a row; empty where it is a verdict."""
    if isinstance(row, BadRow):
        return f"{row.reason}: {row.detail}"
    if not isinstance(row, dict):
        return excerpt(row)
    for name in ("judge", "number", "letter", "model_a", "model_b", "outcome"):
        if name not in row:
            return f"no {name}"
    for name, kinds in _KINDS.items():
        if name in row and type(row[name]) not in kinds:
            return f"{name} = {row[name]!r}"
    if not re.fullmatch("[A-Z]+", row["letter"]):
        return f"letter = {row['letter']!r}, which is none of A, B, C and so on"
    if row["model_a"] == row["model_b"]:
        return f"{row['model_a']!r} against itself"
    return "" if row["outcome"] in (WIN, TIE, LOSS, None) else f"outcome = {row['outcome']!r}"
