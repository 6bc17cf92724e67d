"""How a model is trained, whatever on: the settings of the loop, and the learning rate they make of each step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from smidgen.errors import UsageError
from smidgen.settings import check_ranges


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

    learning_rate: PositiveFloat = 5e-5
    weight_decay: NonNegativeFloat = 0.01
    batch_size: PositiveInt = 8
    epochs: PositiveFloat = 2.0
    steps: PositiveInt | None = None
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: NonNegativeInt = 0
    max_grad_norm: PositiveFloat = 1.0
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    micro_batch_tokens: PositiveInt = 16384
    gradient_checkpointing: bool = False
    lora_rank: NonNegativeInt = 0
    lora_alpha: PositiveFloat | None = None

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.lora_alpha is not None and not self.lora_rank:
            raise UsageError(f"expected a lora_rank with lora_alpha {self.lora_alpha}, got 0; give both or neither.")

    def total_steps(self, n_examples: int) -> int:
        """Optimiser steps on `n_examples`, at least one."""
        return self.steps or max(1, round(self.epochs * n_examples / self.batch_size))


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
