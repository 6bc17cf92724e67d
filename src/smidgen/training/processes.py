"""Several processes that train one model: how they meet, how they share the model, what they tell each other.

Everything here does nothing where there is one process.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")
# One process may compute a whole data set's reference, or write a large model, while the others wait.
_PATIENCE = timedelta(hours=24)


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this process is the one that writes files and talks."""
    return not dist.is_initialized() or dist.get_rank() == 0


@contextmanager
def joined() -> Iterator[None]:
    """Inside, the processes that one launcher has started (`accelerate launch`, `torchrun`) know each other."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    # Told to shard, accelerate has transformers leave new weights (a reward model's head) empty in all processes but
    # the first; here each process cuts its shards from its own.
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=_PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def own_device(otherwise: torch.device) -> torch.device:
    """The accelerator of this process, where several processes share a machine that has some."""
    if world_size() == 1 or not torch.cuda.is_available():
        return otherwise
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def launched_to_shard() -> bool:
    """Whether `accelerate launch` was told to shard (`--use_fsdp`, or a configuration that says so)."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"


def from_first(value: T) -> T:
    """What the first process calls this with; every process has to call."""
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def from_all(value: T) -> list[T]:
    """What each process calls this with, in their order; every process has to call."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


@contextmanager
def spread(model: nn.Module, *, shard: bool) -> Iterator[nn.Module]:
    """Yield what computes as `model` does and, trained by all processes on their shares, ends the same in all.

    Args:
        model: Its weights have changed in place on leaving.
        shard: Divide weights, gradients and optimiser state among the processes (FSDP2) instead of copying them (DDP).
    """
    if not dist.is_initialized():
        yield model
    elif not shard:
        yield DistributedDataParallel(model)
    else:
        runner = _sharded(model)
        yield runner
        with torch.no_grad():
            ends = dict(runner.named_parameters())
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    parameter.copy_(whole(ends[name]))


def _sharded(model: nn.Module) -> nn.Module:
    """A copy whose weights are shards: each layer's are gathered for its own computation only, the rest's together.

    The copy holds no second set of whole weights, and `model` stays plain.
    """
    runner = copy.deepcopy(model, {id(p): p for p in model.parameters()})
    layers = {name for m in runner.modules() for name in getattr(m, "_no_split_modules", None) or ()}
    device = next(runner.parameters()).device
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for module in list(runner.modules()):
        if type(module).__name__ in layers:
            fully_shard(module, mesh=mesh)
    return cast(nn.Module, fully_shard(runner, mesh=mesh))


def own_parameters(runner: nn.Module) -> dict[str, nn.Parameter]:
    """The weights to train, by their names in the model that was spread; shards where it was sharded."""
    module = runner.module if isinstance(runner, DistributedDataParallel) else runner
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


@contextmanager
def last_part(runner: nn.Module, last: bool) -> Iterator[None]:
    """Inside, a backward pass exchanges gradients between the processes only where it is the step's last."""
    quiet: AbstractContextManager[Any] = nullcontext()
    if isinstance(runner, FSDPModule):
        runner.set_requires_gradient_sync(last)
    elif isinstance(runner, DistributedDataParallel) and not last:
        quiet = runner.no_sync()
    with quiet:
        yield


def more_passes(runner: nn.Module, n_parts: int, device: torch.device) -> int:
    """How many passes a step needs beyond its parts: sharded weights are gathered in all processes equally often."""
    if not isinstance(runner, FSDPModule):
        return 0
    most = torch.tensor(n_parts, device=device)
    dist.all_reduce(most, dist.ReduceOp.MAX)
    return int(most) - n_parts


def whole(tensor: Tensor) -> Tensor:
    """A tensor, put together where it is a shard; then every process has to call."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(tensor: Tensor, values: Tensor) -> Tensor:
    """Values as `tensor` is kept: on its device, or this process's shard of them."""
    values = values.to(tensor.device)
    if isinstance(tensor, DTensor):
        return distribute_tensor(values, tensor.device_mesh, tensor.placements)
    return values
