"""What a training does to data that it never sees: the loss; of pairs, how many it ranks rightly, and by how much."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from smidgen.data.tokens import EncodedPair
from smidgen.errors import InvalidData
from smidgen.models.load import LanguageModel
from smidgen.models.logprobs import PairLogps, computing_in, find_layout
from smidgen.models.rows import Layout
from smidgen.training.loop import Objective, Recipe
from smidgen.training.losses import Loss, loss
from smidgen.training.losses.base import log_ratio_difference
from smidgen.training.parts import Batch, split_by_tokens
from smidgen.training.preference import ReferenceLogps, check_objective, collate_pairs, pair_logps

# Two passes of one model over one pair differ by about this much in float32, summed nats, by how they were batched.
_TIE_NATS = 1e-4


def heldout_measure(
    lm: LanguageModel,
    pairs: Sequence[EncodedPair],
    reference: Sequence[ReferenceLogps] | None,
    *,
    objective: str | Loss,
    recipe: Recipe,
    layout: Layout | None = None,
) -> Callable[[nn.Module], dict[str, float]]:
    """Make what an `Evaluation` measures on held-out pairs, given the scorer that is being trained.

    Args:
        pairs: At least one, none of them trained on.
        reference: As for `train_preference`; None for a loss that needs none.
        objective: The loss that is trained on.
        recipe: As trained with; its type of computation and its largest part are taken.

    Returns:
        A function of the scorer that returns `heldout_loss` (mean over pairs), `heldout_accuracy` (share of pairs whose
        chosen answer is above, half for ties) and `heldout_margin_nats`, the mean difference of the summed log-ratios,
        not times beta. Without a reference, log-probabilities take the log-ratios' place. A loss that compares the
        pairs of a batch, such as KTO's, compares those of a part of at most `recipe.micro_batch_tokens` tokens.

    Raises:
        InvalidData: No pairs, or scores that the loss needs and the pairs lack.
        UsageError: Unknown loss or setting.
    """
    if not pairs:
        raise InvalidData("expected at least one held-out pair, got none; check what the data checks dropped.")
    bound = loss.bind(objective)
    check_objective(bound, pairs)
    layout = layout or find_layout(lm.model)
    lengths = [len(p.prompt) + len(p.chosen) + len(p.rejected) for p in pairs]
    parts = split_by_tokens(sorted(range(len(pairs)), key=lengths.__getitem__), lengths, recipe.micro_batch_tokens)

    def measure(scorer: nn.Module) -> dict[str, float]:
        losses, margins = [], []
        for part in parts:
            values = None if reference is None else [reference[i] for i in part]
            batch = collate_pairs([pairs[i] for i in part], values, layout=layout).to(lm.device)
            with computing_in(recipe.dtype, lm.device):
                logps = pair_logps(scorer, batch)
            losses.append(bound(logps))
            margins.append(_log_ratio_difference(logps))
        margin = torch.cat(margins)
        right = torch.where(margin.abs() <= _TIE_NATS, 0.5, (margin > 0).float())
        found = torch.stack([torch.cat(losses).mean(), right.mean(), margin.mean()]).tolist()
        return dict(zip(("heldout_loss", "heldout_accuracy", "heldout_margin_nats"), found, strict=True))

    return measure


def heldout_loss(
    objective: Objective,
    collate: Callable[[list[int]], Batch],
    lengths: Sequence[int],
    *,
    recipe: Recipe,
    device: torch.device,
) -> Callable[[nn.Module], dict[str, float]]:
    """Make a measure of any objective's loss on held-out examples.

    Args:
        collate: Makes one batch of the examples at these positions, on `device`.
        lengths: Of the examples, in tokens.

    Returns:
        A function of the scorer that returns `heldout_loss`, the mean over examples by their weights.
    """
    parts = split_by_tokens(sorted(range(len(lengths)), key=lengths.__getitem__), lengths, recipe.micro_batch_tokens)

    def measure(scorer: nn.Module) -> dict[str, float]:
        total = weight = 0.0
        for part in parts:
            batch = collate(part)
            with computing_in(recipe.dtype, device):
                total += float(objective(scorer, batch).loss) * batch.weight
            weight += batch.weight
        return {"heldout_loss": total / weight}

    return measure


def _log_ratio_difference(logps: PairLogps) -> Tensor:
    if logps.ref_chosen is None:
        return logps.policy_chosen.sum() - logps.policy_rejected.sum()
    return log_ratio_difference(logps)
