"""What each pair's weight in a training run does to the trained model: exact derivatives through every step.

The run is AdamW as the loop does it, in float32 on the twice differentiable path, over batches drawn as for any run.
A step's loss is the sum of weight * loss over its pairs, divided by how many members it has; members weigh 1.
Candidates stand beside them in a few steps and weigh 0: they change nothing, and their derivative says what adding
them would. All stand in the same steps, since what a pair does depends on how far the run has come.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from smidgen.data.tokens import EncodedPair
from smidgen.errors import SmidgenError
from smidgen.models.load import LanguageModel
from smidgen.models.logprobs import find_layout, functional_logps
from smidgen.models.rows import Layout
from smidgen.models.weight_space import at_weights, by_name
from smidgen.training.loop import Recipe, draw_batches, learning_rate_scale
from smidgen.training.losses import Loss, loss
from smidgen.training.parts import split_by_tokens
from smidgen.training.preference import PairBatch, ReferenceLogps, collate_pairs, pair_logps, weighted_losses

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8

# From the model as trained: the value to raise, and its gradient as one flat vector of all weights.
TargetGradient = Callable[[LanguageModel], tuple[float, Tensor]]


@dataclass(frozen=True, slots=True)
class Metagradients:
    """What more weight on each pair would do.

    Attributes:
        target: The target's value after the run.
        per_draw: Derivative of the target with respect to a pair's weight, divided by how often the pair was drawn, so
            that members and candidates compare; float64 [pairs], in the order of the pairs. 0 where never drawn. A
            candidate is new to the run and a member is not, so a candidate's is mostly the larger.
        draws: How often, int64 [pairs]; a candidate's is the number of looks.
    """

    target: float
    per_draw: np.ndarray
    draws: np.ndarray


@dataclass(frozen=True, slots=True)
class _State:
    """Weights and Adam's moments as flat vectors, [parameters] each."""

    weights: Tensor
    first: Tensor
    second: Tensor


def metagradients(
    lm: LanguageModel,
    pairs: Sequence[EncodedPair],
    reference: Sequence[ReferenceLogps] | None,
    target: TargetGradient,
    *,
    members: Sequence[int],
    objective: str | Loss = "dpo",
    recipe: Recipe,
    seed: int,
    looks: int = 4,
    smoothing: float = 1e-9,
    layout: Layout | None = None,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> Metagradients:
    """Differentiate a target at the end of a run with respect to the weight of every pair.

    The run is replayed backwards from stored states, so memory grows with the square root of its steps. `lm` has the
    weights it came with again when this returns.

    Args:
        pairs: Members and candidates.
        reference: Per-token values for each of `pairs` under `lm`; None for a loss that needs none.
        target: Called with `lm` as trained.
        members: Positions in `pairs` of those the run trains on, at least one; all others are candidates.
        objective: A paired loss.
        recipe: Its steps should be few: one costs about five ordinary ones in float32. Adapters, checkpointing and
            computing types are not taken from it.
        seed: Decides the order of the pairs.
        looks: In how many steps, evenly spread, candidates stand beside the members; a pair costs about four
            forward passes in each.
        smoothing: Added to Adam's second moment under the root, in squared units of a gradient. Without it the
            derivative of a weight that has hardly ever had a gradient is without bound.
        on_step: Called with the steps done and their total: forwards once each, backwards once each.

    Raises:
        SmidgenError: The run or its derivative is not finite.

    Source: Engstrom et al. 2025, "Optimizing ML training with metagradient descent", arXiv:2503.13751 (replay; the
    smoothed root); Maclaurin, Duvenaud and Adams 2015, arXiv:1502.03492.
    """
    layout = layout or find_layout(lm.model)
    run = _Run(lm, pairs, reference, loss.bind(objective), recipe, seed, members, looks, smoothing, layout)
    stride = max(1, math.isqrt(run.steps))
    total = 2 * run.steps
    state, kept = run.start(), {}
    for step in range(run.steps):
        if step % stride == 0:
            kept[step] = state
        state = run.advance(state, step)
        on_step(step + 1, total)
    with at_weights(lm.model, state.weights):
        value, gradient = target(lm)
    adjoint = _State(gradient, torch.zeros_like(gradient), torch.zeros_like(gradient))
    sums, draws = np.zeros(len(pairs)), np.zeros(len(pairs), dtype=np.int64)
    for start in sorted(kept, reverse=True):
        states = [kept.pop(start)]
        last = min(start + stride, run.steps)
        for step in range(start, last - 1):
            states.append(run.advance(states[-1], step))
        for step in range(last - 1, start - 1, -1):
            adjoint, found = run.retreat(states.pop(), adjoint, step)
            for position, derivative in found:
                sums[position] += derivative
                draws[position] += 1
            on_step(total - step, total)
    if not (math.isfinite(value) and np.isfinite(sums).all()):
        raise SmidgenError(
            "the derivative through the run is not finite; expected finite numbers. "
            "Lower the learning rate, take fewer steps, or raise the smoothing."
        )
    return Metagradients(value, sums / np.maximum(draws, 1), draws)


class _Run:
    """A training run as a function of its state: one step forwards, one step back."""

    def __init__(
        self,
        lm: LanguageModel,
        pairs: Sequence[EncodedPair],
        reference: Sequence[ReferenceLogps] | None,
        objective: Loss,
        recipe: Recipe,
        seed: int,
        members: Sequence[int],
        looks: int,
        smoothing: float,
        layout: Layout,
    ) -> None:
        self.lm, self.pairs, self.reference, self.objective = lm, pairs, reference, objective
        self.recipe, self.smoothing = recipe, smoothing
        self.layout: Layout = layout
        self.steps = recipe.total_steps(len(members))
        inside = set(members)
        self.candidates = [i for i in range(len(pairs)) if i not in inside]
        self.looks = {int((look + 0.5) * self.steps / looks) for look in range(looks)}
        self.lengths = [len(p.prompt) + len(p.chosen) + len(p.rejected) for p in pairs]
        drawn = draw_batches(
            [pairs[i].idx for i in members],
            [self.lengths[i] for i in members],
            batch_size=recipe.batch_size,
            steps=self.steps,
            seed=seed,
        )
        self.batches = [[members[i] for i in batch] for batch in drawn]

    def start(self) -> _State:
        weights = parameters_to_vector(self.lm.model.parameters()).detach()
        return _State(weights, torch.zeros_like(weights), torch.zeros_like(weights))

    def advance(self, state: _State, step: int) -> _State:
        """The state after one more step."""
        weights = state.weights.detach().requires_grad_()
        losses = self._losses(weights, self.batches[step])
        (gradient,) = torch.autograd.grad(losses.mean(), weights)
        with torch.no_grad():
            return self._update(state, gradient, step)

    def retreat(self, state: _State, adjoint: _State, step: int) -> tuple[_State, list[tuple[int, float]]]:
        """From the adjoint after a step to the one before it, and the derivatives by weight of the step's pairs.

        The update is elementwise in the gradient but for clipping, so its derivative is cheap; what the gradient
        itself owes to the weights is one product with the Hessian.
        """
        weights = state.weights.detach().requires_grad_()
        shares = torch.ones_like(weights[:1]).repeat(len(self.batches[step])).requires_grad_()
        losses = self._losses(weights, self.batches[step])
        total = (shares * losses).mean()
        (gradient,) = torch.autograd.grad(total, weights, create_graph=True)
        leaves = [t.detach().requires_grad_() for t in (state.weights, state.first, state.second, gradient)]
        after = self._update(_State(leaves[0], leaves[1], leaves[2]), leaves[3], step)
        direct = torch.autograd.grad(
            [after.weights, after.first, after.second], leaves, [adjoint.weights, adjoint.first, adjoint.second]
        )
        through, by_share = torch.autograd.grad(gradient, (weights, shares), direct[3])
        found = list(zip(self.batches[step], by_share.tolist(), strict=True))
        if step in self.looks:
            for part in split_by_tokens(self.candidates, self.lengths, self.recipe.micro_batch_tokens):
                slopes = self._along(state.weights.detach(), direct[3], part) / len(shares)
                found += zip(part, slopes.tolist(), strict=True)
        return _State(direct[0] + through, direct[1], direct[2]), found

    def _along(self, weights: Tensor, direction: Tensor, positions: Sequence[int]) -> Tensor:
        """Slope of each pair's loss along a direction of the weights, [pairs]; forward mode, one pass."""
        return torch.func.jvp(lambda w: self._losses(w, positions), (weights,), (direction,))[1]

    def _losses(self, weights: Tensor, positions: Sequence[int]) -> Tensor:
        batch = self._batch(positions)
        policy = functional_logps(self.lm, self.layout, by_name(self.lm.model, weights), batch.rows)
        return weighted_losses(self.objective, pair_logps(lambda rows: policy, batch))

    def _batch(self, positions: Sequence[int]) -> PairBatch:
        reference = None if self.reference is None else [self.reference[i] for i in positions]
        return collate_pairs([self.pairs[i] for i in positions], reference, layout=self.layout).to(self.lm.device)

    def _update(self, state: _State, gradient: Tensor, step: int) -> _State:
        """AdamW with clipping, as torch.optim.AdamW and clip_grad_norm_ do it, but for the smoothed root."""
        recipe, (decay, slow_decay) = self.recipe, _BETAS
        rate = recipe.learning_rate * learning_rate_scale(step, self.steps, recipe)
        norm = (gradient.square().sum() + 1e-30).sqrt()
        gradient = gradient * (recipe.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)
        first = decay * state.first + (1 - decay) * gradient
        second = slow_decay * state.second + (1 - slow_decay) * gradient.square()
        root = (second / (1 - slow_decay ** (step + 1)) + self.smoothing).sqrt() + _EPSILON
        moved = first / (1 - decay ** (step + 1)) / root
        return _State(state.weights * (1 - rate * recipe.weight_decay) - rate * moved, first, second)
