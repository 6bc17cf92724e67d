"""Who wants what: users parted among reward models by hard expectation-maximisation.

Each user belongs to the model that explains their pairs best; each model is fitted to its users' pairs. The core takes
any `fit` and any log-likelihood, so its laws are tested on models that are fitted exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Float, Int
from scipy.special import log_expit

from smidgen.errors import InvalidData, UsageError
from smidgen.pairs import random_key

M = TypeVar("M")
# Users' positions to a model of their pairs. Equal users must give an equal model.
Fit = Callable[[Sequence[int]], M]
# A model to the log-likelihood of every user's pairs, summed, nats.
LogLikelihoods = Callable[[M], Float[np.ndarray, " users"]]
Members = Int[np.ndarray, " users"]


@dataclass(frozen=True, slots=True)
class Parting(Generic[M]):
    """Users parted among models.

    Attributes:
        models: One a group.
        members: Each user's group.
        log_likelihoods: Of each user's pairs under each model, [users, groups], nats.
        history: Log-likelihood of all pairs, each under its user's model, after every fit.
        converged: Whether the last assignment changed nothing.
        n_refilled: How often a group had lost all users and was given the one explained worst.
    """

    models: list[M]
    members: Members
    log_likelihoods: Float[np.ndarray, "users groups"]
    history: list[float]
    converged: bool
    n_refilled: int

    @property
    def log_likelihood(self) -> float:
        """Of all pairs, each under its user's model, nats."""
        return _total(self.log_likelihoods, self.members)


def user_log_likelihoods(
    gaps: Float[np.ndarray, " pairs"], users: Int[np.ndarray, " pairs"], n_users: int
) -> Float[np.ndarray, " users"]:
    """Sum of log σ(r_w − r_l) over each user's pairs, nats.

    Args:
        gaps: r_w − r_l of every pair.
        users: Whose pair it is, from 0.
    """
    return np.bincount(users, weights=log_expit(gaps), minlength=n_users)


def part_users(
    fit: Fit[M], log_likelihoods: LogLikelihoods[M], start: Members, *, n_groups: int, rounds: int = 10
) -> Parting[M]:
    """Hard EM: assign every user to the model that explains their pairs best, fit again, until nothing changes.

    With exact fits the likelihood never falls. Of fits that are not exact, the best round's result is returned.

    Args:
        fit: Makes a model of some users' pairs; called again only for groups that changed.
        log_likelihoods: Of every user's pairs under a model.
        start: Each user's group to begin with.
        n_groups: At least 1, at most as many as users.
        rounds: Most fits of each group.

    Raises:
        UsageError: Fewer than one group or round.
        InvalidData: Fewer users than groups.

    Source: Chakraborty et al. 2024, MaxMin-RLHF, arXiv:2402.08925, reward learning by hard EM.
    """
    if n_groups < 1 or rounds < 1:
        raise UsageError(f"expected at least one group and one round, got {n_groups} and {rounds}.")
    if len(start) < n_groups:
        raise InvalidData(f"expected at least {n_groups} users for {n_groups} groups, got {len(start)}; ask for fewer.")
    members, n_refilled = refill(start, np.zeros((len(start), n_groups)))
    models = [fit(_users(members, group)) for group in range(n_groups)]
    table = np.stack([log_likelihoods(model) for model in models], axis=1)
    best = Parting(models, members, table, [], False, n_refilled)
    history, converged = [best.log_likelihood], False
    for _ in range(rounds - 1):
        wanted, n_empty = refill(assign(table, members), table)
        n_refilled += n_empty
        if converged := bool((wanted == members).all()):
            break
        changed = {int(group) for group in np.unique(np.concatenate([wanted, members])[np.tile(wanted != members, 2)])}
        members = wanted
        models = [fit(_users(members, g)) if g in changed else model for g, model in enumerate(models)]
        table = np.stack([log_likelihoods(m) if g in changed else table[:, g] for g, m in enumerate(models)], axis=1)
        history.append(_total(table, members))
        if history[-1] >= best.log_likelihood:
            best = Parting(models, members, table, [], False, n_refilled)
    return Parting(best.models, best.members, best.log_likelihoods, history, converged, n_refilled)


def assign(table: Float[np.ndarray, "users groups"], members: Members) -> Members:
    """Each user's best group; a user whose own is as good stays."""
    own = table[np.arange(len(members)), members]
    return np.where(table.max(1) > own, table.argmax(1), members)


def refill(members: Members, table: Float[np.ndarray, "users groups"]) -> tuple[Members, int]:
    """Give every group without users the user that its own group explains worst, of groups with two or more.

    Returns:
        The new groups, and how many were empty.
    """
    members = members.copy()
    counts = np.bincount(members, minlength=table.shape[1])
    empty = np.flatnonzero(counts == 0)
    for group in empty:
        own = np.where(counts[members] > 1, table[np.arange(len(members)), members], np.inf)
        user = int(own.argmin())
        counts[members[user]] -= 1
        members[user] = group
        counts[group] = 1
    return members, len(empty)


def start_by_fit(per_pair: Float[np.ndarray, " users"], n_groups: int) -> Members:
    """The users whom one model of all pairs explains worse than a coin would, apart from all others.

    A minority that disagrees is what such a model gets wrong, so it begins together, with few others. (Groups of equal
    size part users by how consistent they are instead, and stay so: the sure model of the first explains them best.)
    With more than two groups those users are cut into equal parts, the worst explained last.

    Args:
        per_pair: Mean log-likelihood of each user's pairs under one model of all, nats.
        n_groups: Where fewer users than groups are left for the others, the worst explained are taken.
    """
    members = np.zeros(len(per_pair), dtype=np.int64)
    n_apart = max(n_groups - 1, int((per_pair < -np.log(2)).sum()))
    apart = np.argsort(-per_pair, kind="stable")[len(per_pair) - n_apart :]
    for group, users in enumerate(np.array_split(apart, n_groups - 1) if n_groups > 1 else [], start=1):
        members[users] = group
    return members


def start_at_random(n_users: int, n_groups: int, seed: int | str) -> Members:
    """Groups of equal size, drawn by seed."""
    order = sorted(range(n_users), key=lambda user: random_key(f"maxmin {seed}", user))
    members = np.empty(n_users, dtype=np.int64)
    members[order] = np.arange(n_users) % n_groups
    return members


def _users(members: Members, group: int) -> list[int]:
    return [int(user) for user in np.flatnonzero(members == group)]


def _total(table: Float[np.ndarray, "users groups"], members: Members) -> float:
    return float(table[np.arange(len(members)), members].sum())
