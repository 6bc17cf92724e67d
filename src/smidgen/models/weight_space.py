"""Directions in weight space: all weights of a model as one flat vector, in the order of its parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

_BLOCK_WEIGHTS = 1 << 16


def flat(tensors: Sequence[Tensor]) -> Float[Tensor, " weights"]:
    """One tensor a parameter, in the model's order, as one float32 vector."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors]).float()


def flat_weights(model: nn.Module) -> Float[Tensor, " weights"]:
    """A copy of the model's weights; weights that two layers share are there once."""
    return flat(list(model.parameters()))


def flat_gradient(loss: Float[Tensor, ""], model: nn.Module) -> Float[Tensor, " weights"]:
    """Of a scalar by the model's weights; 0 for weights that it does not depend on."""
    parameters = list(model.parameters())
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return flat([torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)])


def dot(one: Float[Tensor, " weights"], other: Float[Tensor, " weights"]) -> float:
    """Inner product; added up in blocks, since float32 sums of millions lose their fourth digit."""
    parts = zip(one.split(_BLOCK_WEIGHTS), other.split(_BLOCK_WEIGHTS), strict=True)
    return float(torch.stack([a @ b for a, b in parts]).double().sum())


def length(vector: Float[Tensor, " weights"]) -> float:
    """Euclidean."""
    return math.sqrt(dot(vector, vector))


def unit(vector: Float[Tensor, " weights"]) -> Float[Tensor, " weights"]:
    """At length 1; zeros stay zeros."""
    return vector / max(length(vector), 1e-30)


def by_name(model: nn.Module, vector: Float[Tensor, " weights"]) -> dict[str, Tensor]:
    """Views of a flat vector, one a parameter, shaped as that.

    Raises:
        ValueError: A vector of another length than the model has weights.
    """
    named = dict(model.named_parameters())
    sizes = [parameter.numel() for parameter in named.values()]
    if len(vector) != sum(sizes):
        raise ValueError(f"expected a vector of the model's {sum(sizes)} weights, got {len(vector)}; take its own.")
    parts = vector.split(sizes)
    return {name: part.view(named[name].shape) for name, part in zip(named, parts, strict=True)}


@torch.no_grad()
def set_weights(model: nn.Module, vector: Float[Tensor, " weights"]) -> None:
    """Write a flat vector into the model."""
    for name, part in by_name(model, vector).items():
        model.get_parameter(name).copy_(part)


@contextmanager
def at_weights(model: nn.Module, vector: Float[Tensor, " weights"]) -> Iterator[None]:
    """Inside, the model has these weights; after it, its own again, to the last bit."""
    own = [parameter.detach().clone() for parameter in model.parameters()]
    set_weights(model, vector)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, before in zip(model.parameters(), own, strict=True):
                parameter.copy_(before)
