"""Checkpoints of a training: whole or not there, never pickled, and a training that goes on from one ends the same.

A checkpoint is a folder `step-N` with the trained weights and the optimiser's state in safetensors, everything else in
JSON, and a mark that says of every file what it must contain. Batches follow from the seed, so their position is N.
"""

from __future__ import annotations

import json
import re
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from smidgen.errors import SmidgenError, UsageError
from smidgen.runs import atomic_folder, file_hash, read_json, remove_folder, write_json
from smidgen.training.processes import from_first, is_first, like, whole, world_size
from smidgen.training.record import Record

WEIGHTS, OPTIMIZER, STATE, MARK = "weights.safetensors", "optimizer.safetensors", "state.json", "complete.json"
# Without a number of steps, checkpoints come by the clock: not within so many seconds, nor for more of the time.
_CALM_SECONDS = 60.0
_MOST_OF_THE_TIME = 0.02
# Several processes go by the first one's clock, and so ask it now and then only.
_ASK_EVERY = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """That a training writes checkpoints, and goes on from the last good one that it finds.

    Attributes:
        folder: Of this training's checkpoints and no other's; made with the first one.
        every_steps: Optimiser steps from one to the next; None for by the clock, at most once a minute and taking at
            most 2 % of the time.
        most: So many of the newest stay.
        at: Whether there may be one after a step, counted from 1; None for after every step. Where there may not, it
            waits for the next step where there may.

    Raises:
        UsageError: A number below 1.
    """

    folder: Path
    every_steps: int | None = None
    most: int = 2
    at: Callable[[int], bool] | None = None

    def __post_init__(self) -> None:
        for name in ("every_steps", "most"):
            value = getattr(self, name)
            if value is not None and not value >= 1:
                raise UsageError(f"expected {name} of at least 1, got {value}; leave it out for its default.")


@dataclass(slots=True)
class Moving:
    """All that a training changes from step to step.

    Attributes:
        step: How many were made.
        most_tokens: Of a part of a step, where memory did not suffice for more; None where it always has.
    """

    parameters: Mapping[str, Tensor]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    record: Record
    step: int = 0
    most_tokens: int | None = None


class Keeper:
    """Writes and reads one training's checkpoints.

    Args:
        identity: JSON-able; what a training must have in common with a checkpoint to go on from it.
    """

    def __init__(self, keep: Keep, moving: Moving, identity: Mapping[str, Any]) -> None:
        self._keep, self._moving = keep, moving
        self._identity = json.loads(json.dumps(identity))
        self._saved_at = 0
        self._next = time.perf_counter() + _CALM_SECONDS

    def resume(self) -> None:
        """Put everything back as the last good checkpoint has it; nothing happens where there is none.

        Raises:
            UsageError: The checkpoint is another training's.
        """
        if is_first():
            for left in self._keep.folder.glob(".step-*"):
                shutil.rmtree(left)
        folder = from_first(last_good(self._keep.folder) if is_first() else None)
        if folder is None:
            return
        state = read_json(folder / STATE)
        if state["identity"] != self._identity:
            names = [k for k in self._identity if self._identity[k] != state["identity"].get(k)]
            raise UsageError(
                f"{folder} is of a training with other {', '.join(names)}; expected the same to go on from it. "
                "Give another folder, or move that one away."
            )
        moving = self._moving
        _put_back(moving, load_file(folder / WEIGHTS), load_file(folder / OPTIMIZER))
        moving.scaler.load_state_dict(state["scaler"])
        moving.record.restore(state["record"])
        moving.step = self._saved_at = state["step"]
        # Checkpoints of an earlier version have none.
        moving.most_tokens = state.get("most_tokens")

    def due(self) -> bool:
        """Whether to save after the step that was just made; the same in every process."""
        step, keep = self._moving.step, self._keep
        if keep.at and not keep.at(step):
            return False
        if keep.every_steps:
            return step - self._saved_at >= keep.every_steps
        if world_size() == 1:
            return time.perf_counter() >= self._next
        return (keep.at is not None or step % _ASK_EVERY == 0) and from_first(time.perf_counter() >= self._next)

    def save(self) -> None:
        """Write a checkpoint of the step that was just made, and remove those that are too many.

        Raises:
            NotFinite: A loss or gradient is not; then nothing is written.
        """
        started, moving = time.perf_counter(), self._moving
        moving.record.check()
        weights = _gathered(moving.parameters.items())
        optimizer = _gathered(
            (f"{key}/{name}", value)
            for name, p in moving.parameters.items()
            for key, value in moving.optimizer.state[p].items()
        )
        state = {
            "identity": self._identity,
            "step": moving.step,
            "most_tokens": moving.most_tokens,
            "scaler": moving.scaler.state_dict(),
            "record": moving.record.state(),
        }
        if is_first():
            self._write(weights, optimizer, state)
        self._saved_at = moving.step
        spent = time.perf_counter() - started
        self._next = time.perf_counter() + max(_CALM_SECONDS, spent / _MOST_OF_THE_TIME)

    def _write(self, weights: dict[str, Tensor], optimizer: dict[str, Tensor], state: dict[str, Any]) -> None:
        with atomic_folder(self._keep.folder / f"step-{state['step']}") as part:
            save_file(weights, part / WEIGHTS)
            save_file(optimizer, part / OPTIMIZER)
            write_json(part / STATE, state)
            write_json(part / MARK, {name: file_hash(part / name) for name in (WEIGHTS, OPTIMIZER, STATE)})
        for _, old in _numbered(self._keep.folder)[self._keep.most :]:
            remove_folder(old)

    def last(self) -> Path | None:
        """The newest good checkpoint."""
        return last_good(self._keep.folder)


def last_good(folder: Path) -> Path | None:
    """The newest checkpoint in a folder that is whole; those passed over are named in a warning each."""
    for _, checkpoint in _numbered(folder):
        wrong = _what_is_wrong(checkpoint)
        if not wrong:
            return checkpoint
        warnings.warn(f"{checkpoint} is passed over, being no whole checkpoint: {wrong}", stacklevel=2)
    return None


def _numbered(folder: Path) -> list[tuple[int, Path]]:
    """Step and folder of everything that is named as a checkpoint, newest first."""
    found = [(re.fullmatch(r"step-(\d+)", path.name), path) for path in folder.glob("step-*")]
    return sorted(((int(match[1]), path) for match, path in found if match), reverse=True)


def _what_is_wrong(checkpoint: Path) -> str:
    """Nothing, for a checkpoint whose every file is what its mark says."""
    try:
        mark = read_json(checkpoint / MARK)
        for name in (WEIGHTS, OPTIMIZER, STATE):
            if file_hash(checkpoint / name) != mark[name]:
                return f"{name} is not what was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, KeyError, TypeError):
        return f"{MARK} cannot be read"
    return ""


def _gathered(tensors: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Whole, on the processor, as a file can hold them; one by one, and nothing stays with who does not write."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors:
        put_together = whole(tensor.detach())
        if is_first():
            found[name] = put_together.cpu().contiguous()
    return found


@torch.no_grad()
def _put_back(moving: Moving, weights: Mapping[str, Tensor], optimizer: Mapping[str, Tensor]) -> None:
    if {name: tuple(p.shape) for name, p in moving.parameters.items()} != {
        n: tuple(t.shape) for n, t in weights.items()
    }:
        raise SmidgenError(
            "expected a checkpoint of the weights that are trained, got one with other names or shapes; "
            "give the model that the training started from, or another folder."
        )
    for name, parameter in moving.parameters.items():
        parameter.copy_(like(parameter, weights[name]))
    for key_and_name, values in optimizer.items():
        key, _, name = key_and_name.partition("/")
        parameter = moving.parameters[name]
        # A count of steps is one number for all shards.
        kept = values.to(parameter.device) if not values.ndim else like(parameter, values)
        moving.optimizer.state[parameter][key] = kept
