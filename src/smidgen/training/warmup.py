"""A short warm-up on a few pairs, its checkpoints with the optimiser's moments, and the step that Adam takes there."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from smidgen.data.tokens import EncodedPair
from smidgen.errors import UsageError
from smidgen.models.load import LanguageModel
from smidgen.models.rows import Layout
from smidgen.models.weight_space import at_weights, flat, flat_weights, length
from smidgen.pairs import random_key
from smidgen.training.loop import Recipe
from smidgen.training.losses import Loss
from smidgen.training.preference import ReferenceLogps, train_preference

# Weights stepped at one time: few enough to stay in a processor's cache through all operations of a step.
_BLOCK_WEIGHTS = 1 << 16


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Checkpoint:
    """Weights and Adam's state between two steps; vectors are in weight space, see `models.weight_space`.

    Attributes:
        weights: Of the model.
        first_moment: Running mean of gradients, not corrected for its start at 0.
        second_moment: Running mean of squared gradients, likewise.
        step: How many steps were taken.
        learning_rate: Mean over the steps since the checkpoint before.
        betas: Adam's two decays.
        eps: Adam's term beside the root.
        max_grad_norm: What a gradient is scaled down to before the moments see it.
    """

    weights: Float[Tensor, " weights"]
    first_moment: Float[Tensor, " weights"]
    second_moment: Float[Tensor, " weights"]
    step: int
    learning_rate: float
    betas: tuple[float, float]
    eps: float
    max_grad_norm: float


def warm_up(
    lm: LanguageModel,
    pairs: Sequence[EncodedPair],
    reference: Callable[[Sequence[EncodedPair]], Sequence[ReferenceLogps] | None],
    *,
    objective: str | Loss = "dpo",
    recipe: Recipe,
    seed: int,
    share: float = 0.05,
    checkpoints: int = 4,
    layout: Layout | None = None,
) -> list[Checkpoint]:
    """Train on a random share of the pairs, one pass a checkpoint; `lm` is as before afterwards.

    Args:
        pairs: All pairs; which are drawn depends on the seed and each pair's idx alone.
        reference: Gives per-token values of the pairs drawn, from `lm` as it is.
        recipe: How; its epochs and steps do not count, and it trains all weights.
        share: Of the pairs, above 0 and up to 1; at least one batch of them.
        checkpoints: How many, and passes; the last is the end of training.

    Raises:
        UsageError: A share or number of checkpoints out of range, or a recipe with adapters.

    Source: Xia et al. 2024 (LESS), arXiv:2402.04333, Section 3.1 (5 % of the data, a checkpoint after each of four
        epochs; there with adapters).
    """
    if not 0 < share <= 1 or checkpoints < 1:
        raise UsageError(
            f"expected a share above 0 and up to 1, and at least 1 checkpoint; got {share} and {checkpoints}. "
            "The paper's are 0.05 and 4."
        )
    if recipe.lora_rank:
        raise UsageError(f"expected a recipe that trains all weights, got lora_rank {recipe.lora_rank}; give 0.")
    n_drawn = min(len(pairs), max(recipe.batch_size, round(share * len(pairs))))
    drawn = sorted(pairs, key=lambda pair: random_key(f"{seed}/warm-up", pair.idx))[:n_drawn]
    recipe = replace(recipe, epochs=float(checkpoints), steps=None)
    steps = recipe.total_steps(n_drawn)
    wanted = {math.ceil(steps * (number + 1) / checkpoints) for number in range(checkpoints)}
    found: list[Checkpoint] = []
    rates: list[float] = []

    def keep(optimizer: torch.optim.Optimizer, step: int) -> None:
        rates.append(optimizer.param_groups[0]["lr"])
        if step in wanted:
            mean_rate = sum(rates) / len(rates)
            found.append(_checkpoint(lm, optimizer, step, learning_rate=mean_rate, max_grad_norm=recipe.max_grad_norm))
            rates.clear()

    with at_weights(lm.model, flat_weights(lm.model)):
        train_preference(
            lm,
            drawn,
            reference(drawn),
            objective=objective,
            recipe=recipe,
            seed=seed,
            layout=layout,
            on_step=keep,
        )
    lm.model.zero_grad()
    return found


def adam_step(at: Checkpoint, gradient: Float[Tensor, " weights"]) -> Float[Tensor, " weights"]:
    """What Adam's next step, on this gradient, takes off the weights per unit of learning rate, without decay.

    Args:
        gradient: Of the loss at the checkpoint's weights; scaled down to `max_grad_norm` as in training.

    Source: Kingma and Ba 2015, arXiv:1412.6980, Algorithm 1; as a pair's direction: LESS, Section 2.
    """
    scale = min(1.0, at.max_grad_norm / (length(gradient) + 1e-6))
    (beta1, beta2), n = at.betas, at.step + 1
    of_mean, of_square = 1 / (1 - beta1**n), 1 / (1 - beta2**n)
    result = torch.empty_like(gradient)
    for start in range(0, len(gradient), _BLOCK_WEIGHTS):
        own = slice(start, start + _BLOCK_WEIGHTS)
        part = gradient[own]
        root = (at.second_moment[own] * (beta2 * of_square)).addcmul_(
            part, part, value=(1 - beta2) * of_square * scale**2
        )
        mean = (at.first_moment[own] * (beta1 * of_mean)).add_(part, alpha=(1 - beta1) * of_mean * scale)
        torch.div(mean, root.sqrt_().add_(at.eps), out=result[own])
    return result


def _checkpoint(
    lm: LanguageModel, optimizer: torch.optim.Optimizer, step: int, *, learning_rate: float, max_grad_norm: float
) -> Checkpoint:
    (settings,) = optimizer.param_groups
    states = [optimizer.state[parameter] for parameter in lm.model.parameters()]
    return Checkpoint(
        weights=flat_weights(lm.model),
        first_moment=flat([state["exp_avg"] for state in states]),
        second_moment=flat([state["exp_avg_sq"] for state in states]),
        step=step,
        learning_rate=learning_rate,
        betas=settings["betas"],
        eps=settings["eps"],
        max_grad_norm=max_grad_norm,
    )
