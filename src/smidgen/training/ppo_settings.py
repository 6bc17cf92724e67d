"""The settings of proximal policy optimisation; its values are the published ones, see docs/ppo.md for each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, PositiveInt

from smidgen.errors import UsageError
from smidgen.settings import Share, check_ranges
from smidgen.training.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class PPOSettings:
    """What proximal policy optimisation adds to a recipe, whose batch size is that of its minibatches, in answers.

    Attributes:
        kl_coef: β, the price of a nat of KL to the reference; where it starts, if there is a target.
        kl_target: KL to the reference that β is adapted to, nats an answer; 0 keeps β as it is.
        kl_gain: How fast β is adapted.
        clip: ε of the policy's ratio.
        value_clip: ε of the values.
        value_coef: Weight of the value loss.
        gamma: Discount of later rewards.
        lam: λ of the generalised advantage estimates.
        normalise_scores: Shift and scale scores so that the first rollout, of the model as it starts, has mean 0
            and variance 1: for reward models, whose zero and unit mean nothing.
        whiten_rewards: Scale token rewards to variance 1, in each rollout.
        adam_epsilon: Added to the denominator of AdamW's step.
        missing_end_penalty: Taken off the score, normalised or not, of an answer that has not ended in time.
        rollout_size: Answers sampled before the policy moves.
        rollout_epochs: Passes over them.
        max_new_tokens: Longest answer.

    Raises:
        UsageError: A number out of its range.
    """

    kl_coef: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.05
    kl_target: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 6.0
    kl_gain: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1
    clip: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.2
    value_clip: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.2
    value_coef: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1
    gamma: Share = 1.0
    lam: Share = 0.95
    normalise_scores: bool = False
    whiten_rewards: bool = True
    adam_epsilon: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-5
    missing_end_penalty: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    rollout_size: PositiveInt = 64
    rollout_epochs: PositiveInt = 4
    max_new_tokens: PositiveInt = 64

    def __post_init__(self) -> None:
        check_ranges(self)

    def examples(self, n_prompts: int) -> int:
        """Answers that a pass over the prompts learns from, each as often as it is learned from."""
        return n_prompts * self.rollout_epochs

    def steps_per_rollout(self, recipe: Recipe) -> int:
        """Optimiser steps from one rollout to the next.

        Raises:
            UsageError: A minibatch that is larger than a rollout.
        """
        if recipe.batch_size > self.rollout_size:
            raise UsageError(
                f"expected a batch_size of at most rollout_size {self.rollout_size}, got {recipe.batch_size}; "
                "a step is made on a part of a rollout."
            )
        return self.rollout_epochs * math.ceil(self.rollout_size / recipe.batch_size)
