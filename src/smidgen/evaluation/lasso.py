"""The lasso, by coordinate descent, its penalty by cross-validation: which of many members an outcome follows from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from smidgen.evaluation.surrogate import correlation

_PENALTIES = 20
_SMALLEST = 0.02  # of the penalties, as a share of the one at which every coefficient is 0
_ENTER_AT_ONCE = 32  # columns that become active together, the most violating first
_TOLERANCE = 1e-9  # of a change, as a share of the outcomes' spread
_MOST_SWEEPS = 10_000


@dataclass(frozen=True, slots=True)
class LassoFit:
    """A lasso with the penalty that predicts held-out outcomes best.

    Attributes:
        coefficients: One a column, float64 [p].
        penalty: That was chosen.
        correlation: Spearman's, of predictions with outcomes that they were not fitted to, averaged over folds; a
            fold in which either is constant counts as 0. The penalty was chosen on the same folds. It is the linear
            datamodelling score.
    """

    coefficients: np.ndarray
    penalty: float
    correlation: float


def lasso(design: np.ndarray, outcomes: np.ndarray, penalties: Sequence[float]) -> np.ndarray:
    """Coefficients w that minimise |y - Xw|^2 / (2n) + penalty * sum|w|, X's columns and y centred; [penalties, p].

    Args:
        design: X, [n, p]; a column that is constant gets 0, and copies of one column share its coefficient equally.
        outcomes: y, [n].
        penalties: Not negative, largest first: each solution starts from the one before.

    Source: Friedman, Hastie and Tibshirani 2010, "Regularization paths for generalized linear models via coordinate
    descent", Eq. 5, with the active sets of its section 2.6.
    """
    distinct, copy_of, copies = np.unique(design, axis=1, return_inverse=True, return_counts=True)
    x, y = distinct - distinct.mean(axis=0), outcomes - outcomes.mean()
    scale = (x**2).mean(axis=0)
    tolerance = _TOLERANCE * max(float(np.abs(y).max(initial=0)), np.finfo(float).tiny)
    w, found = np.zeros(x.shape[1]), []
    for penalty in penalties:
        active = np.flatnonzero(w)
        while True:
            _descend(x, y, w, scale, active, penalty, tolerance)
            pull = np.abs(x.T @ (y - x @ w)) / len(y)
            pull[active] = 0
            outside = np.flatnonzero((pull > penalty + tolerance) & (scale > 0))
            if not len(outside):
                break
            entering = outside[np.argsort(-pull[outside], kind="stable")][:_ENTER_AT_ONCE]
            active = np.sort(np.concatenate([active, entering]))
        found.append(w.copy())
    return (np.array(found).reshape(len(penalties), len(w)) / copies)[:, copy_of]


def _descend(
    x: np.ndarray,
    y: np.ndarray,
    w: np.ndarray,
    scale: np.ndarray,
    active: np.ndarray,
    penalty: float,
    tolerance: float,
) -> None:
    """Change the active coefficients in `w`, one after the other, until a sweep changes no prediction."""
    columns = np.ascontiguousarray(x[:, active].T)
    for _ in range(_MOST_SWEEPS):
        residual, largest = y - x @ w, 0.0
        for column, j in zip(columns, active, strict=True):
            pull = column @ residual / len(y) + scale[j] * w[j]
            new = np.sign(pull) * max(abs(pull) - penalty, 0.0) / scale[j]
            if change := new - w[j]:
                residual -= change * column
                w[j] = new
                largest = max(largest, abs(change) * scale[j] ** 0.5)
        if largest <= tolerance:
            return
        _leap(x, y, w, penalty)


def _leap(x: np.ndarray, y: np.ndarray, w: np.ndarray, penalty: float) -> None:
    """Go to the minimum over the coefficients in `w` that are not 0, or towards it until the first of them is 0.

    Between columns that are much alike sweeps alone creep. As long as no sign changes, the minimum is that of a
    quadratic, so this never goes uphill; where it has no single minimum, nothing is changed.
    """
    inside = np.flatnonzero(w)
    own, old = x[:, inside], w[inside]
    gram = own.T @ own / len(y)
    if not len(inside) or np.linalg.cond(gram) > 1e10:
        return
    new = np.linalg.solve(gram, own.T @ y / len(y) - penalty * np.sign(old))
    shares = np.ones(len(old))
    flips = new * old < 0
    shares[flips] = old[flips] / (old[flips] - new[flips])
    first = int(shares.argmin())
    w[inside] = old + shares[first] * (new - old)
    if shares[first] < 1:
        w[inside[first]] = 0.0


def cross_validated_lasso(design: np.ndarray, outcomes: np.ndarray, *, folds: int = 5) -> LassoFit:
    """The lasso whose penalty has the least squared error on rows left out.

    Args:
        design: [n, p].
        outcomes: [n]; rows in random order, since row i is of fold i mod `folds`.
        folds: At most n.

    Raises:
        ValueError: Fewer than four rows, or fewer than two folds.
    """
    n = len(outcomes)
    if n < 4 or folds < 2:
        raise ValueError(f"expected 4 rows or more in 2 folds or more, got {n} in {folds}; give more of them")
    centred = design - design.mean(axis=0)
    largest = float(np.abs(centred.T @ (outcomes - outcomes.mean())).max(initial=0)) / n
    if largest == 0:
        return LassoFit(np.zeros(design.shape[1]), 0.0, 0.0)
    penalties = np.geomspace(largest, largest * _SMALLEST, _PENALTIES)
    fold_of = np.arange(n) % min(folds, n // 2)
    predicted = np.empty((len(penalties), n))
    for fold in range(fold_of.max() + 1):
        out = fold_of == fold
        weights = lasso(design[~out], outcomes[~out], penalties.tolist())
        predicted[:, out] = weights @ (design[out] - design[~out].mean(axis=0)).T + outcomes[~out].mean()
    best = int(((predicted - outcomes) ** 2).mean(axis=1).argmin())
    ranks = [
        correlation(predicted[best, fold_of == fold].tolist(), outcomes[fold_of == fold].tolist()).spearman or 0.0
        for fold in range(fold_of.max() + 1)
    ]
    coefficients = lasso(design, outcomes, penalties[: best + 1].tolist())[-1]
    return LassoFit(coefficients, float(penalties[best]), float(np.mean(ranks)))
