"""What pairs' loss gradients tell, as columns: vectors, and how far a step on each pair goes where it should.

Each group of columns is prepared once (a target, checkpoints) and then measured on any slice of the pairs by itself;
slices put together are what all pairs at once would give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from smidgen.data.tokens import EncodedPair
from smidgen.errors import InvalidData
from smidgen.evaluation.surrogate import TokenIds, refusal_opening_gradient
from smidgen.models.load import LanguageModel
from smidgen.models.projection import Projection, random_projection
from smidgen.models.weight_space import at_weights, by_name, dot, flat_weights, length, unit
from smidgen.training.pair_gradients import PairLoss, directional_derivatives, projected_gradients, whole_gradients
from smidgen.training.preference import ReferenceLogps
from smidgen.training.warmup import Checkpoint, adam_step

Reference = Sequence[ReferenceLogps] | None


@dataclass(frozen=True, slots=True, eq=False)
class GradientTarget:
    """Where the benchmark's smooth surrogate grows: refusing harmful dev prompts, less refusing harmless ones.

    Attributes:
        direction: Its gradient over all weights.
        projection: Of linear layers' gradients.
        projected: `direction` under it.
    """

    direction: Float[Tensor, " weights"]
    projection: Projection
    projected: Float[Tensor, " dimensions"]


@dataclass(frozen=True, slots=True, eq=False)
class LessCheckpoint:
    """A checkpoint of the warm-up with unit vectors along the surrogate's gradients there; its weight among all."""

    checkpoint: Checkpoint
    harmful: Float[Tensor, " weights"]
    harmless: Float[Tensor, " weights"]
    share: float


def gradient_target(
    lm: LanguageModel,
    harmful: Sequence[TokenIds],
    harmless: Sequence[TokenIds],
    openings: Sequence[TokenIds],
    *,
    dimensions: int = 4096,
    blocks: int | None = None,
    seed: int = 0,
) -> GradientTarget:
    """Prepare `gradient_columns` at the weights of `lm`.

    Args:
        harmful: Dev prompts to be refused, token ids that end where the answer begins.
        harmless: Dev prompts to be answered.
        openings: Of refusals, from `evaluation.surrogate.encode_openings`.
        dimensions: At most so many numbers a pair.
        blocks: Project the gradients of the last so many transformer blocks only; None for all.
        seed: Of the random projection.
    """
    refusing, over_refusing = (refusal_opening_gradient(lm, prompts, openings)[1] for prompts in (harmful, harmless))
    direction = refusing - over_refusing
    projection = random_projection(lm.model, dimensions=dimensions, blocks=blocks, seed=seed)
    projected = projection.of_weights(lm.model, by_name(lm.model, direction))
    return GradientTarget(direction, projection, projected)


def gradient_columns(
    of: PairLoss, target: GradientTarget, pairs: Sequence[EncodedPair], reference: Reference
) -> dict[str, np.ndarray]:
    """Columns from the gradient of each pair's loss, at the weights the target was prepared at.

    Returns:
        `gradient`: The projected gradient as a unit vector, float16 [n, dimensions]; zeros where the loss is flat. It
            knows the weights of linear layers, not embeddings, head, norms and biases.
        `gradient_norm`: Length of the projected gradient, float64 [n].
        `gradient_cosine`: Of minus the projected gradient and the projected target, -1 to 1, float64 [n].
        `gradient_target`: What a plain step on the pair adds to the target per unit of learning rate, to first order:
            minus <gradient, target> over all weights, exact, float64 [n].

    Source: first-order influence of a step: TracIn, Pruthi et al. 2020, arXiv:2002.08484.
    """
    vectors = projected_gradients(of, pairs, reference, target.projection).double()
    norms = vectors.norm(dim=1)
    vectors /= norms.clamp(min=1e-30)[:, None]
    cosines = -vectors @ (target.projected.double() / target.projected.double().norm().clamp(min=1e-30))
    return {
        "gradient": vectors.half().cpu().numpy(),
        "gradient_norm": norms.cpu().numpy(),
        "gradient_cosine": cosines.cpu().numpy(),
        "gradient_target": -directional_derivatives(of, pairs, reference, target.direction).double().cpu().numpy(),
    }


def task_vector(aligned: LanguageModel, reference: LanguageModel) -> Float[Tensor, " weights"]:
    """The aligned model's weights less the reference's, at length 1.

    Raises:
        InvalidData: Both have the same weights, or not the same shapes.

    Source: Ilharco et al. 2023, "Editing models with task arithmetic", arXiv:2212.04089.
    """
    ends = flat_weights(aligned.model), flat_weights(reference.model)
    if len(ends[0]) != len(ends[1]) or torch.equal(*ends):
        raise InvalidData(
            "expected an aligned model of the reference's shape that was trained further, got "
            + ("the same weights." if len(ends[0]) == len(ends[1]) else f"{len(ends[0])} and {len(ends[1])} weights.")
            + " Give another --aligned, or --train-aligned, to have one trained."
        )
    return unit(ends[0] - ends[1])


def alignment_columns(
    of: PairLoss, direction: Float[Tensor, " weights"], pairs: Sequence[EncodedPair], reference: Reference
) -> dict[str, np.ndarray]:
    """`task_alignment`: cosine of minus each pair's gradient and the task vector, over all weights, float64 [n].

    Args:
        direction: From `task_vector`.
    """
    cosines = [-_cosine(gradient, direction) for gradient in whole_gradients(of, pairs, reference)]
    return {"task_alignment": np.array(cosines, dtype=np.float64)}


def less_checkpoints(
    lm: LanguageModel,
    checkpoints: Sequence[Checkpoint],
    harmful: Sequence[TokenIds],
    harmless: Sequence[TokenIds],
    openings: Sequence[TokenIds],
) -> list[LessCheckpoint]:
    """Prepare `less_columns`: the surrogate's gradients at the warm-up's checkpoints; see `gradient_target`."""
    total = sum(checkpoint.learning_rate for checkpoint in checkpoints)
    prepared = []
    for checkpoint in checkpoints:
        with at_weights(lm.model, checkpoint.weights):
            refusing, over_refusing = (
                unit(refusal_opening_gradient(lm, prompts, openings)[1]) for prompts in (harmful, harmless)
            )
        prepared.append(LessCheckpoint(checkpoint, refusing, over_refusing, checkpoint.learning_rate / total))
    return prepared


def less_columns(
    of: PairLoss, checkpoints: Sequence[LessCheckpoint], pairs: Sequence[EncodedPair], reference: Reference
) -> dict[str, np.ndarray]:
    """Influence of each pair's Adam step on the surrogate, both columns positive where it helps the benchmark.

    Returns:
        `less_harmful`: Cosine of the step on the pair and the gradient of refusing harmful dev prompts, averaged over
            checkpoints by their learning rates, -1 to 1, float64 [n].
        `less_harmless`: The same with minus the gradient of refusing harmless ones.

    Source: Xia et al. 2024 (LESS), arXiv:2402.04333, Definition 3.1, over all weights where the paper projects, and
        with the mean learning rates scaled to sum to 1.
    """
    found = np.zeros((2, len(pairs)))
    for prepared in checkpoints:
        with at_weights(of.lm.model, prepared.checkpoint.weights):
            for i, gradient in enumerate(whole_gradients(of, pairs, reference)):
                step = adam_step(prepared.checkpoint, gradient)
                # The weights move by minus the step.
                cosines = -_cosine(step, prepared.harmful), _cosine(step, prepared.harmless)
                found[:, i] += prepared.share * np.array(cosines)
    return {"less_harmful": found[0], "less_harmless": found[1]}


def _cosine(vector: Tensor, direction: Tensor) -> float:
    """With a direction of length 1; 0 for a vector of zeros."""
    return dot(vector, direction) / max(length(vector), 1e-30)
