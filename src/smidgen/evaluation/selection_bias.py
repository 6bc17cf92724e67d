"""The winner's curse: how much better the chosen of many candidates looks than it is, on what it was chosen by.

Pure functions of arrays. Whoever is chosen for a high estimate owes part of it to luck; by how much depends on how
many were in the race, how close they were, and how noisy the estimates are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from smidgen.evaluation.statistics import interaction_variance


@dataclass(frozen=True, slots=True)
class Contest:
    """Estimates of all candidates, as changes against one common arm, and how they err together.

    Attributes:
        changes: Score of each candidate minus that of the common arm, [candidates].
        covariance: Of the errors of `changes`, [candidates, candidates]; prompts are shared, so errors correlate.
    """

    changes: np.ndarray
    covariance: np.ndarray

    @property
    def centres(self) -> np.ndarray:
        """The changes drawn together by as much as their noise has spread them, [candidates].

        Source: James & Stein 1961 in its empirical-Bayes form, Efron & Morris 1973, JASA 68:117.
        """
        k = len(self.changes)
        deviations = self.changes - self.changes.mean()
        spread = float((deviations**2).sum())
        noise = float(np.trace(self.covariance) - self.covariance.sum() / k)
        return self.changes.mean() + deviations * (max(0.0, 1 - noise / spread) if spread else 0.0)


def contest(candidates: Sequence[tuple[np.ndarray, np.ndarray]], common: tuple[np.ndarray, np.ndarray]) -> Contest:
    """Estimates and their joint error from outcomes within [0, 1].

    Prompts are shared by all; every candidate has seeds of its own. The variance of seeds is pooled over candidates,
    each of which has too few to tell its own; with one seed each, it is taken for zero.

    Args:
        candidates: Of each, refusals [seeds, harmful prompts] and [seeds, harmless prompts].
        common: The same of the arm that all are held against.
    """
    k = len(candidates)
    covariance = np.zeros((k, k))
    changes = np.zeros(k)
    for side, sign in ((0, 1), (1, -1)):
        per_prompt = np.stack([c[side].mean(axis=0) for c in candidates]) - common[side].mean(axis=0)
        changes += sign * per_prompt.mean(axis=1)
        covariance += np.atleast_2d(np.cov(per_prompt)) / per_prompt.shape[1]
    of_seeds = _seed_variance(candidates)
    covariance += np.diag([of_seeds / len(arm[0]) for arm in candidates])
    return Contest(changes, covariance + of_seeds / len(common[0]))


def selection_bias(
    found: Contest, choose: Callable[[np.ndarray], int | None], *, draws: int = 1000, seed: int = 0
) -> float:
    """How much the chosen candidate's estimate exceeds its truth on average: a parametric bootstrap of the choice.

    The contest is held again with estimates drawn around `centres`, which stand for the truth, and decided by the
    same rule; the bias is what the chosen then shows above its centre. Estimates themselves would not do as centres:
    noise has spread them apart, and in a wide field the choice looks more certain than it was.

    Args:
        found: The contest as it was.
        choose: The rule: the changes of all candidates in, the position of the chosen out; None where none is chosen.
        draws: Of the bootstrap.
        seed: Of the draws.

    Returns:
        The bias, to be subtracted from the chosen's estimate; 0 where no draw led to a choice.

    Source: Efron & Tibshirani 1993, chapter 10 (bootstrap bias); Efron 2011, JASA 106:1602 (selection bias).
    """
    rng = np.random.default_rng(seed)
    centres = found.centres
    drawn = rng.multivariate_normal(centres, found.covariance, size=draws, method="eigh")
    excess = [changes[i] - centres[i] for changes in drawn if (i := choose(changes)) is not None]
    return float(np.mean(excess)) if excess else 0.0


def _seed_variance(arms: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """Variance of scores over seeds, pooled, less that of seed and prompt together, which the prompts' part has."""
    several = [arm for arm in arms if len(arm[0]) > 1]
    if not several:
        return 0.0
    between = [float((arm[0].mean(axis=1) - arm[1].mean(axis=1)).var(ddof=1)) for arm in several]
    together = [len(arm[0]) * (interaction_variance(arm[0]) + interaction_variance(arm[1])) for arm in several]
    weights = [len(arm[0]) - 1 for arm in several]
    return max(0.0, float(np.average(np.subtract(between, together), weights=weights)))
