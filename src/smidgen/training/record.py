"""What a training says of itself: rows of its log, and which batch it was when a loss is no number."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from smidgen.errors import SmidgenError
from smidgen.training.processes import from_all, is_first, world_size

Row = dict[str, float]
OnLog = Callable[[Row], None]

_NAMED_EXAMPLES = 32


@dataclass(slots=True)
class TrainingLog:
    """What a training tells.

    Attributes:
        rows: One a logged step: step, loss, pairs_per_second, tokens_per_second, peak_memory_bytes.
        resumed_at: Steps that had been made when this call went on from a checkpoint; 0 for one that started anew.
    """

    rows: list[Row] = field(default_factory=list)
    resumed_at: int = 0


class NotFinite(SmidgenError):
    """A loss or gradient became infinite or no number at all."""


@dataclass(slots=True)
class _Step:
    """What one step leaves behind, on the device until somebody asks: idx of its examples, one tensor a part."""

    number: int
    loss: Tensor
    norm: Tensor | None
    idx: list[Tensor]


class Record:
    """The log so far, and the steps since its last row, whose losses nobody has looked at yet.

    Losses are read when a row is made or a checkpoint is due, so that no step waits for the device.
    """

    def __init__(self, device: torch.device) -> None:
        self.log = TrainingLog()
        self.device = device
        self._losses: list[Tensor] = []
        self._unchecked: list[_Step] = []
        self._examples = self._tokens = 0
        self._started = time.perf_counter()

    def add(self, step: int, loss: Tensor, norm: Tensor | None, idx: list[Tensor], examples: int, tokens: int) -> None:
        """Note a step.

        Args:
            loss: This process's share of the step's mean loss, times the number of processes.
            norm: Of the gradient, before clipping; None where an infinite one is no fault, as with scaled losses.
            idx: Of the step's examples, one tensor a part; empty where they are not known.
        """
        self._losses.append(loss)
        self._unchecked.append(_Step(step, loss, norm, idx))
        self._examples, self._tokens = self._examples + examples, self._tokens + tokens

    def row(self, step: int) -> Row:
        """Make the row of a step: the mean loss, and the speed, since the row before.

        Raises:
            NotFinite: One of the losses or gradients since then is not.
        """
        seconds = time.perf_counter() - self._started
        mean, examples, tokens = self._checked(torch.stack(self._losses).mean(), self._examples, self._tokens)
        row = {
            "step": step,
            "loss": mean,
            "pairs_per_second": examples / seconds,
            "tokens_per_second": tokens / seconds,
            "peak_memory_bytes": _peak_memory(self.device),
        }
        self.log.rows.append(row)
        self._losses, self._examples, self._tokens = [], 0, 0
        return row

    def start_clock(self) -> None:
        """Count the next row's seconds from now."""
        self._started = time.perf_counter()

    def check(self) -> None:
        """Raise where a loss or gradient since the last look is not finite.

        Raises:
            NotFinite: Which batch it was.
        """
        if self._unchecked:
            self._checked(torch.stack(self._losses).sum(), 0, 0)

    def _checked(self, loss: Tensor, examples: int, tokens: int) -> tuple[float, float, float]:
        norms = [step.norm for step in self._unchecked if step.norm is not None]
        norm = float(torch.stack(norms).sum()) if norms else 0.0
        found = torch.tensor([float(loss), norm, examples, tokens], dtype=torch.float64, device=self.device)
        if dist.is_initialized():
            # Each process knows its share of the loss, times their number.
            dist.all_reduce(found)
            found[0] /= world_size()
        mean, norm, all_examples, all_tokens = found.tolist()
        if not (math.isfinite(mean) and math.isfinite(norm)):
            raise NotFinite(_complaint(self._unchecked))
        self._unchecked = []
        return mean, all_examples, all_tokens

    def state(self) -> dict[str, Any]:
        """What JSON can hold of it, all losses being finite; the shares of several processes are put together."""
        losses = torch.stack(self._losses) if self._losses else torch.zeros(0, device=self.device)
        counts = torch.tensor([self._examples, self._tokens], dtype=torch.float64, device=self.device)
        if dist.is_initialized():
            dist.all_reduce(losses)
            dist.all_reduce(counts)
            losses /= world_size()
        examples, tokens = map(int, counts.tolist())
        return {
            "rows": self.log.rows,
            "losses": {"dtype": str(losses.dtype).removeprefix("torch."), "values": losses.tolist()},
            "examples": examples,
            "tokens": tokens,
            "seconds": time.perf_counter() - self._started,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state; of several processes, the first takes over what all of them had counted."""
        mine = int(is_first())
        dtype = getattr(torch, state["losses"]["dtype"])
        losses = torch.tensor(state["losses"]["values"], dtype=dtype, device=self.device)
        self.log.rows = list(state["rows"])
        self._losses = list((losses * mine * world_size()).unbind())
        self._examples, self._tokens = state["examples"] * mine, state["tokens"] * mine
        self._started = time.perf_counter() - state["seconds"]


def _complaint(steps: Sequence[_Step]) -> str:
    """Names the first step that went wrong; each of several processes knows only its own share of it."""
    wrong = [s for s in steps if not s.loss.isfinite() or (s.norm is not None and not s.norm.isfinite())]
    number = min(from_all(wrong[0].number if wrong else steps[-1].number))
    step = next(s for s in steps if s.number == number)
    shares = from_all((float(step.loss), [i for part in step.idx for i in part.tolist()]))
    losses = [loss for loss, _ in shares if not math.isfinite(loss)]
    what = f"loss, got {[*losses, math.inf][0]}"
    if not losses and step.norm is not None:
        what = f"gradient, got a norm of {float(step.norm)}"
    idx = sorted(i for _, of_process in shares for i in of_process)
    shown = ", ".join(map(str, idx[:_NAMED_EXAMPLES])) + (", …" if len(idx) > _NAMED_EXAMPLES else "")
    batch = f", on the examples with idx {shown}" if idx else ""
    return f"expected a finite {what} at step {number}{batch}. Lower the learning rate, use float32, or look at these."


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
