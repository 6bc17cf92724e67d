"""Matches: two models' answers to one prompt, side by side, to be judged; and the file that holds them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import combinations
from pathlib import Path

from smidgen.data.checks import BadRow
from smidgen.data.readers import read_records
from smidgen.errors import InvalidData
from smidgen.evaluation.completions import Completions, letter
from smidgen.runs import json_lines, write_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Two answers to one prompt.

    Attributes:
        number: Of the prompt, from 1, as in completions files.
        letter: Of the completion: A of the one model meets A of the other.
        prompt: As it stood in its file.
        model_a: Who wrote `a`.
        model_b: Who wrote `b`.
        a: May be empty.
        b: May be empty.
    """

    number: int
    letter: str
    prompt: str
    model_a: str
    model_b: str
    a: str
    b: str

    @property
    def key(self) -> tuple[int, str, str, str]:
        """What a verdict on this match is filed under."""
        return self.number, self.letter, self.model_a, self.model_b


def matches_of(contenders: Sequence[Completions]) -> list[Match]:
    """Every model's answers against every other's: letter by letter, in the order of prompts.

    Raises:
        InvalidData: Fewer than two models, two of one name, or files of different prompts or numbers of completions;
            says where they part.
    """
    names = [c.model for c in contenders]
    if len(names) < 2 or len(set(names)) != len(names):
        raise InvalidData(
            f"expected completions of at least two models of different names, got {', '.join(names) or 'none'}. "
            "Give two, and rename a file or folder where two carry one name."
        )
    first = contenders[0]
    for other in contenders[1:]:
        _check_alike(first, other)
    return [
        Match(
            number=number,
            letter=letter(position),
            prompt=row_a.prompt,
            model_a=a.model,
            model_b=b.model,
            a=row_a.texts[position],
            b=row_b.texts[position],
        )
        for a, b in combinations(contenders, 2)
        for number, (row_a, row_b) in enumerate(zip(a.rows, b.rows, strict=True), start=1)
        for position in range(first.n_letters)
    ]


def write_matches(path: Path | str, matches: Iterable[Match]) -> None:
    """JSONL, one match a line."""
    write_text(path, json_lines(asdict(match) for match in matches))


def read_matches(path: Path | str) -> list[Match]:
    """What `write_matches` wrote.

    Raises:
        InvalidData: A line that is no match; says which.
    """
    path, kinds = Path(path), {"number": int} | {f.name: str for f in fields(Match) if f.name != "number"}
    matches = []
    for line, row in read_records(path, columns=tuple(kinds)):
        if not isinstance(row, dict) or any(type(row.get(name)) is not kind for name, kind in kinds.items()):
            detail = f"{row.reason}: {row.detail}" if isinstance(row, BadRow) else "another row"
            raise InvalidData(
                f"{path}, line {line}: expected a match with {', '.join(kinds)}, got {detail}. Write the file anew."
            )
        matches.append(Match(**{name: row[name] for name in kinds}))
    return matches


def _check_alike(first: Completions, other: Completions) -> None:
    """Raise where two files do not answer the same prompts equally often."""
    if len(first.rows) != len(other.rows) or first.n_letters != other.n_letters:
        raise InvalidData(
            f"expected as many completions by {other.model} as by {first.model}, {len(first.rows)} prompts times "
            f"{first.n_letters}, got {len(other.rows)} times {other.n_letters}. Compare files of the same prompts."
        )
    pairs = zip(first.rows, other.rows, strict=True)
    for number, (mine, theirs) in enumerate(pairs, start=1):
        if mine.prompt.split() != theirs.prompt.split():
            raise InvalidData(
                f"prompt {number}: expected {other.model} to have answered what {first.model} was asked, got "
                f"{mine.prompt[:50]!r} and {theirs.prompt[:50]!r}. Compare files of the same prompts."
            )
