"""Reward models for `part_users`: how one is fitted to some users' pairs, and what it makes of everybody's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from smidgen.errors import InvalidData
from smidgen.models.reward_model import RewardModel
from smidgen.pairs import Scalar
from smidgen.training.loop import Recipe, TrainingLog
from smidgen.training.maxmin import Fit, LogLikelihoods, user_log_likelihoods
from smidgen.training.reward import RewardPair, pair_rewards, train_reward

_NAMED_PAIRS = 5
# Called after every fit: how many users and pairs it was on, and its training's log.
OnFit = Callable[[int, int, TrainingLog], None]


def column_of(meta: Sequence[Mapping[str, Scalar]], pairs: Sequence[RewardPair], column: str) -> list[str]:
    """Whose each pair is, as text.

    Raises:
        InvalidData: Pairs without this column, or with nothing in it.
    """
    lacking = [p.idx for p, columns in zip(pairs, meta, strict=True) if columns.get(column) in (None, "")]
    if lacking:
        listed = ", ".join(map(str, lacking[:_NAMED_PAIRS])) + (", …" if len(lacking) > _NAMED_PAIRS else "")
        found = ", ".join(sorted({name for columns in meta for name in columns})) or "none"
        raise InvalidData(
            f"expected every pair to say whose it is in the column {column!r}, got {len(lacking)} of {len(pairs)} "
            f"without (idx {listed}); further columns in the data: {found}. Name another column, or add this one."
        )
    return [str(columns[column]) for columns in meta]


def fitting(
    start: Callable[[], RewardModel],
    pairs: Sequence[RewardPair],
    users: Int[np.ndarray, " pairs"],
    *,
    recipe: Recipe,
    seed: int,
    centring: float = 0.0,
    on_fit: OnFit | None = None,
) -> tuple[Fit[RewardModel], LogLikelihoods[RewardModel]]:
    """What hard EM asks of reward models; every fit begins anew, so that it depends on its users alone.

    Args:
        start: Makes the model that every fit begins with, always the same.
        pairs: Everybody's.
        users: Whose each is, from 0.
        recipe: Of each fit; by epochs, fits of few users are short.
        seed: Of the order of pairs.
        centring: See `bradley_terry`.
        on_fit: Called after every fit.
    """
    n_users = int(users.max()) + 1

    def fit(members: Sequence[int]) -> RewardModel:
        rm = start()
        wanted = set(members)
        own = [pair for pair, user in zip(pairs, users, strict=True) if int(user) in wanted]
        log = train_reward(rm, own, recipe=recipe, seed=seed, centring=centring)
        if on_fit:
            on_fit(len(members), len(own), log)
        return rm

    def log_likelihoods(rm: RewardModel) -> Float[np.ndarray, " users"]:
        chosen, rejected = pair_rewards(rm, pairs)
        return user_log_likelihoods(chosen - rejected, users, n_users)

    return fit, log_likelihoods
