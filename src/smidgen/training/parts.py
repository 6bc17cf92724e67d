"""A step's examples in parts, and ever smaller parts where the memory of the device does not suffice."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

import torch
import torch.distributed as dist

from smidgen.errors import SmidgenError
from smidgen.training.recipe import Recipe

R = TypeVar("R")


class Batch(Protocol):
    """What an objective takes at once, a dataclass: a step's examples, or a part of them.

    A tensor `idx` beside, one number an example, makes messages name the examples.

    Attributes:
        weight: How many units the objective's mean is over: pairs, or tokens.
    """

    @property
    def weight(self) -> float: ...

    def __len__(self) -> int:
        """How many examples."""
        ...


Part = TypeVar("Part", bound=Batch)


@dataclass(frozen=True, slots=True)
class Parts(Generic[Part]):
    """A step's examples, which become batches when they are asked for, and smaller ones on demand.

    Attributes:
        groups: The examples of each part.
        lengths: Of all examples, tokens.
        collate: Makes a batch of some examples.
        is_silent: Whether they are stand-ins, which count nothing in the step's mean.
    """

    groups: list[list[int]]
    lengths: Sequence[int]
    collate: Callable[[list[int]], Part]
    is_silent: bool = False

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[Part]:
        for group in self.groups:
            part = self.collate(group)
            yield silent(part) if self.is_silent else part

    def most_tokens(self) -> int:
        """Of the largest part."""
        return max(sum(self.lengths[i] for i in group) for group in self.groups)

    def within(self, most_tokens: int) -> Parts[Part]:
        """The same examples in parts of at most so many tokens."""
        examples = [i for group in self.groups for i in group]
        return replace(self, groups=split_by_tokens(examples, self.lengths, most_tokens))


def silent(part: Part) -> Part:
    """The same with nothing to say: it counts nothing in the mean."""
    return replace(part, weight=0.0)  # pyright: ignore[reportArgumentType]


def split_by_tokens(examples: Sequence[int], lengths: Sequence[int], most_tokens: int) -> list[list[int]]:
    """A step's examples in parts of at most `most_tokens` tokens, in order; a longer example is a part alone."""
    parts: list[list[int]] = []
    size = 0
    for i in examples:
        if not parts or size + lengths[i] > most_tokens:
            parts.append([])
            size = 0
        parts[-1].append(i)
        size += lengths[i]
    return parts


def step_parts(
    examples: list[int], lengths: Sequence[int], recipe: Recipe, collate: Callable[[list[int]], Part]
) -> Parts[Part]:
    """What this process computes of a step, in parts: all of it, or every so many'th example where several train."""
    world = dist.get_world_size() if dist.is_initialized() else 1
    mine = examples[dist.get_rank() :: world] if world > 1 else examples
    if not mine:
        # A process without examples still takes part in the exchange of gradients.
        return Parts([examples[:1]], lengths, collate, is_silent=True)
    return Parts(split_by_tokens(mine, lengths, recipe.micro_batch_tokens), lengths, collate)


def in_memory(
    compute: Callable[[Iterable[Any]], R],
    parts: Iterable[Batch],
    *,
    start_anew: Callable[[], None],
) -> tuple[R, int | None]:
    """Compute a step, in halves of its largest part where the device's memory is exhausted, and halves of these.

    The step begins anew each time, so that the result is that of a step which was in such parts from the start.

    Args:
        compute: Takes the parts.
        parts: `Parts`, or batches that cannot be parted.
        start_anew: Undoes what an attempt has left.

    Returns:
        What was computed, and the most tokens that a part may have from now on; None where these parts did.

    Raises:
        SmidgenError: Memory does not suffice for one example; or several processes train, which exchange gradients
            and so cannot begin anew each by itself.
    """
    most_tokens = None
    while True:
        said = ""
        try:
            return compute(parts), most_tokens
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not _is_exhausted(error):
                raise
            said = str(error).partition("\n")[0]
        # Outside of the handler, whose traceback holds on to what was computed.
        start_anew()
        most_tokens = _half(parts, said)
        assert isinstance(parts, Parts)
        parts = parts.within(most_tokens)
        warnings.warn(
            f"the memory of the device did not suffice for a step's largest part ({said}); from here on parts have at "
            f"most {most_tokens:,} tokens, as with --micro-batch-tokens {most_tokens}",
            stacklevel=2,
        )


def _is_exhausted(error: Exception) -> bool:
    """Also where it is the processor's memory, of which PyTorch has no exception of its own."""
    words = ("can't allocate memory", "out of memory", "bad_alloc")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(word in str(error) for word in words)


def _half(parts: Iterable[Batch], said: str) -> int:
    """Half the tokens of the largest part; SmidgenError where there is none."""
    tokens = parts.most_tokens() if isinstance(parts, Parts) else 0
    # Fewer, where one example alone has twice the tokens that the others' parts may have.
    single = not isinstance(parts, Parts) or len(parts.within(max(1, tokens // 2))) <= len(parts)
    several = dist.is_initialized() and dist.get_world_size() > 1
    if single or several:
        what = "for one example" if single else "in each of several processes for a part"
        do = "--max-length, --lora-rank, --gradient-checkpointing or a smaller model"
        if several and not single:
            do = f"--micro-batch-tokens {tokens // 2}, or one of {do}"
        raise SmidgenError(f"expected memory {what} of {tokens:,} tokens, got too little: {said}. Give {do}.")
    return tokens // 2
