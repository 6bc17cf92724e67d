"""Gradients of a preference loss, pair by pair: projected, along directions, or whole, at whatever weights a model has.

Every pair's loss is taken alone, so no result depends on which pairs share a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import forward_ad

from smidgen.data.tokens import EncodedPair
from smidgen.models.load import LanguageModel
from smidgen.models.logprobs import AnswerLogps, PairLogps, TokenLogps, find_layout, functional_logps
from smidgen.models.projection import Projection, group_tokens, watched
from smidgen.models.rows import Layout, token_budget_batches
from smidgen.models.weight_space import by_name, flat_gradient
from smidgen.training.losses import Loss, loss
from smidgen.training.preference import PairBatch, ReferenceLogps, collate_pairs, pair_logps


@dataclass(frozen=True, slots=True)
class PairLoss:
    """A loss on pairs at the weights that `lm` has when it is asked.

    Attributes:
        function: Of pairs' log-probabilities, one value a pair.
        layout: Of the rows, one that the model takes.
        batch_tokens: Most tokens computed at one time.
    """

    lm: LanguageModel
    function: Loss
    layout: Layout
    batch_tokens: int = 4096

    def batches(
        self, pairs: Sequence[EncodedPair], reference: Sequence[ReferenceLogps] | None
    ) -> Iterator[tuple[list[int], PairBatch]]:
        """Pairs of similar length together, with their positions in `pairs`."""
        lengths = [len(p.prompt) + len(p.chosen) + len(p.rejected) for p in pairs]
        for part in token_budget_batches(lengths, self.batch_tokens, padded=self.layout != "packed"):
            values = None if reference is None else [reference[i] for i in part]
            yield part, collate_pairs([pairs[i] for i in part], values, layout=self.layout).to(self.lm.device)


def pair_loss(lm: LanguageModel, objective: str | Loss = "dpo", *, layout: Layout | None = None) -> PairLoss:
    """A registered loss with its settings, or a loss itself, on `lm`.

    Raises:
        UsageError: Unknown loss or setting.
    """
    return PairLoss(lm, loss.bind(objective), layout or find_layout(lm.model))


def projected_gradients(
    of: PairLoss,
    pairs: Sequence[EncodedPair],
    reference: Sequence[ReferenceLogps] | None,
    projection: Projection,
) -> Float[Tensor, "pairs dimensions"]:
    """Each pair's gradient under the projection, float32, from one backward pass a batch.

    Args:
        reference: Per-token values of each pair; None for a loss that needs none.
        projection: Of the model's layers; weights outside them count as fixed.
    """
    result = torch.empty(len(pairs), projection.dimensions, device=of.lm.device)
    scorer = AnswerLogps(of.lm.model, of.layout)
    for part, batch in of.batches(pairs, reference):
        with watched(of.lm.model, projection) as passes:
            losses = _each_alone(of.function, pair_logps(scorer, batch))
        result[part] = passes.gradients(losses, group_tokens(batch.rows, 2))
    return result


@torch.no_grad()
def directional_derivatives(
    of: PairLoss,
    pairs: Sequence[EncodedPair],
    reference: Sequence[ReferenceLogps] | None,
    direction: Float[Tensor, " weights"],
) -> Float[Tensor, " pairs"]:
    """<gradient of each pair's loss, direction> over all weights, float32: one forward-mode pass, no gradient built.

    Args:
        direction: In weight space, see `models.weight_space`.
    """
    model = of.lm.model
    along = by_name(model, direction)
    result = torch.empty(len(pairs), device=of.lm.device)
    for part, batch in of.batches(pairs, reference):
        with forward_ad.dual_level():
            weights = {n: forward_ad.make_dual(p.detach(), along[n]) for n, p in model.named_parameters()}
            policy = functional_logps(of.lm, of.layout, weights, batch.rows)
            losses = _each_alone(of.function, pair_logps(lambda rows, found=policy: found, batch))
            slopes = forward_ad.unpack_dual(losses).tangent
            result[part] = torch.zeros_like(losses) if slopes is None else slopes
    return result


def whole_gradients(
    of: PairLoss, pairs: Sequence[EncodedPair], reference: Sequence[ReferenceLogps] | None
) -> Iterator[Float[Tensor, " weights"]]:
    """Each pair's gradient over all weights, float32, from a backward pass of its own; in the order of `pairs`."""
    scorer = AnswerLogps(of.lm.model, of.layout)
    for i, pair in enumerate(pairs):
        batch = collate_pairs([pair], None if reference is None else [reference[i]], layout=of.layout)
        value = of.function(pair_logps(scorer, batch.to(of.lm.device))).sum()
        yield flat_gradient(value, of.lm.model)


def _each_alone(function: Callable[[PairLogps], Tensor], logps: PairLogps) -> Float[Tensor, " pairs"]:
    """A few losses look at the pairs beside, which here share a batch by their length only."""
    return torch.cat([function(_one(logps, i)) for i in range(len(logps.policy_chosen.mask))])


def _one(logps: PairLogps, i: int) -> PairLogps:
    def row(value: Tensor | TokenLogps | None) -> Tensor | TokenLogps | None:
        if isinstance(value, TokenLogps):
            return TokenLogps(value.values[i : i + 1], value.mask[i : i + 1])
        return None if value is None else value[i : i + 1]

    return PairLogps(**{f.name: row(getattr(logps, f.name)) for f in fields(logps)})  # pyright: ignore[reportArgumentType]
