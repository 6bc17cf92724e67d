"""Random projections of linear layers' gradients that never build a gradient.

The gradient of a layer's weight is a sum over tokens, G = sum_t d_t x_t', of what goes in and of how the loss changes
with what comes out. Both sides are projected token by token, so P' G Q costs hardly more than the backward pass that
finds d. Its numbers are then added up, with random signs, in as many places as are wanted. Inner products survive, on
average exactly. The first stage alone would have to be narrow, and a narrow one errs most on gradients of few tokens.

Source: Johnson and Lindenstrauss 1984; TRAK, Park et al. 2023, arXiv:2303.14186; two-sided for linear layers: LoGra,
Choe et al. 2024, arXiv:2405.13954; signed sums: Charikar, Chen and Farach-Colton 2002 (count sketch).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from smidgen.errors import UsageError
from smidgen.models.rows import RowBatch


@dataclass(frozen=True, slots=True)
class Factors:
    """Of one layer.

    Attributes:
        outputs: Random directions of its outputs, P.
        inputs: Random directions of its inputs, Q.
        places: Where each number of P' G Q is added, row by row.
        signs: What it is multiplied by first.
    """

    outputs: Float[Tensor, "outputs k_outputs"]
    inputs: Float[Tensor, "inputs k_inputs"]
    places: Int[Tensor, " k_outputs*k_inputs"]
    signs: Float[Tensor, " k_outputs*k_inputs"]


@dataclass(frozen=True, slots=True)
class Projection:
    """Factors by the name of the layer, and how many numbers a projected gradient has."""

    layers: Mapping[str, Factors]
    dimensions: int

    def of_weights(self, model: nn.Module, gradient: Mapping[str, Tensor]) -> Float[Tensor, " dimensions"]:
        """A direction in weight space, tensors by the names of parameters, projected as gradients of tokens are."""
        found = next(iter(gradient.values())).new_zeros(self.dimensions)
        for name, factors in self.layers.items():
            weight = gradient[f"{name}.weight"]
            if isinstance(model.get_submodule(name), Conv1D):
                weight = weight.t()  # GPT-2's layers keep their weights the other way round
            inner = factors.outputs.t() @ weight @ factors.inputs
            found.index_add_(0, factors.places, inner.flatten() * factors.signs)
        return found


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
        found = losses.new_zeros(len(tokens), self.projection.dimensions)
        slopes = torch.autograd.grad(losses.sum(), self.outputs, allow_unused=True)
        for name, inputs, slope in zip(self.names, self.inputs, slopes, strict=True):
            if slope is None:
                continue
            factors = self.projection.layers[name]
            outputs = slope.reshape(-1, slope.shape[-1]) @ factors.outputs
            inner = torch.stack([(outputs[own].t() @ inputs[own]).flatten() for own in tokens])
            found.index_add_(1, factors.places, inner * factors.signs)
        return found


def random_projection(
    model: PreTrainedModel, *, dimensions: int = 4096, blocks: int | None = None, side: int = 64, seed: int = 0
) -> Projection:
    """Factors of the model's linear layers, the head left out; the same for the same names, shapes and seed.

    Args:
        dimensions: Numbers a projected gradient has; fewer where the first stage leaves no more.
        blocks: Only the layers of the last so many transformer blocks; None for all layers.
        side: Most directions of a layer's inputs, and of its outputs, in the first stage. They are orthonormal but for
            a factor, so a stage as wide as the layer loses nothing.
        seed: Of all that is random.

    Raises:
        UsageError: No dimensions, no directions, or no such blocks.
    """
    if dimensions < 1 or side < 1:
        raise UsageError(f"expected at least 1 dimension and 1 a side, got {dimensions} and {side}; give 4096 and 64.")
    shapes = {name: _shape(model.get_submodule(name)) for name in _linear_layers(model, blocks)}
    sizes = [min(side, n_outputs) * min(side, n_inputs) for n_outputs, n_inputs in shapes.values()]
    kept = sum(sizes) <= dimensions
    layers, start = {}, 0
    for (name, widths), size in zip(shapes.items(), sizes, strict=True):
        key = f"{seed}/{name}"
        outputs, inputs = (
            _directions(_generator(f"{key}/{what}"), width, min(side, width))
            for what, width in zip(("outputs", "inputs"), widths, strict=True)
        )
        generator = _generator(f"{key}/sums")
        places = torch.arange(start, start + size) if kept else torch.randint(dimensions, (size,), generator=generator)
        signs = torch.ones(size) if kept else torch.randint(2, (size,), generator=generator) * 2.0 - 1.0
        layers[name] = Factors(*(tensor.to(model.device) for tensor in (outputs, inputs, places, signs)))
        start += size
    return Projection(layers, start if kept else dimensions)


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


def _shape(layer: nn.Module) -> tuple[int, int]:
    """Widths of outputs and inputs."""
    first, second = cast(Tensor, layer.weight).shape
    return (second, first) if isinstance(layer, Conv1D) else (first, second)


def _generator(key: str) -> torch.Generator:
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "little"))


def _directions(generator: torch.Generator, width: int, n: int) -> Float[Tensor, "width n"]:
    """Orthonormal random directions, times sqrt(width / n)."""
    drawn = torch.randn(width, n, generator=generator, dtype=torch.float64)
    return (torch.linalg.qr(drawn).Q * math.sqrt(width / n)).float()
