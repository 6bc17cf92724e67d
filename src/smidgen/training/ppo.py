"""Proximal policy optimisation: sample answers, score them, move towards the better ones, stay near the reference.

Policy and value head share one trunk: one pass a step gives both, one model is in memory, and an adapter serves both.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Unpack

import torch
from torch import Tensor, nn

from smidgen.errors import InvalidData, UsageError
from smidgen.models.adapters import adapter_off
from smidgen.models.load import LanguageModel
from smidgen.models.logprobs import AnswerLogps, TokenLogps, find_layout
from smidgen.models.rewards import Reward
from smidgen.models.rows import Layout, RowBatch, collate_rows, row_lengths
from smidgen.models.values import ValuedAnswers
from smidgen.pairs import random_key
from smidgen.training.advantages import (
    adapted_kl_coef,
    clipped_policy_loss,
    clipped_value_loss,
    explained_variance,
    gae,
    is_clipped,
    kl_tokens,
    masked_mean,
    token_rewards,
    whiten,
)
from smidgen.training.loop import Around, LossTerms, Objective, Recipe, TrainingLog, draw_batches, train, trainable
from smidgen.training.parts import Parts, step_parts
from smidgen.training.ppo_settings import PPOSettings
from smidgen.training.rollouts import Prompt, Reference, Rollout, roll_out


@dataclass(frozen=True, slots=True)
class PPOBatch:
    """Answers of one step; all but the rows are [answers, tokens], without gradient.

    Attributes:
        weight: Answer tokens, which the loss is a mean over.
    """

    rows: RowBatch
    old_logps: Tensor
    old_values: Tensor
    advantages: Tensor
    returns: Tensor
    weight: float

    def __len__(self) -> int:
        return len(self.rows.answer_mask)


class Diary:
    """The log's rows, with everything noted since the row before; numbers stay on the device until a row is written.

    Args:
        on_log: Called with every row.
    """

    def __init__(self, on_log: Callable[[dict[str, float]], None] | None = None) -> None:
        self.rows: list[dict[str, float]] = []
        self._on_log = on_log
        self._noted: dict[str, list[Tensor]] = defaultdict(list)

    def note(self, numbers: Mapping[str, Tensor | float]) -> None:
        """Of numbers noted several times, the row gets the mean."""
        for name, value in numbers.items():
            number = value.detach().double() if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
            self._noted[name].append(number)

    def write(self, row: dict[str, float]) -> None:
        """Complete a row of the loop's."""
        row.update({name: float(torch.stack(numbers).mean()) for name, numbers in self._noted.items()})
        self._noted.clear()
        # A row between two rollouts, such as an evaluation's, says nothing of either.
        if "kl" in row:
            self.rows.append(row)
        if self._on_log:
            self._on_log(row)


def ppo_objective(settings: PPOSettings, diary: Diary) -> Objective:
    """Clipped policy loss plus weighted clipped value loss, each a mean over the batch's tokens."""

    def objective(policy: nn.Module, batch: PPOBatch) -> LossTerms:
        logps, values = policy(batch.rows)
        ratio_of = (logps.values, batch.old_logps, batch.advantages)
        policy_loss = masked_mean(clipped_policy_loss(*ratio_of, clip=settings.clip), logps.mask)
        value_losses = clipped_value_loss(values, batch.old_values, batch.returns, clip=settings.value_clip)
        value_loss = masked_mean(value_losses, logps.mask)
        clipped = masked_mean(is_clipped(*ratio_of, clip=settings.clip).float(), logps.mask)
        diary.note({"policy_loss": policy_loss, "value_loss": value_loss, "clip_fraction": clipped})
        return LossTerms(policy_loss + settings.value_coef * value_loss, batch.rows.n_tokens)

    return objective


def advantages_of(
    rollout: Rollout, settings: PPOSettings, *, kl_coef: float, first: Mapping[str, float] | None = None
) -> tuple[Tensor, Tensor]:
    """Whitened advantages, and returns, of a rollout's tokens, [answers, tokens].

    Args:
        first: `measures` of the run's first rollout, by which scores are normalised; None for this one.
    """
    scores = rollout.scores
    if settings.normalise_scores:
        mean, error = (first["reward"], first["reward_standard_error"]) if first else _spread_of(scores)
        scores = (scores - mean) / max(error * math.sqrt(len(scores)), 1e-6)
    scores = scores - settings.missing_end_penalty * ~rollout.ended
    rewards = token_rewards(rollout.policy, rollout.ref, rollout.mask, scores, kl_coef=kl_coef)
    if settings.whiten_rewards:
        rewards = whiten(rewards, rollout.mask, shift_mean=False)
    advantages, returns = gae(rewards, rollout.values, rollout.mask, gamma=settings.gamma, lam=settings.lam)
    return whiten(advantages, rollout.mask, shift_mean=True), returns


def _spread_of(scores: Tensor) -> tuple[float, float]:
    """Mean, and its standard error, 0 for a single score."""
    return float(scores.mean()), float(scores.std()) / math.sqrt(len(scores)) if len(scores) > 1 else 0.0


def measures(rollout: Rollout, returns: Tensor) -> dict[str, Tensor | float]:
    """What the log says of a rollout: scores as the reward gave them, KL and lengths as means over answers.

    Entropy is a mean over tokens, estimated by −log π of what was sampled.
    """
    mask, (reward, standard_error) = rollout.mask, _spread_of(rollout.scores)
    kl = {name: kl_tokens(rollout.policy, rollout.ref, estimator=name).sum(-1).mean() for name in ("k1", "k3")}
    return {
        "reward": reward,
        "reward_standard_error": standard_error,
        "kl": kl["k1"],
        "kl_k3": kl["k3"],
        "entropy": masked_mean(-rollout.policy, mask),
        "explained_variance": explained_variance(rollout.values, returns, mask),
        "answer_tokens": mask.sum(-1).float().mean(),
        "ended": rollout.ended.float().mean(),
    }


def train_ppo(
    lm: LanguageModel,
    prompts: Sequence[Prompt],
    reward: Reward,
    *,
    settings: PPOSettings,
    recipe: Recipe,
    seed: int,
    value_head: Tensor | None = None,
    lead: str = " ",
    layout: Layout | None = None,
    on_rollout: Callable[[int, Rollout], None] | None = None,
    **around: Unpack[Around],
) -> TrainingLog:
    """Train `lm` in place to be rewarded; it starts as its own reference.

    The log has one row a rollout, which also holds `measures`, losses, clip fraction and β. Checkpoints are written
    between rollouts only.

    Args:
        prompts: At least one; every pass takes them in a new order.
        reward: Scores prompts and answer texts.
        recipe: Its epochs are passes over the prompts.
        seed: Decides the order of prompts and answers, and what is sampled.
        value_head: Where the value head starts, [width], such as a reward model's; zeros where None or of another
            width.
        lead: What the template writes between prompt and answer, which is no part of what the reward reads.
        on_rollout: Called with every rollout and its number, from 0, before it is learned from.

    Raises:
        InvalidData: No prompts, one that leaves no room to answer in, or a reward that is no finite number.
        UsageError: A minibatch that is larger than a rollout, or weights to be divided among processes.
    """
    if not prompts:
        raise InvalidData("expected at least one prompt to answer, got none; check what was left out for its length.")
    if around.get("shard"):
        raise UsageError(
            "expected shard=False, got True: answers are sampled from whole weights. Train with copies (DDP)."
        )
    layout = layout or find_layout(lm.model)
    per_rollout = settings.steps_per_rollout(recipe)
    steps = recipe.total_steps(settings.examples(len(prompts)))
    policy = ValuedAnswers(AnswerLogps(lm.model, layout), value_head)
    diary = Diary(around.get("on_log"))
    around["on_log"] = diary.write
    if keep := around.get("keep"):
        around["keep"] = replace(keep, at=lambda step: step % per_rollout == 0)

    with _reference(lm, layout, recipe) as reference, trainable(lm, recipe, seed):

        def answer(asked: Sequence[Prompt], number: int) -> Rollout:
            rollout = roll_out(
                lm, policy, reference, reward, asked,
                layout=layout, max_new_tokens=settings.max_new_tokens, seed=random_key(f"{seed}/answers", number),
                lead=lead, dtype=recipe.dtype, batch_tokens=recipe.micro_batch_tokens,
            )  # fmt: skip
            if on_rollout:
                on_rollout(number, rollout)
            return rollout

        def batches(start: int) -> Iterator[Parts[PPOBatch]]:
            """Every step's batch; a rollout is made when the steps on the one before it are done."""
            size = settings.rollout_size
            for step in range(start, steps, per_rollout):
                number, kl_coef = step // per_rollout, next_kl_coef(diary.rows, settings)
                rollout = answer([prompts[i] for i in _asked(len(prompts), number, size, seed)], number)
                first = diary.rows[0] if diary.rows else None
                advantages, returns = advantages_of(rollout, settings, kl_coef=kl_coef, first=first)
                diary.note({**measures(rollout, returns), "kl_coef": kl_coef})
                now, key = min(per_rollout, steps - step), random_key(f"{seed}/steps", number)
                yield from _minibatches(rollout, advantages, returns, layout, recipe, now, key)

        objective = ppo_objective(settings, diary)
        around["log_every"] = per_rollout
        eps = settings.adam_epsilon
        return train(policy, objective, batches, recipe=recipe, steps=steps, adam_epsilon=eps, **around)


def next_kl_coef(rows: Sequence[Mapping[str, float]], settings: PPOSettings) -> float:
    """β for the next rollout, from the log's rows so far, one a rollout."""
    if not rows:
        return settings.kl_coef
    last = rows[-1]
    if not settings.kl_target:
        return last["kl_coef"]
    return adapted_kl_coef(last["kl_coef"], last["kl"], target=settings.kl_target, gain=settings.kl_gain)


@contextmanager
def _reference(lm: LanguageModel, layout: Layout, recipe: Recipe) -> Iterator[Reference]:
    """The model as it starts: itself with its adapter off, or a frozen copy."""
    if recipe.lora_rank:
        own = AnswerLogps(lm.model, layout)

        def without_adapter(rows: RowBatch) -> TokenLogps:
            with adapter_off(lm):
                return own(rows)

        yield without_adapter
    else:
        yield AnswerLogps(copy.deepcopy(lm.model).requires_grad_(False), layout)


def _minibatches(
    rollout: Rollout, advantages: Tensor, returns: Tensor, layout: Layout, recipe: Recipe, steps: int, seed: int
) -> Iterator[Parts[PPOBatch]]:
    """So many steps on a rollout, pass after pass over its answers, each pass in an order of its own."""
    tokens, groups = [p.tokens for p in rollout.prompts], [(answer,) for answer in rollout.answers]
    lengths = row_lengths(tokens, groups)

    def one_batch(part: list[int]) -> PPOBatch:
        rows = collate_rows([tokens[i] for i in part], [groups[i] for i in part], layout=layout)
        width = rows.answer_mask.shape[1]
        columns = (x[part, :width] for x in (rollout.policy, rollout.values, advantages, returns))
        return PPOBatch(rows.to(rollout.mask.device), *columns, weight=len(rows.targets))

    for examples in draw_batches(range(len(rollout)), lengths, batch_size=recipe.batch_size, steps=steps, seed=seed):
        yield step_parts(examples, lengths, recipe, one_batch)


def _asked(n: int, number: int, size: int, seed: int) -> list[int]:
    """Positions of a rollout's prompts: pass after pass over all of them, each pass in an order of its own."""
    passes = range(number * size // n, ((number + 1) * size - 1) // n + 1)
    orders = [sorted(range(n), key=lambda i: random_key(f"{seed}/prompts/{p}", i)) for p in passes]
    start = number * size - passes[0] * n
    return [i for order in orders for i in order][start : start + size]
