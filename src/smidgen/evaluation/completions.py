"""Completions: what one model wrote after each of a list of prompts, a letter each: A, B, C."""

from __future__ import annotations

from dataclasses import dataclass, field

from smidgen.errors import InvalidData
from smidgen.pairs import Scalar


@dataclass(frozen=True, slots=True)
class Completed:
    """A prompt and what a model wrote after it.

    Attributes:
        prompt: As it stood in its file.
        texts: At least one; the first is A, the second B.
        cut: For each of them, whether the limit of tokens ended it; empty where nobody knows.
    """

    prompt: str
    texts: tuple[str, ...]
    cut: tuple[bool, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Completions:
    """One model's completions of a list of prompts.

    Attributes:
        model: Its name, for people: the last part of its path or hub name.
        rows: In the order of the prompts; the first is number 1.
        label: What a completion is called in text files: `COMPLETION 1-A`.
        meta: How they were drawn (seed, temperature and the like), where that is known.

    Raises:
        InvalidData: No prompt, or prompts with different numbers of completions.
    """

    model: str
    rows: tuple[Completed, ...]
    label: str = "COMPLETION"
    meta: dict[str, Scalar] = field(default_factory=dict)

    def __post_init__(self) -> None:
        counts = {len(row.texts) for row in self.rows}
        if len(counts) != 1 or 0 in counts:
            raise InvalidData(
                f"completions of {self.model}: expected the same number for every prompt, at least one, got "
                f"{', '.join(map(str, sorted(counts))) or 'no prompt'}. Complete the file, or write it anew."
            )

    @property
    def n_cut(self) -> int:
        """Completions that ended only because they were as long as allowed."""
        return sum(sum(row.cut) for row in self.rows)

    @property
    def n_letters(self) -> int:
        """Completions a prompt."""
        return len(self.rows[0].texts)


def letter(position: int) -> str:
    """The name of a prompt's completion: A for the first (position 0), Z for the 26th, then AA.

    >>> [letter(i) for i in (0, 2, 25, 26, 52)]
    ['A', 'C', 'Z', 'AA', 'BA']
    """
    name = ""
    position += 1
    while position:
        position, digit = divmod(position - 1, 26)
        name = chr(ord("A") + digit) + name
    return name
