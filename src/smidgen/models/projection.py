"""Random projections of linear layers' gradients that never build a gradient.

The gradient of a layer's weight is a sum over tokens, G = sum_t d_t x_t', of what goes in and of how the loss changes
with what comes out. Both sides are projected token by token, so P' G Q costs hardly more than the backward pass that
finds d; inner products survive, on average exactly.

Source: Johnson and Lindenstrauss 1984; TRAK, Park et al. 2023, arXiv:2303.14186; two-sided for linear layers: LoGra,
Choe et al. 2024, arXiv:2405.13954.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from smidgen.errors import UsageError
from smidgen.models.rows import RowBatch


@dataclass(frozen=True, slots=True)
class Factors:
    """Of one layer: random directions of its outputs and of its inputs."""

    outputs: Float[Tensor, "outputs k_outputs"]
    inputs: Float[Tensor, "inputs k_inputs"]


@dataclass(frozen=True, slots=True)
class Projection:
    """Factors by the name of the layer; a projected gradient is its layers' k_outputs * k_inputs numbers in a row."""

    layers: Mapping[str, Factors]

    @property
    def dimensions(self) -> int:
        return sum(f.outputs.shape[1] * f.inputs.shape[1] for f in self.layers.values())

    def of_weights(self, model: nn.Module, gradient: Mapping[str, Tensor]) -> Float[Tensor, " dimensions"]:
        """A direction in weight space, tensors by the names of parameters, projected as gradients of tokens are."""
        parts = []
        for name, factors in self.layers.items():
            weight = gradient[f"{name}.weight"]
            if isinstance(model.get_submodule(name), Conv1D):
                weight = weight.t()  # GPT-2's layers keep their weights the other way round
            parts.append((factors.outputs.t() @ weight @ factors.inputs).flatten())
        return torch.cat(parts)


@dataclass(slots=True)
class LayerPasses:
    """What went through the layers of a projection in a forward pass: inputs, projected already, and outputs."""

    projection: Projection
    names: list[str] = field(default_factory=list)
    inputs: list[Float[Tensor, "tokens k_inputs"]] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)

    def gradients(
        self, losses: Float[Tensor, " groups"], tokens: Sequence[slice]
    ) -> Float[Tensor, "groups dimensions"]:
        """The projected gradient of each loss, from one backward pass through their sum.

        Args:
            losses: Of the forward pass; the i-th depends on the i-th group's tokens alone.
            tokens: Where each group's tokens lie, counted through the rows.
        """
        factors = self.projection.layers
        shapes = {name: (len(tokens), f.outputs.shape[1], f.inputs.shape[1]) for name, f in factors.items()}
        found = {name: losses.new_zeros(shape) for name, shape in shapes.items()}
        slopes = torch.autograd.grad(losses.sum(), self.outputs, allow_unused=True)
        for name, inputs, slope in zip(self.names, self.inputs, slopes, strict=True):
            if slope is not None:
                outputs = slope.reshape(-1, slope.shape[-1]) @ factors[name].outputs
                for group, own in enumerate(tokens):
                    found[name][group] += outputs[own].t() @ inputs[own]
        return torch.cat([part.flatten(1) for part in found.values()], dim=1)


def random_projection(
    model: PreTrainedModel, *, dimensions: int = 4096, blocks: int | None = None, seed: int = 0
) -> Projection:
    """Factors of the model's linear layers, the head left out; the same for the same names, shapes and seed.

    Each factor is orthonormal, scaled so that inner products are kept on average: exactly, where a layer has no more
    dimensions than its share. All layers get an equal share.

    Args:
        dimensions: At most so many numbers a gradient, at least one a layer.
        blocks: Only the layers of the last so many transformer blocks; None for all layers.
        seed: Of the random directions.

    Raises:
        UsageError: Fewer dimensions than layers, or no such blocks.
    """
    names = _linear_layers(model, blocks)
    side = math.isqrt(dimensions // len(names))
    if not side:
        raise UsageError(
            f"expected at least one dimension for each of {len(names)} layers, got {dimensions}; give more, or blocks."
        )
    layers = {}
    for name in names:
        layer = model.get_submodule(name)
        shape = cast(Tensor, layer.weight).shape
        n_inputs, n_outputs = shape if isinstance(layer, Conv1D) else reversed(shape)
        outputs, inputs = (
            _directions(f"{seed}/{name}/{what}", width, min(side, width)).to(model.device)
            for what, width in (("outputs", n_outputs), ("inputs", n_inputs))
        )
        layers[name] = Factors(outputs, inputs)
    return Projection(layers)


@contextmanager
def watched(model: nn.Module, projection: Projection) -> Iterator[LayerPasses]:
    """Inside, what goes through the projection's layers is kept."""
    passes = LayerPasses(projection)

    def watch(name: str, factors: Factors) -> torch.utils.hooks.RemovableHandle:
        def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            passes.names.append(name)
            passes.inputs.append(inputs[0].detach().reshape(-1, len(factors.inputs)) @ factors.inputs)
            passes.outputs.append(output)

        return model.get_submodule(name).register_forward_hook(keep)

    handles = [watch(name, factors) for name, factors in projection.layers.items()]
    try:
        yield passes
    finally:
        for handle in handles:
            handle.remove()


def group_tokens(rows: RowBatch, answers: int) -> list[slice]:
    """Where the tokens of each prompt with its `answers` answers lie, counted through the rows."""
    if rows.packing is not None:
        return [slice(span.start, span.start + span.tokens) for span in rows.packing.spans]
    n_rows, length = rows.input_ids.shape
    size = n_rows * answers // len(rows.answer_mask) * length
    return [slice(start, start + size) for start in range(0, n_rows * length, size)]


def _linear_layers(model: PreTrainedModel, blocks: int | None) -> list[str]:
    head = model.get_output_embeddings()
    names = [name for name, m in model.named_modules() if isinstance(m, (nn.Linear, Conv1D)) and m is not head]
    if blocks is None:
        return names
    n_blocks = model.config.get_text_config().num_hidden_layers
    lists = [n for n, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m) == n_blocks]
    if not lists or not 1 <= blocks <= n_blocks:
        raise UsageError(f"expected 1 to {n_blocks if lists else 0} blocks, those of the model; got {blocks}.")
    last = tuple(f"{lists[0]}.{number}." for number in range(n_blocks - blocks, n_blocks))
    return [name for name in names if name.startswith(last)]


def _directions(key: str, width: int, n: int) -> Float[Tensor, "width n"]:
    """Orthonormal random directions, times sqrt(width / n)."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "little")
    drawn = torch.randn(width, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (torch.linalg.qr(drawn).Q * math.sqrt(width / n)).float()
