"""Reward models from pairs: the Bradley–Terry objective, with margins, centring and weights, for the one loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Unpack

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from smidgen.data.checks import Quarantined
from smidgen.data.templates import Template
from smidgen.errors import InvalidData, UsageError
from smidgen.models.logprobs import computing_in
from smidgen.models.reward_model import PaddedRows, RewardModel, RowRewards
from smidgen.models.rows import Tokens
from smidgen.pairs import PreferencePair
from smidgen.training.loop import Around, LossTerms, Objective, Recipe, TrainingLog, draw_batches, train, trainable
from smidgen.training.parts import Parts, split_by_tokens, step_parts

_NAMED_PAIRS = 5


def bradley_terry(
    chosen_reward: Float[Tensor, " pairs"],
    rejected_reward: Float[Tensor, " pairs"],
    *,
    margin: Tensor | float = 0.0,
    centring: float = 0.0,
) -> Float[Tensor, " pairs"]:
    """Negative log-likelihood of the preferences, where the better answer wins with probability σ(r_w − r_l).

    Args:
        chosen_reward: r_w, nats.
        rejected_reward: r_l, nats.
        margin: m, by how much r_w is to be above r_l beyond that; one number, or one a pair.
        centring: c, the pull of rewards to a mean of 0, which the preferences leave open. At least 0.

    Returns:
        −log σ(r_w − r_l − m) + c (r_w + r_l)², shape [pairs], never reduced.

    Source: Bradley & Terry 1952, Biometrika 39:324; Ouyang et al. 2022, arXiv:2203.02155, Eq. 1. Margin: Touvron et al.
        2023, arXiv:2307.09288, Eq. 2. Centring: Eisenstein et al. 2023, arXiv:2312.09244; TRL's
        `center_rewards_coefficient`.

    >>> round(float(bradley_terry(torch.tensor(0.5), torch.tensor(0.8))), 6)
    0.854355
    """
    return -logsigmoid(chosen_reward - rejected_reward - margin) + centring * (chosen_reward + rejected_reward) ** 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardPair:
    """A pair as a reward model reads it: two whole conversations as token ids.

    Attributes:
        margin: See `bradley_terry`.
        weight: How often the pair counts, above 0.
    """

    idx: int
    chosen: Tokens
    rejected: Tokens
    margin: float = 0.0
    weight: float = 1.0

    @property
    def n_tokens(self) -> int:
        return len(self.chosen) + len(self.rejected)


@dataclass(frozen=True, slots=True)
class RewardBatch:
    """Pairs of one step: the chosen conversations' rows, then the rejected ones'.

    Attributes:
        margin: [pairs].
        share: Of each pair in the batch's mean, [pairs], summing to 1.
        weight: Of all pairs together.
        idx: Of each pair, [pairs].
    """

    rows: PaddedRows
    margin: Tensor
    share: Tensor
    weight: float
    idx: Tensor

    def __len__(self) -> int:
        return len(self.margin)

    def to(self, device: torch.device) -> RewardBatch:
        """The same on `device`."""
        return replace(self, rows=self.rows.to(device), margin=self.margin.to(device), share=self.share.to(device))


def reward_pairs(
    rm: RewardModel,
    pairs: Sequence[PreferencePair],
    template: Template,
    *,
    margin_scale: float = 0.0,
    max_length: int | None = None,
) -> tuple[list[RewardPair], list[Quarantined]]:
    """Encode pairs, with what the data says of them; those that are too long, or have equal tokens, are quarantined.

    Args:
        pairs: Checked pairs; a column `weight`, where there is one, says how often each counts.
        template: How a conversation becomes text.
        margin_scale: Margin of one unit of score: times the data's chosen_score less its rejected_score. At least 0,
            which leaves scores alone. A rejected answer that scores higher has a margin below 0.
        max_length: Most tokens of a conversation, where that is below what the model takes.

    Returns:
        The encoded pairs in the order given, and the quarantined ones; `line` there is one past the pair's source_row.

    Raises:
        UsageError: A margin_scale out of range.
        InvalidData: Margins without scores, or a weight that is no number above 0.
    """
    if not (margin_scale >= 0 and isfinite(margin_scale)):
        raise UsageError(f"expected margin_scale of at least 0, got {margin_scale}; 0 trains without margins.")
    margins = [0.0] * len(pairs)
    if margin_scale:
        scores = [_numbers(pairs, name) for name in ("chosen_score", "rejected_score")]
        margins = [margin_scale * (better - worse) for better, worse in zip(*scores, strict=True)]
    weighted = any("weight" in pair.meta for pair in pairs)
    weights = _numbers(pairs, "weight", above=0.0) if weighted else [1.0] * len(pairs)
    prompts = [pair.prompt for pair in pairs]
    chosen, rejected = (
        rm.encode(prompts, [message.content for (message,) in answers], template)
        for answers in ([pair.chosen for pair in pairs], [pair.rejected for pair in pairs])
    )
    encoded: list[RewardPair] = []
    quarantined: list[Quarantined] = []
    for i, pair in enumerate(pairs):
        whole = RewardPair(idx=pair.idx, chosen=chosen[i], rejected=rejected[i], margin=margins[i], weight=weights[i])
        if problem := _problem(whole, min(rm.max_tokens, max_length or rm.max_tokens)):
            quarantined.append(Quarantined(pair.source, pair.source_row + 1, pair.idx, *problem))
        else:
            encoded.append(whole)
    return encoded, quarantined


def pair_rewards(
    rm: RewardModel, pairs: Sequence[RewardPair]
) -> tuple[Float[np.ndarray, " pairs"], Float[np.ndarray, " pairs"]]:
    """Rewards of the chosen and of the rejected answers, float64."""
    rewards = rm.score_rows([row for pair in pairs for row in (pair.chosen, pair.rejected)])
    return rewards[::2], rewards[1::2]


def collate_reward_pairs(rm: RewardModel, pairs: Sequence[RewardPair]) -> RewardBatch:
    """One batch of pairs."""
    weights = torch.tensor([pair.weight for pair in pairs])
    return RewardBatch(
        rm.pad([pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]),
        margin=torch.tensor([pair.margin for pair in pairs]),
        share=weights / weights.sum(),
        weight=float(weights.sum()),
        idx=torch.tensor([pair.idx for pair in pairs]),
    )


def reward_objective(*, centring: float = 0.0) -> Objective:
    """The mean of `bradley_terry` over a batch, pairs counting by their weights.

    Raises:
        UsageError: A negative centring.
    """
    if not (centring >= 0 and isfinite(centring)):
        raise UsageError(f"expected centring of at least 0, got {centring}; 0 leaves the rewards' mean open.")

    def objective(scorer: nn.Module, batch: RewardBatch) -> LossTerms:
        chosen, rejected = scorer(batch.rows).chunk(2)
        values = bradley_terry(chosen, rejected, margin=batch.margin, centring=centring)
        return LossTerms((values * batch.share).sum(), batch.rows.n_tokens)

    return objective


def train_reward(
    rm: RewardModel,
    pairs: Sequence[RewardPair],
    *,
    recipe: Recipe,
    seed: int,
    centring: float = 0.0,
    **around: Unpack[Around],
) -> TrainingLog:
    """Train `rm` in place on pairs.

    Args:
        pairs: At least one.
        seed: Decides the order of the pairs; nothing else is random.
        centring: See `bradley_terry`.

    Raises:
        UsageError: A setting out of range, or an adapter asked for: a new head is learned as a whole.
        InvalidData: No pairs.
    """
    objective = reward_objective(centring=centring)
    if recipe.lora_rank:
        raise UsageError(
            f"expected lora_rank 0 for a reward model, whose new head no adapter can stand in for, got "
            f"{recipe.lora_rank}. Leave it out: all weights are trained."
        )
    if not pairs:
        raise InvalidData("expected at least one pair to train on, got none; check what the data checks left out.")
    steps, lengths = recipe.total_steps(len(pairs)), [pair.n_tokens for pair in pairs]
    drawn = draw_batches([p.idx for p in pairs], lengths, batch_size=recipe.batch_size, steps=steps, seed=seed)

    def one_batch(part: list[int]) -> RewardBatch:
        return collate_reward_pairs(rm, [pairs[i] for i in part]).to(rm.lm.device)

    def batches(first: int) -> Iterator[Parts[RewardBatch]]:
        for examples in drawn[first:]:
            yield step_parts(examples, lengths, recipe, one_batch)

    with trainable(rm.lm, recipe, seed):
        return train(RowRewards(rm.lm.model), objective, batches, recipe=recipe, steps=steps, **around)


def heldout_rewards(
    rm: RewardModel, pairs: Sequence[RewardPair], *, recipe: Recipe, centring: float = 0.0
) -> Callable[[nn.Module], dict[str, float]]:
    """Make a measure on held-out pairs, given the scorer that is being trained.

    Args:
        pairs: At least one, none of them trained on.
        recipe: As trained with; its type of computation and its largest part are taken.

    Returns:
        A function of the scorer that returns `heldout_loss` (mean over pairs by their weights), `heldout_accuracy`
        (share of pairs whose chosen answer is above, half for ties) and `heldout_margin_nats`, the mean r_w − r_l.

    Raises:
        InvalidData: No pairs.
    """
    if not pairs:
        raise InvalidData("expected at least one held-out pair, got none; check what the data checks left out.")
    lengths, weight = [pair.n_tokens for pair in pairs], sum(pair.weight for pair in pairs)

    def measure(scorer: nn.Module) -> dict[str, float]:
        losses, margins = [], []
        for part in split_by_tokens(range(len(pairs)), lengths, recipe.micro_batch_tokens):
            batch = collate_reward_pairs(rm, [pairs[i] for i in part]).to(rm.lm.device)
            with computing_in(recipe.dtype, rm.lm.device):
                chosen, rejected = scorer(batch.rows).chunk(2)
            values = bradley_terry(chosen, rejected, margin=batch.margin, centring=centring)
            losses.append((values * batch.share).sum() * batch.weight / weight)
            margins.append(chosen - rejected)
        margin = torch.cat(margins)
        right = torch.where(margin == 0, 0.5, (margin > 0).float())
        found = torch.stack([torch.stack(losses).sum(), right.mean(), margin.mean()]).tolist()
        return dict(zip(("heldout_loss", "heldout_accuracy", "heldout_margin_nats"), found, strict=True))

    return measure


def _problem(pair: RewardPair, most: int) -> tuple[str, str] | None:
    """Reason and detail where an encoded pair cannot be trained on."""
    longest = max(len(pair.chosen), len(pair.rejected))
    if longest > most:
        return "over_long", f"{longest} tokens, above {most}"
    if pair.chosen == pair.rejected:
        return "equal_tokens", "both answers have the same token ids"
    return None


def _numbers(pairs: Sequence[PreferencePair], column: str, *, above: float = float("-inf")) -> list[float]:
    """A column of finite numbers, also as a table's text cells; InvalidData, naming the pairs, where it is none."""
    found = [_number(pair.meta.get(column)) for pair in pairs]
    if lacking := [pair.idx for pair, value in zip(pairs, found, strict=True) if value is None or value <= above]:
        listed = ", ".join(map(str, lacking[:_NAMED_PAIRS])) + (", …" if len(lacking) > _NAMED_PAIRS else "")
        kind = f"a number above {above:g}" if isfinite(above) else "a finite number"
        raise InvalidData(
            f"expected {kind} in the column {column} of every pair, got {len(lacking)} of {len(pairs)} pairs without "
            f"(idx {listed}). Correct or leave out these rows, or drop the column."
        )
    return [value for value in found if value is not None]


def _number(value: object) -> float | None:
    try:
        number = float(value) if isinstance(value, str | int | float) else None
    except (ValueError, OverflowError):
        return None
    return number if number is not None and isfinite(number) else None
