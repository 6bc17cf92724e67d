"""What everything is made of: a preference pair, and a table of pairs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; `role` is "system", "user" or "assistant"."""

    role: str
    content: str


Messages = tuple[Message, ...]


def messages_from(text: str, role: str) -> Messages:
    """Wrap a plain text as the one message of `role` that it is."""
    return (Message(role, text),)


def text_of(messages: Messages) -> str:
    """A conversation as it stood in the data: plain text for one plain turn, else a JSON list of messages."""
    if len(messages) == 1 and messages[0].role in ("user", "assistant"):
        return messages[0].content
    return json.dumps(as_turns(messages), ensure_ascii=False)


def as_turns(messages: Messages) -> list[dict[str, str]]:
    """A conversation as JSON has it: a list of objects with role and content."""
    return [{"role": m.role, "content": m.content} for m in messages]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferencePair:
    """A prompt with the answer people preferred and the one they did not.

    Attributes:
        idx: Position in the full dataset as loaded, after concatenating sources. Never changes.
        source: Where the pair came from, for example a file's name or the dataset's own `source` column.
        source_row: Zero-based row within that source.
        meta: Further columns as loaded. Selectors never see them.
    """

    idx: int
    prompt: Messages
    chosen: Messages
    rejected: Messages
    source: str = ""
    source_row: int = -1
    meta: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def prompt_text(self) -> str:
        return text_of(self.prompt)

    @property
    def chosen_text(self) -> str:
        return text_of(self.chosen)

    @property
    def rejected_text(self) -> str:
        return text_of(self.rejected)


def plain_pair(idx: int, prompt: str, chosen: str, rejected: str, **rest: Any) -> PreferencePair:
    """A single-turn pair from three plain texts.

    >>> plain_pair(0, "Hi", "Hello.", "Go away.").chosen_text
    'Hello.'
    """
    return PreferencePair(
        idx=idx,
        prompt=messages_from(prompt, "user"),
        chosen=messages_from(chosen, "assistant"),
        rejected=messages_from(rejected, "assistant"),
        **rest,
    )


class PairTable(Sequence[PreferencePair]):
    """An immutable sequence of pairs with distinct `idx`, and look-up by it.

    Raises:
        ValueError: Two pairs share an `idx`.
    """

    __slots__ = ("_pairs", "_position")

    def __init__(self, pairs: Iterable[PreferencePair]) -> None:
        self._pairs = tuple(pairs)
        self._position = {pair.idx: i for i, pair in enumerate(self._pairs)}
        if len(self._position) != len(self._pairs):
            raise ValueError("pairs must have distinct idx; quarantine duplicates with data.checks first")

    @overload
    def __getitem__(self, index: int) -> PreferencePair: ...
    @overload
    def __getitem__(self, index: slice) -> PairTable: ...
    def __getitem__(self, index: int | slice) -> PreferencePair | PairTable:
        return PairTable(self._pairs[index]) if isinstance(index, slice) else self._pairs[index]

    def __len__(self) -> int:
        return len(self._pairs)

    def __iter__(self) -> Iterator[PreferencePair]:
        return iter(self._pairs)

    @property
    def idxs(self) -> list[int]:
        """Every pair's `idx`, in table order."""
        return [pair.idx for pair in self._pairs]

    def by_idx(self, idx: int) -> PreferencePair:
        """The pair whose `idx` this is; KeyError where there is none."""
        return self._pairs[self._position[idx]]

    def take(self, idxs: Iterable[int]) -> PairTable:
        """The pairs of these `idx`, in the order given."""
        return PairTable(self.by_idx(int(idx)) for idx in idxs)


def random_key(seed: int | str, idx: int) -> int:
    """A pair's lot in a draw: depends on seed and `idx` alone, so the order of rows never matters (64 bits)."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{idx}".encode(), digest_size=8).digest(), "big")
