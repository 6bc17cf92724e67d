"""The only training loop: it steps an objective over batches, whatever the objective is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, TypedDict, Unpack

import torch
import torch.distributed as dist
from torch import Tensor, nn

from smidgen.errors import UsageError
from smidgen.models.adapters import adapted
from smidgen.models.load import LanguageModel, checkpointed, computing_dtype
from smidgen.models.logprobs import computing_in
from smidgen.pairs import random_key
from smidgen.runs import content_hash
from smidgen.training.checkpoints import Keep, Keeper, Moving
from smidgen.training.demand import refuse_too_large_a_model, refuse_too_large_a_part
from smidgen.training.parts import Batch, Parts, in_memory, silent
from smidgen.training.processes import last_part, more_passes, own_parameters, spread, whole
from smidgen.training.recipe import Recipe, learning_rate_scale
from smidgen.training.record import NotFinite, OnLog, Record, Row, TrainingLog

# Batches are cut from windows of this many, sorted by length inside: little padding, order still random.
_WINDOW_BATCHES = 8


@dataclass(frozen=True, slots=True)
class LossTerms:
    """What an objective returns: the scalar to minimise, a mean, and the tokens it was computed on."""

    loss: Tensor
    tokens: int


Objective = Callable[[nn.Module, Any], LossTerms]
# Called with the optimiser and the step's number, from 1, once the weights have moved.
OnStep = Callable[[torch.optim.Optimizer, int], None]


Batches = Iterable[Iterable[Batch]]

ADAM_EPSILON = 1e-8  # PyTorch's


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What is measured while a training runs.

    Attributes:
        measure: Called with the model as an objective gets it, without gradients; its numbers join the step's row.
            Where several processes train, each calls it.
        every_steps: Optimiser steps from one to the next; there is one after the last step too.

    Raises:
        UsageError: Fewer than one step.
    """

    measure: Callable[[nn.Module], Mapping[str, float]]
    every_steps: int

    def __post_init__(self) -> None:
        if self.every_steps < 1:
            raise UsageError(f"expected every_steps of at least 1, got {self.every_steps}; give 1 for after each step.")


class Around(TypedDict, total=False):
    """What may stand around a training; every function that trains takes these and hands them on to `train`.

    Attributes:
        on_log: Called with every row as it is made; first, in a training that goes on, with those made before.
        on_step: Called with the optimiser and the step's number, from 1, at the learning rate that the step took; only
            for steps that this call makes.
        keep: Write checkpoints, and go on from the last.
        evaluation: Measure something now and then.
        shard: Where several processes train, divide the weights among them (FSDP2) instead of copying them (DDP).
        log_every: Steps between log rows, 10 unless given; the loss of a row is the mean since the row before.
    """

    on_log: OnLog | None
    on_step: OnStep | None
    keep: Keep | None
    evaluation: Evaluation | None
    shard: bool
    log_every: int


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


@contextmanager
def trainable(lm: LanguageModel, recipe: Recipe, seed: int) -> Iterator[None]:
    """Inside, `lm` is as the recipe trains it: layers checkpointed, an adapter in it that is folded in at the end."""
    with ExitStack() as stack:
        if recipe.lora_rank:
            stack.enter_context(adapted(lm, rank=recipe.lora_rank, alpha=recipe.lora_alpha, seed=seed))
        if recipe.gradient_checkpointing:
            stack.enter_context(checkpointed(lm.model))
        yield


def train(
    model: nn.Module,
    objective: Objective,
    batches: Batches | Callable[[int], Batches],
    *,
    recipe: Recipe,
    steps: int,
    adam_epsilon: float = ADAM_EPSILON,
    **around: Unpack[Around],
) -> TrainingLog:
    """Step `objective` over `batches` with AdamW; the weights of `model` change in place.

    Where torch.distributed is initialised, every process brings its own share of each step and all end with the same
    weights, those that one process would have found. A training that was stopped and goes on from a checkpoint ends
    with the weights and the losses of one that never was, bit for bit.

    Args:
        batches: One element a step: its parts, whose gradients are averaged by their weights; may be lazy. Or what
            makes them from a step on, counted from 0, so that one that goes on need not make those it has seen.
        steps: How many there will be; the schedule needs to know.
        adam_epsilon: Added to the denominator of AdamW's step.

    Raises:
        NotFinite: A loss or gradient is not finite. The message names its batch, and the last checkpoint, which stays.
        SmidgenError: There is not the memory for it; said before it is taken, where that can be known.
        UsageError: The checkpoints are of another training.
    """
    with spread(model, shard=around.get("shard", False)) as runner:
        moving = _start(runner, recipe, adam_epsilon)
        keep = around.get("keep")
        keeper = Keeper(keep, moving, _identity(moving, recipe, steps, adam_epsilon)) if keep else None
        if keeper:
            keeper.resume()
            moving.record.log.resumed_at = moving.step
        on_log, log_every = around.get("on_log") or (lambda row: None), around.get("log_every", 10)
        for row in moving.record.log.rows:
            on_log(row)
        try:
            for parts in batches(moving.step) if callable(batches) else islice(batches, moving.step, None):
                _step(runner, objective, parts, moving, recipe, steps, around.get("on_step"))
                if row := _row(runner, moving, steps, log_every, around.get("evaluation")):
                    on_log(row)
                    moving.record.start_clock()
                if keeper and keeper.due():
                    keeper.save()
        except NotFinite as error:
            last = keeper.last() if keeper else None
            where = f"The last good checkpoint is {last}." if last else "There is no checkpoint from before."
            raise NotFinite(f"{error} {where}") from None
    return moving.record.log


def _start(runner: nn.Module, recipe: Recipe, adam_epsilon: float) -> Moving:
    parameters = own_parameters(runner)
    refuse_too_large_a_model(parameters.values())
    device = next(iter(parameters.values())).device
    optimizer = torch.optim.AdamW(
        parameters.values(),
        lr=recipe.learning_rate,
        eps=adam_epsilon,
        weight_decay=recipe.weight_decay,
        fused=device.type in ("cpu", "cuda"),
    )
    # A training of the same model that was interrupted may have left some.
    optimizer.zero_grad(set_to_none=True)
    scaler = torch.amp.GradScaler(device.type, enabled=computing_dtype(recipe.dtype, device) == "float16")
    return Moving(parameters, optimizer, scaler, Record(device))


def _identity(moving: Moving, recipe: Recipe, steps: int, adam_epsilon: float) -> dict[str, Any]:
    shapes = {name: list(p.shape) for name, p in moving.parameters.items()}
    settings = asdict(recipe) | {"adam_epsilon": adam_epsilon}
    return {"recipe": settings, "steps": steps, "weights": content_hash(shapes)}


def _step(
    runner: nn.Module,
    objective: Objective,
    parts: Iterable[Batch],
    moving: Moving,
    recipe: Recipe,
    steps: int,
    on_step: OnStep | None,
) -> None:
    optimizer, scaler = moving.optimizer, moving.scaler
    if isinstance(parts, Parts) and moving.most_tokens is not None:
        parts = parts.within(moving.most_tokens)
    refuse_too_large_a_part(runner, parts, recipe, moving.record.device)
    for group in optimizer.param_groups:
        group["lr"] = recipe.learning_rate * learning_rate_scale(moving.step, steps, recipe)

    def compute(parts: Iterable[Batch]) -> _Computed:
        return _gradients(runner, objective, parts, moving, recipe)

    def start_anew() -> None:
        optimizer.zero_grad(set_to_none=True)
        if moving.record.device.type == "cuda":
            torch.cuda.empty_cache()

    found, most_tokens = in_memory(compute, parts, start_anew=start_anew)
    moving.most_tokens = most_tokens or moving.most_tokens
    scaler.unscale_(optimizer)
    norm = whole(torch.nn.utils.clip_grad_norm_(moving.parameters.values(), recipe.max_grad_norm))
    scaler.step(optimizer)
    scaler.update()
    moving.step += 1
    if on_step:
        on_step(optimizer, moving.step)
    optimizer.zero_grad(set_to_none=True)
    # Scaled losses find their scale by gradients that overflow; such steps are left out, not failed.
    checked = None if scaler.is_enabled() else norm
    moving.record.add(moving.step, found.loss, checked, found.idx, found.examples, found.tokens)


@dataclass(frozen=True, slots=True)
class _Computed:
    """What the parts of a step come to; their gradients are in the weights."""

    loss: Tensor
    idx: list[Tensor]
    examples: int
    tokens: int


def _gradients(
    runner: nn.Module, objective: Objective, parts: Iterable[Batch], moving: Moving, recipe: Recipe
) -> _Computed:
    device, batches = moving.record.device, [*parts]
    batches += [silent(batches[-1]) for _ in range(more_passes(runner, len(batches), device))]
    losses, examples, tokens = [], 0, 0
    shares = _shares([part.weight for part in batches], device)
    for number, (part, share) in enumerate(zip(batches, shares, strict=True), start=1):
        with last_part(runner, number == len(batches)):
            with computing_in(recipe.dtype, device):
                terms = objective(runner, part)
            moving.scaler.scale(terms.loss * share).backward()
        losses.append(terms.loss.detach() * share)
        if part.weight:
            examples, tokens = examples + len(part), tokens + terms.tokens
    known = [getattr(part, "idx", None) for part in batches if part.weight]
    return _Computed(torch.stack(losses).sum(), [i for i in known if i is not None], examples, tokens)


def _row(runner: nn.Module, moving: Moving, steps: int, log_every: int, evaluation: Evaluation | None) -> Row | None:
    """The row of the step that was just made, with what is measured after it; None where none is due."""
    step, last = moving.step, moving.step == steps
    measured = evaluation if evaluation and (last or step % evaluation.every_steps == 0) else None
    if not (measured or last or step % log_every == 0):
        return None
    row = moving.record.row(step)
    if measured:
        with torch.no_grad():
            row.update(measured.measure(runner))
    return row


def _shares(weights: list[float], device: torch.device) -> list[float]:
    """What each part counts in the step's mean; over several processes, times their number, since they average."""
    if not dist.is_initialized():
        return [weight / sum(weights) for weight in weights]
    total = torch.tensor(sum(weights), dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return [weight * dist.get_world_size() / float(total) for weight in weights]
