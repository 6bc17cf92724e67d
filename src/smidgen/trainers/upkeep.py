"""What stands around a training, from transformers' arguments: the log's rows, checkpoints, trackers, measurements."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smidgen.errors import UsageError
from smidgen.training.checkpoints import Keep, last_good
from smidgen.training.processes import from_first, is_first
from smidgen.training.record import OnLog, Row
from smidgen.training.trackers import tracker

_STRATEGIES = ("no", "steps", "epoch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upkeep:
    """How often something happens beside the training, in optimiser steps.

    Attributes:
        log_every: From one row of the log to the next; the last step has one in any case.
        keep: Where checkpoints go, and how often; None for none.
        evaluate_every: From one measurement to the next; None for none.
    """

    log_every: int
    keep: Keep | None
    evaluate_every: int | None


def upkeep_of(args: Any, *, steps: int, steps_an_epoch: int) -> Upkeep:
    """What the arguments ask for.

    Args:
        args: transformers' TrainingArguments, or a configuration that extends them.
        steps: Of the whole training; a number of steps below 1 is a share of them, as transformers has it.
        steps_an_epoch: For the strategy "epoch".

    Raises:
        UsageError: A strategy that the loop does not have, or a number out of its range.
    """

    def every(name: str, wanted: float | None) -> int | None:
        strategy = str(getattr(getattr(args, name), "value", getattr(args, name)))
        if strategy not in _STRATEGIES:
            raise UsageError(f"unknown {name} {strategy!r}; expected one of: {', '.join(_STRATEGIES)}")
        if strategy == "no":
            return None
        if strategy == "epoch":
            return steps_an_epoch
        if not wanted or not wanted > 0:
            raise UsageError(f"expected steps above 0 for {name} 'steps', got {wanted}; give as many, or 'no'.")
        return math.ceil(wanted * steps) if wanted < 1 else int(wanted)

    save_every, keep = every("save_strategy", args.save_steps), None
    if save_every:
        # As transformers has it, without a limit all stay.
        most = sys.maxsize if args.save_total_limit is None else args.save_total_limit
        keep = Keep(folder=Path(args.output_dir) / "checkpoints", every_steps=save_every, most=most)
    return Upkeep(
        log_every=every("logging_strategy", args.logging_steps) or steps,
        keep=keep,
        evaluate_every=every("eval_strategy", args.eval_steps),
    )


def start_or_go_on(keep: Keep | None, resume: bool | None) -> None:
    """See that a training finds its checkpoints, or that one which starts anew finds none.

    Raises:
        UsageError: It is to go on, and there is nothing to go on from; or from a place of its own.
    """
    if resume not in (True, False, None):
        raise UsageError(
            f"expected resume_from_checkpoint True or False, got {resume!r}: checkpoints are in "
            "output_dir/checkpoints, and the newest whole one is taken. Give True."
        )
    there = from_first(bool(keep and is_first() and last_good(keep.folder)))
    if resume and not there:
        where = f"in {keep.folder}" if keep else "with save_strategy 'no'"
        raise UsageError(
            f"expected a checkpoint to go on from, found none {where}; leave resume_from_checkpoint out to start anew."
        )
    if keep and not resume and is_first():
        _move_aside(keep.folder)
    # The others wait until it is gone.
    from_first(None)


def _move_aside(folder: Path) -> None:
    if not folder.exists():
        return
    number = next(n for n in range(1, sys.maxsize) if not folder.with_name(f"{folder.name}.{n}").exists())
    aside = folder.rename(folder.with_name(f"{folder.name}.{number}"))
    warnings.warn(
        f"{folder} holds checkpoints of an earlier training and this one starts anew; they are moved to {aside}. "
        "To go on from them, give resume_from_checkpoint=True.",
        UserWarning,
        stacklevel=4,
    )


def unknown_trackers(args: Any) -> list[str]:
    """Names in `report_to` that no tracker here has; "all" asks for whatever is installed, other programs' too."""
    return [name for name in args.report_to or () if name not in tracker.names()]


@contextmanager
def told(args: Any) -> Iterator[OnLog]:
    """Yield what tells the trackers of `report_to` of a row; they write into `output_dir`.

    Raises:
        UsageError: A tracker whose package is not installed.
    """
    names = [name for name in args.report_to or () if name in tracker.names()] if is_first() else []
    settings = {name: value for name, value in args.to_dict().items() if isinstance(value, str | int | float)}
    with ExitStack() as stack:
        trackers = [stack.enter_context(tracker.get(name)(Path(args.output_dir), settings)) for name in names]

        def tell(row: Row) -> None:
            for one in trackers:
                one(row)

        yield tell
