"""Prompts inside frames: every prompt in every frame, one row each, and means that know which rows belong together.

A frame is what stands around a prompt: a jailbreak template, a persona, a stated liking. Rows of one prompt are no
independent draws, so frames are averaged within a prompt before anything is said of its uncertainty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import numpy as np
from jaxtyping import Float

from smidgen.data.templates import Template
from smidgen.data.tokens import TokenIds, tokenise
from smidgen.errors import InvalidData, UsageError
from smidgen.evaluation.statistics import Interval, mean_over_prompts
from smidgen.models.generate import generate
from smidgen.models.load import LanguageModel
from smidgen.pairs import Message, Messages, random_key

# The set of the prompts as they stand, in no frame.
PLAIN = "plain"
_LEAST_ANSWER_TOKENS = 8


class Framing(Protocol):
    """What a benchmark needs to know of a frame; `synthesis.task.Frame` is one."""

    @property
    def name(self) -> str: ...
    @property
    def marks(self) -> tuple[str, ...]: ...
    @property
    def breaks(self) -> tuple[str, ...]: ...
    @property
    def stance(self) -> Literal["likes", "dislikes", "neutral"] | None: ...

    def around(self, prompt: str) -> str: ...


Frames = Mapping[str, Sequence[Framing]]


@dataclass(frozen=True, slots=True)
class Measure:
    """One number for each prompt, averaged over the frames of a set.

    Attributes:
        values: In the order of the prompts, float64.
        least: No value can be below.
        most: No value can be above.
    """

    values: Float[np.ndarray, " prompts"]
    least: float = -np.inf
    most: float = np.inf

    def __sub__(self, other: Measure) -> Measure:
        """The difference, prompt by prompt."""
        if len(self.values) != len(other.values):
            raise ValueError(f"expected the same prompts, got {len(self.values)} and {len(other.values)}.")
        return Measure(self.values - other.values, self.least - other.most, self.most - other.least)

    def interval(self, confidence: float = 0.95) -> Interval:
        """Its mean, with a t interval over prompts."""
        return mean_over_prompts(self.values, confidence=confidence, least=self.least, most=self.most)


# By set of frames, by name.
Measures = Mapping[str, Mapping[str, Measure]]

Row = TypeVar("Row")


def share(values: Float[np.ndarray, " prompts"]) -> Measure:
    """A measure within [0, 1]."""
    return Measure(values, 0.0, 1.0)


def of_sets(frames: Frames, names: Sequence[str]) -> Frames:
    """The sets of these names; all where none is named.

    Raises:
        UsageError: A name that is none of a set; lists them.
    """
    if unknown := [name for name in names if name not in frames]:
        raise UsageError(f"unknown set of frames {unknown[0]!r}; expected one of: {', '.join(frames)}.")
    return {name: frames[name] for name in names} if names else frames


def placed(frames: Frames, prompts: Sequence[str]) -> Iterator[tuple[str, Framing, int]]:
    """Set, frame and prompt's position of every row: set by set, frame by frame."""
    for name, members in frames.items():
        for frame in members:
            yield from ((name, frame, i) for i in range(len(prompts)))


def some_prompts(prompts: Sequence[str], n: int) -> list[str]:
    """At most `n` prompts in their order, chosen by a hash: more are these and others, whatever the order."""
    keys = {i: random_key(prompt, 0) for i, prompt in enumerate(prompts)}
    return [prompts[i] for i in sorted(sorted(keys, key=lambda i: (keys[i], i))[:n])]


def encode_turns(
    lm: LanguageModel, template: Template, system: str, turns: Sequence[str], *, room: int = _LEAST_ANSWER_TOKENS
) -> list[TokenIds]:
    """Token ids of conversations of one user's turn, under a system turn where that is not empty.

    Raises:
        InvalidData: A turn that leaves fewer than `room` of the model's positions to answer in.
    """
    texts = [template.prompt(_conversation(system, turn)) for turn in turns]
    ids = tokenise(texts, template, lm.tokenizer, opens=True)
    if long := [i for i, row in enumerate(ids) if len(row) > lm.max_positions - room]:
        raise InvalidData(
            f"expected prompts that in their frames leave {room} of the model's {lm.max_positions} positions to answer "
            f"in, got {len(long)} that do not, the first {turns[long[0]][:60]!r}. Shorten them, or leave them out."
        )
    return ids


def answers(
    lm: LanguageModel, template: Template, system: str, turns: Sequence[str], *, max_new_tokens: int
) -> list[str]:
    """Greedy answers to conversations of one user's turn."""
    ids = encode_turns(lm, template, system, turns, room=min(max_new_tokens, _LEAST_ANSWER_TOKENS))
    written = generate(lm, ids, max_new_tokens=max_new_tokens)
    texts = [
        lm.tokenizer.decode(list(t), skip_special_tokens=True, clean_up_tokenization_spaces=False) for t in written
    ]
    return [text if isinstance(text, str) else "".join(text) for text in texts]


def by_set(rows: Sequence[Row], set_of: Callable[[Row], str]) -> dict[str, list[Row]]:
    """Rows by the set of their frame, sets in the order in which they first come."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(set_of(row), []).append(row)
    return found


def mean_by_prompt(indices: Sequence[int], values: Sequence[float]) -> Float[np.ndarray, " prompts"]:
    """The mean of each prompt's values, in the order of the prompts' indices."""
    _, place, counts = np.unique(np.asarray(indices, int), return_inverse=True, return_counts=True)
    return np.bincount(place, np.asarray(values, np.float64)) / counts


def check_prompts(**lists: Sequence[str]) -> None:
    """InvalidData for a list of fewer than two prompts, over which there is no interval."""
    for name, prompts in lists.items():
        if len(prompts) < 2:
            raise InvalidData(f"expected at least two {name}, got {len(prompts)}; an interval is over prompts.")


def summarize(measures: Measures, *, confidence: float = 0.95) -> dict[str, dict[str, dict[str, float]]]:
    """Each measure's mean, low, high and n, its number of prompts; by set, by name."""
    return {
        name: {
            measure: {**found.interval(confidence).as_dict(), "n": len(found.values)}
            for measure, found in members.items()
        }
        for name, members in measures.items()
    }


def differences(after: Measures, before: Measures) -> Measures:
    """After minus before, prompt by prompt."""
    return {name: {m: found - before[name][m] for m, found in members.items()} for name, members in after.items()}


def _conversation(system: str, turn: str) -> Messages:
    user = Message("user", turn)
    return (Message("system", system), user) if system else (user,)
