"""The only training loop: it steps an objective over batches, whatever the objective is."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from smidgen.errors import SmidgenError, UsageError
from smidgen.models.adapters import adapted
from smidgen.models.load import LanguageModel, checkpointed, computing_dtype
from smidgen.models.logprobs import computing_in
from smidgen.pairs import random_key

# Batches are cut from windows of this many, sorted by length inside: little padding, order still random.
_WINDOW_BATCHES = 8
_POSITIVE = ("learning_rate", "batch_size", "epochs", "steps", "max_grad_norm", "micro_batch_tokens", "lora_alpha")


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
        dtype: Of the computation; weights and optimiser stay float32, and float16 has its losses scaled. "auto" takes
            what the device is fastest in: bfloat16, float16 on a GPU without it, float32 on a processor without it
            (where float16 is slowest of all).
        micro_batch_tokens: A step with more tokens is computed in parts, its gradients added up.
        gradient_checkpointing: Keep each layer's input only and compute the layer again in the backward pass.
        lora_rank: Train low-rank adapters of this rank and fold them in at the end; 0 trains all weights.
        lora_alpha: Adapters are scaled by alpha / rank; None for twice the rank.

    Raises:
        UsageError: A number out of its range.
    """

    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    batch_size: int = 8
    epochs: float = 2.0
    steps: int | None = None
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: int = 0
    max_grad_norm: float = 1.0
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    micro_batch_tokens: int = 16384
    gradient_checkpointing: bool = False
    lora_rank: int = 0
    lora_alpha: float | None = None

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"expected {name} above 0, got {value}; leave it out for its default.")
        for name in ("weight_decay", "warmup_steps", "lora_rank"):
            value = getattr(self, name)
            if not value >= 0:
                raise UsageError(f"expected {name} of at least 0, got {value}; leave it out for its default.")
        if self.lora_alpha is not None and not self.lora_rank:
            raise UsageError(f"expected a lora_rank with lora_alpha {self.lora_alpha}, got 0; give both or neither.")

    def total_steps(self, n_examples: int) -> int:
        """Optimiser steps on `n_examples`, at least one."""
        return self.steps or max(1, round(self.epochs * n_examples / self.batch_size))


class Batch(Protocol):
    """What an objective takes at once, a dataclass: a step's examples, or a part of them.

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
class LossTerms:
    """What an objective returns: the scalar to minimise, a mean, and the tokens it was computed on."""

    loss: Tensor
    tokens: int


Objective = Callable[[nn.Module, Any], LossTerms]
# Called with the optimiser and the step's number, from 1, once the weights have moved.
OnStep = Callable[[torch.optim.Optimizer, int], None]


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


@contextmanager
def trainable(lm: LanguageModel, recipe: Recipe, seed: int) -> Iterator[None]:
    """Inside, `lm` is as the recipe trains it: layers checkpointed, an adapter in it that is folded in at the end."""
    with ExitStack() as stack:
        if recipe.lora_rank:
            stack.enter_context(adapted(lm, rank=recipe.lora_rank, alpha=recipe.lora_alpha, seed=seed))
        if recipe.gradient_checkpointing:
            stack.enter_context(checkpointed(lm.model))
        yield


def step_parts(
    examples: list[int], lengths: Sequence[int], recipe: Recipe, collate: Callable[[list[int]], Part]
) -> list[Part]:
    """What this process computes of a step, in parts: all of it, or every so many'th example where several train."""
    world = dist.get_world_size() if dist.is_initialized() else 1
    mine = examples[dist.get_rank() :: world] if world > 1 else examples
    if not mine:
        # A process without examples still takes part in the exchange of gradients, with nothing to say.
        return [replace(collate(examples[:1]), weight=0.0)]  # pyright: ignore[reportArgumentType]
    return [collate(part) for part in split_by_tokens(mine, lengths, recipe.micro_batch_tokens)]


def train(
    model: nn.Module,
    objective: Objective,
    batches: Iterable[Sequence[Batch]],
    *,
    recipe: Recipe,
    steps: int,
    log_every: int = 10,
    on_log: Callable[[dict[str, float]], None] | None = None,
    on_step: OnStep | None = None,
) -> TrainingLog:
    """Step `objective` over `batches` with AdamW; the weights of `model` change in place.

    Where torch.distributed is initialised, every process brings its own share of each step and all end with the same
    weights, those that one process would have found.

    Args:
        batches: One element a step: its parts, whose gradients are averaged by their weights; may be lazy.
        steps: How many there will be; the schedule needs to know.
        log_every: Steps between log rows; the loss of a row is the mean since the row before.
        on_log: Called with every row as it is made.
        on_step: Called after every step, at the learning rate that it took.

    Raises:
        SmidgenError: The loss is not finite.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    device = parameters[0].device
    optimizer = torch.optim.AdamW(
        parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=device.type in ("cpu", "cuda")
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_scale(step, steps, recipe))
    scaler = torch.amp.GradScaler(device.type, enabled=computing_dtype(recipe.dtype, device) == "float16")
    runner = DistributedDataParallel(model) if dist.is_initialized() else model
    log = TrainingLog()
    # Losses are only read when a row is logged, so that no step waits for the device.
    pending: list[Tensor] = []
    examples = tokens = 0
    started = time.perf_counter()
    for step, parts in enumerate(batches, start=1):
        shares = _shares([part.weight for part in parts], device)
        losses = []
        for part, share in zip(parts, shares, strict=True):
            with nullcontext() if part is parts[-1] else _unsynchronised(runner):
                with computing_in(recipe.dtype, device):
                    terms = objective(runner, part)
                scaler.scale(terms.loss * share).backward()
            losses.append(terms.loss.detach() * share)
            if part.weight:
                examples, tokens = examples + len(part), tokens + terms.tokens
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(parameters, recipe.max_grad_norm)
        scaler.step(optimizer)
        scaler.update()
        if on_step:
            on_step(optimizer, step)
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        pending.append(torch.stack(losses).sum())
        if step % log_every == 0 or step == steps:
            row = _log_row(step, torch.stack(pending).mean(), examples, tokens, time.perf_counter() - started)
            log.rows.append(row)
            if on_log:
                on_log(row)
            pending, examples, tokens, started = [], 0, 0, time.perf_counter()
    return log


def _shares(weights: list[float], device: torch.device) -> list[float]:
    """What each part counts in the step's mean; over several processes, times their number, since they average."""
    if not dist.is_initialized():
        return [weight / sum(weights) for weight in weights]
    total = torch.tensor(sum(weights), dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return [weight * dist.get_world_size() / float(total) for weight in weights]


def _unsynchronised(runner: nn.Module) -> AbstractContextManager[Any]:
    """Gradients are exchanged once a step, with its last part."""
    return runner.no_sync() if isinstance(runner, DistributedDataParallel) else nullcontext()


def _log_row(step: int, loss: Tensor, examples: int, tokens: int, seconds: float) -> dict[str, float]:
    found = torch.tensor([float(loss), examples, tokens], dtype=torch.float64, device=loss.device)
    if dist.is_initialized():
        # Each process knows its share of the loss, times their number.
        dist.all_reduce(found)
        found[0] /= dist.get_world_size()
    mean_loss, all_examples, all_tokens = found.tolist()
    if not math.isfinite(mean_loss):
        raise SmidgenError(
            f"the loss is {mean_loss} at step {step}; expected a finite number. "
            "Lower the learning rate, or use float32."
        )
    return {
        "step": step,
        "loss": mean_loss,
        "pairs_per_second": all_examples / seconds,
        "tokens_per_second": all_tokens / seconds,
        "peak_memory_bytes": _peak_memory(loss.device),
    }


def learning_rate_scale(step: int, steps: int, recipe: Recipe) -> float:
    """What the recipe's learning rate is multiplied by in a step, counted from 0."""
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
