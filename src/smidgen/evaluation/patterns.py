"""Refusal patterns: named lists of phrases by which a refusal is found in an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from smidgen.data.literals import read_literals, split_reference
from smidgen.errors import InvalidData, UsageError

SHIPPED = ("exercise", "common", "broad")
DEFAULT_LIST = "common"

_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'"})


@dataclass(frozen=True, slots=True)
class Patterns:
    """A named list of phrases; a text matches where it holds one of them, case aside.

    Lists agree poorly with each other and none is the truth: report several, and read some of the answers.

    >>> Patterns("mine", ("I can't",)).matches("Sorry, i can’t do that.")
    True
    """

    name: str
    patterns: tuple[str, ...]
    _folded: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_folded", tuple(dict.fromkeys(map(_fold, self.patterns))))

    def matches(self, text: str) -> bool:
        """Whether a pattern is a substring of `text`, without regard to case or the shape of apostrophes."""
        folded = _fold(text)
        return any(pattern in folded for pattern in self._folded)

    def matches_exactly(self, text: str) -> bool:
        """Whether a pattern is a substring of `text` as written: case and apostrophes count."""
        return any(pattern in text for pattern in self.patterns)


def list_name(name_or_path: str | Path) -> str:
    """What the list loaded from there is called: `common`, the file's name without its ending, or the variable's.

    >>> list_name("lists/unsure.txt"), list_name("data.py#REFUSALS")
    ('unsure', 'REFUSALS')
    """
    if str(name_or_path) in SHIPPED:
        return str(name_or_path)
    path, variable = split_reference(name_or_path)
    return variable or path.stem


def load_patterns(name_or_path: str | Path) -> Patterns:
    """A shipped list by its name, or any text file: one pattern a line, blank lines and lines with `#` first skipped.

    A file's list takes the file's name without its ending. `FILE.py#NAME` is the list NAME that a Python file writes
    out, as it stands there; the file is not run.

    Raises:
        UsageError: Neither a shipped list nor a file.
        InvalidData: Not UTF-8, or without a single pattern.
    """
    if str(name_or_path) in SHIPPED:
        name = str(name_or_path)
        return _parse(name, resources.files("smidgen.assets").joinpath("patterns", f"{name}.txt").read_bytes())
    path, variable = split_reference(name_or_path)
    if path.is_file() and variable:
        return _checked(variable, tuple(text for _, text in read_literals(path, variable)), str(path))
    if not path.is_file():
        raise UsageError(
            f"expected a pattern list, got {str(name_or_path)!r}, which is neither shipped nor a file. "
            f"Take {', '.join(SHIPPED)}, or the path of a text file with one pattern a line."
        )
    return _parse(list_name(path), path.read_bytes(), str(path))


def load_pattern_lists(names_or_paths: Sequence[str | Path]) -> list[Patterns]:
    """Several lists, in the order given.

    Raises:
        UsageError: None given, or two of one name, whose results could not be told apart.
    """
    lists = [load_patterns(item) for item in names_or_paths]
    names = [patterns.name for patterns in lists]
    if not lists or len(set(names)) != len(names):
        raise UsageError(f"expected pattern lists of distinct names, got {names or 'none'}; rename a file.")
    return lists


def unfit(name: str, matched: Sequence[bool], *, n_patterns: int) -> str | None:
    """What is wrong with a list that tells no two answers apart, in a sentence; None where nothing is.

    Args:
        name: Of the list.
        matched: Whether each answer holds one of its patterns; at least one answer.
        n_patterns: How many it has.

    >>> unfit("mine", [True, False], n_patterns=3)
    """
    if 0 < sum(matched) < len(matched):
        return None
    which = "one of its" if any(matched) else "none of its"
    where = "every one" if any(matched) else "any"
    return (
        f"the pattern list {name!r} tells no two answers apart: {which} {n_patterns:,} patterns matched {where} of the "
        f"{len(matched):,} answers. Read some of them, and correct the list."
    )


def _parse(name: str, raw: bytes, path: str = "") -> Patterns:
    try:
        lines = raw.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InvalidData(
            f"{path or name}: expected a pattern list in UTF-8, got other bytes at {error.start}; save it as UTF-8."
        ) from None
    found = tuple(dict.fromkeys(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")))
    return _checked(name, found, path or name)


def _checked(name: str, found: tuple[str, ...], where: str) -> Patterns:
    if not found or not all(pattern.strip() for pattern in found):
        what = "an empty one, which every text matches" if found else "none"
        raise InvalidData(f"{where}: expected at least one pattern and none empty, got {what}. Write one a line.")
    return Patterns(name, found)


def _fold(text: str) -> str:
    return text.translate(_APOSTROPHES).casefold()
