"""The only training loop: it steps an objective over batches, whatever the objective is."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from smidgen.errors import SmidgenError
from smidgen.models.load import DTYPES
from smidgen.pairs import random_key

# Batches are cut from windows of this many, sorted by length inside: little padding, order still random.
_WINDOW_BATCHES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a model is trained, whatever on.

    Attributes:
        learning_rate: Peak step size of AdamW.
        weight_decay: AdamW's decoupled decay.
        batch_size: Examples per optimiser step.
        epochs: Passes over the data, where `steps` is not given.
        steps: Optimiser steps; None for as many as `epochs` make.
        schedule: Of the learning rate after warm-up: "constant", or "linear" or "cosine" down to 0.
        warmup_steps: Linear rise of the learning rate from 0.
        max_grad_norm: Gradients are scaled down to this norm.
        dtype: Of the computation; weights and optimiser stay float32.
    """

    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    batch_size: int = 8
    epochs: float = 2.0
    steps: int | None = None
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: int = 0
    max_grad_norm: float = 1.0
    dtype: Literal["float32", "bfloat16"] = "float32"

    def total_steps(self, n_examples: int) -> int:
        """Optimiser steps on `n_examples`, at least one."""
        return self.steps or max(1, round(self.epochs * n_examples / self.batch_size))


@dataclass(frozen=True, slots=True)
class LossTerms:
    """What an objective returns: the scalar to minimise, and the tokens it was computed on."""

    loss: Tensor
    tokens: int


Objective = Callable[[nn.Module, Any], LossTerms]


@dataclass(slots=True)
class TrainingLog:
    """One row a logged step: step, loss, pairs_per_second, tokens_per_second, peak_memory_bytes."""

    rows: list[dict[str, float]] = field(default_factory=list)


def draw_batches(
    idxs: Sequence[int], lengths: Sequence[int], *, batch_size: int, steps: int, seed: int
) -> list[list[int]]:
    """Positions in batches for `steps` steps: every epoch a new order, drawn from (seed, epoch, idx) alone.

    Examples of like length share a batch (within windows of a few batches), and the batches of a window come in
    random order. The last batch of an epoch may be smaller.
    """
    batches: list[list[int]] = []
    window = batch_size * _WINDOW_BATCHES
    epoch = 0
    while len(batches) < steps:
        keys = [random_key(f"{seed}/{epoch}", idx) for idx in idxs]
        order = sorted(range(len(idxs)), key=keys.__getitem__)
        for start in range(0, len(order), window):
            part = sorted(order[start : start + window], key=lambda i: (lengths[i], keys[i]))
            cut = [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
            batches += sorted(cut, key=lambda batch: min(keys[i] for i in batch))
        epoch += 1
    return batches[:steps]


def train(
    model: nn.Module,
    objective: Objective,
    batches: Iterable[Any],
    *,
    recipe: Recipe,
    steps: int,
    log_every: int = 10,
    on_log: Callable[[dict[str, float]], None] | None = None,
) -> TrainingLog:
    """Step `objective` over `batches` with AdamW; the weights of `model` change in place.

    Args:
        batches: One element a step, anything with a length in examples; may be lazy.
        steps: How many there will be; the schedule needs to know.
        log_every: Steps between log rows; the loss of a row is the mean since the row before.
        on_log: Called with every row as it is made.

    Raises:
        SmidgenError: The loss is not finite.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    device = parameters[0].device
    optimizer = torch.optim.AdamW(
        parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=device.type in ("cpu", "cuda")
    )
    scale = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _learning_rate_scale(step, steps, recipe))
    compute = (
        nullcontext()
        if recipe.dtype == "float32"
        else torch.autocast(device.type, dtype=DTYPES[recipe.dtype], cache_enabled=True)
    )
    log = TrainingLog()
    # Losses are only read when a row is logged, so that no step waits for the device.
    pending: list[Tensor] = []
    examples = tokens = 0
    started = time.perf_counter()
    for step, batch in enumerate(batches, start=1):
        with compute:
            terms = objective(model, batch)
        terms.loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, recipe.max_grad_norm)
        optimizer.step()
        scale.step()
        optimizer.zero_grad(set_to_none=True)
        pending.append(terms.loss.detach())
        examples, tokens = examples + len(batch), tokens + terms.tokens
        if step % log_every == 0 or step == steps:
            seconds = time.perf_counter() - started
            row = _log_row(step, pending, examples / seconds, tokens / seconds, device)
            log.rows.append(row)
            if on_log:
                on_log(row)
            pending, examples, tokens, started = [], 0, 0, time.perf_counter()
    return log


def _log_row(
    step: int, losses: list[Tensor], pairs_per_second: float, tokens_per_second: float, device: torch.device
) -> dict[str, float]:
    loss = float(torch.stack(losses).mean())
    if not math.isfinite(loss):
        raise SmidgenError(
            f"the loss is {loss} at step {step}; expected a finite number. Lower the learning rate, or use float32."
        )
    return {
        "step": step,
        "loss": loss,
        "pairs_per_second": pairs_per_second,
        "tokens_per_second": tokens_per_second,
        "peak_memory_bytes": _peak_memory(device),
    }


def _learning_rate_scale(step: int, steps: int, recipe: Recipe) -> float:
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    done = (step - recipe.warmup_steps) / max(1, steps - recipe.warmup_steps)
    if recipe.schedule == "linear":
        return max(0.0, 1 - done)
    if recipe.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return 1.0


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
