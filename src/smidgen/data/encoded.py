"""Pairs as token ids: one of them, and a table of many that takes four bytes a token."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import nan
from typing import overload

TokenIds = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """A pair's token ids; answers end in end of text unless `answer_head` cut them.

    Attributes:
        chosen_score: An external reward of the chosen answer, from the data's column of this name; None without one.
        rejected_score: The same of the rejected answer.
        weight: How many times the pair's loss counts, from the column `weight`; None without one.
        group: Who prefers so, or what about, from the column `group`, as a number from 0: the groups of the pairs
            encoded together, in the order of their names. None without one.
    """

    idx: int
    prompt: TokenIds
    chosen: TokenIds
    rejected: TokenIds
    chosen_score: float | None = field(default=None, kw_only=True)
    rejected_score: float | None = field(default=None, kw_only=True)
    weight: float | None = field(default=None, kw_only=True)
    group: int | None = field(default=None, kw_only=True)


class EncodedTable(Sequence[EncodedPair]):
    """An immutable sequence of encoded pairs, each made anew when it is asked for.

    As objects a pair's tokens take eight bytes each and more, which a million pairs have no room for.

    Args:
        pairs: Read once; scores and weights must be finite.
    """

    __slots__ = ("_ends", "_groups", "_ids", "_idxs", "_numbers", "_one")

    def __init__(self, pairs: Iterable[EncodedPair] = ()) -> None:
        self._idxs, self._groups, self._ends = array("q"), array("q"), array("q", [0])
        self._ids, self._numbers = array("i"), array("d")
        for pair in pairs:
            self._idxs.append(pair.idx)
            self._groups.append(-1 if pair.group is None else pair.group)
            for ids in (pair.prompt, pair.chosen, pair.rejected):
                self._ids.extend(ids)
                self._ends.append(len(self._ids))
            for number in (pair.chosen_score, pair.rejected_score, pair.weight):
                self._numbers.append(nan if number is None else number)
        # Who keeps many pairs keeps one object an id.
        self._one: dict[int, int] = {}

    @property
    def idxs(self) -> list[int]:
        """Every pair's `idx`, in order."""
        return self._idxs.tolist()

    @overload
    def __getitem__(self, index: int) -> EncodedPair: ...
    @overload
    def __getitem__(self, index: slice) -> list[EncodedPair]: ...
    def __getitem__(self, index: int | slice) -> EncodedPair | list[EncodedPair]:
        if isinstance(index, slice):
            return [self._pair(row) for row in range(*index.indices(len(self)))]
        return self._pair(range(len(self))[index])

    def __len__(self) -> int:
        return len(self._idxs)

    def __iter__(self) -> Iterator[EncodedPair]:
        return map(self._pair, range(len(self)))

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    def _pair(self, row: int) -> EncodedPair:
        start, prompt_end, chosen_end, end = self._ends[3 * row : 3 * row + 4]
        chosen_score, rejected_score, weight = (
            None if number != number else number for number in self._numbers[3 * row : 3 * row + 3]
        )
        ids = self._ids[start:end]
        ids = tuple(map(self._one.setdefault, ids, ids))
        prompt_end, chosen_end = prompt_end - start, chosen_end - start
        return EncodedPair(
            self._idxs[row],
            ids[:prompt_end],
            ids[prompt_end:chosen_end],
            ids[chosen_end:],
            chosen_score=chosen_score,
            rejected_score=rejected_score,
            weight=weight,
            group=None if self._groups[row] < 0 else self._groups[row],
        )
