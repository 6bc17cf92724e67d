"""A datamodel: what each pair's being trained on adds to a cheap trial's surrogate, from many random subsets.

Trials of random halves of the pools are run and stored like any others, so a study called again runs none twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from smidgen.errors import InvalidData
from smidgen.evaluation.lasso import LassoFit, cross_validated_lasso
from smidgen.selection.feature_store import ColumnGroup, MeasureBlock
from smidgen.selection.features import Features, LazyColumns
from smidgen.selection.kinds import ANSWERING, REFUSAL, kinds
from smidgen.selection.selectors.base import random_keys
from smidgen.study.plan import Candidate
from smidgen.study.study import Study

COLUMN = "datamodel"
# Far from the seeds that selectors break ties by, so that no ranking knows the draws.
_FIRST_DRAW = 1 << 40
_DRAWS_OF_A_STUDY = 1 << 20


@dataclass(frozen=True, slots=True)
class Datamodel:
    """A fitted datamodel.

    Attributes:
        idxs: Pairs that were drawn at least once, rising, [p].
        fit: Its coefficients are theirs.
        sizes: Pairs of every trial.
    """

    idxs: np.ndarray
    fit: LassoFit
    sizes: tuple[int, ...]

    def coefficients(self, idxs: np.ndarray) -> np.ndarray:
        """Of these pairs; 0 for those never drawn."""
        if not len(self.idxs):
            return np.zeros(len(idxs))
        place = np.minimum(np.searchsorted(self.idxs, idxs), len(self.idxs) - 1)
        return np.where(self.idxs[place] == idxs, self.fit.coefficients[place], 0.0)


def datamodel_draws(
    idxs: np.ndarray, kind: np.ndarray, *, n_trials: int, size: int, seed: int
) -> list[tuple[int, ...]]:
    """The pairs of every trial: half from each pool, at most half of the pool, by a hash of trial and idx.

    Args:
        idxs: Of all pairs, [n].
        kind: What each pair teaches, [n]; pairs of neither pool are never drawn.
        n_trials: How many.
        size: Pairs wanted in a trial.
        seed: Of the study.

    Raises:
        InvalidData: Fewer than two pairs in both pools.
    """
    pools = [np.sort(idxs[kind == name]) for name in (REFUSAL, ANSWERING)]
    if min(map(len, pools)) < 2:
        raise InvalidData(
            f"expected 2 or more pairs that teach refusing and 2 or more that teach answering, got "
            f"{len(pools[0])} and {len(pools[1])}: a datamodel draws from both. Leave that selector out, or give "
            "other pairs."
        )
    draws = []
    for trial in range(n_trials):
        key = _FIRST_DRAW + seed * _DRAWS_OF_A_STUDY + trial
        parts = [pool[np.argsort(random_keys(pool, key))][: max(1, min(size, len(pool)) // 2)] for pool in pools]
        draws.append(tuple(int(idx) for idx in np.concatenate(parts)))
    return draws


def fit_datamodel(study: Study, kind: np.ndarray) -> Datamodel:
    """Run the trials that are not stored yet, and fit.

    Args:
        study: Its recipe tuned.
        kind: What each of its pairs teaches, in their order.

    Source: Ilyas et al. 2022, arXiv:2202.00622, sections 2 and 3.1; the outcome here is one number, the dev surrogate.
    """
    settings, idxs = study.settings, np.array(study.all_idxs, dtype=np.int64)
    draws = datamodel_draws(
        idxs, kind, n_trials=settings.datamodel_trials, size=settings.datamodel_size, seed=settings.seed
    )
    # As many passes over its own pairs as the full run makes, which is what makes a trial cheap.
    recipe = replace(study.recipe, steps=None)
    trials = [
        study.subset_trial(
            Candidate(COLUMN, draw),
            stage="search",
            arm=COLUMN,
            seed=study.dev_seed(number),
            recipe=recipe,
            generate=False,
        )
        for number, draw in enumerate(draws)
    ]
    records = study.results(trials, "trials of random subsets, for the datamodel")
    outcomes = np.array([record.metric("surrogate_score") for record in records])
    drawn = np.unique(np.concatenate([np.array(draw) for draw in draws]))
    membership = np.array([np.isin(drawn, draw) for draw in draws], dtype=np.float64)
    return Datamodel(drawn, cross_validated_lasso(membership, outcomes), tuple(map(len, draws)))


def datamodel_group(study: Study, decides: Any) -> ColumnGroup:
    """The column `datamodel`, whose values cost trials; measured where a selector asks for it.

    Args:
        study: Runs the trials.
        decides: What trials follow from besides pairs, settings and recipe, JSON-able: model, prompts.
    """

    def prepare(columns: Mapping[str, np.ndarray]) -> MeasureBlock:
        idxs = np.array(study.all_idxs, dtype=np.int64)
        found = fit_datamodel(study, kinds(Features(idxs, columns))).coefficients(idxs)
        return lambda rows: {COLUMN: found[rows]}

    settings = study.settings

    def decided() -> Any:
        own = settings.loss, settings.datamodel_trials, settings.datamodel_size, settings.seed
        return decides, own, asdict(study.recipe)

    return ColumnGroup(name=COLUMN, columns=(COLUMN,), decides=decided, prepare=prepare, on_demand=True)


def datamodel_summary(study: Study, features: Features) -> dict[str, Any] | None:
    """What the certificate says of the datamodel; None where no ranking asked for one."""
    columns = features.columns
    if not (isinstance(columns, LazyColumns) and COLUMN in columns.written()):
        return None
    found = fit_datamodel(study, kinds(features))
    return {
        "trials": len(found.sizes),
        "size": found.sizes[0],
        "pairs_drawn": len(found.idxs),
        "nonzero": int(np.count_nonzero(found.fit.coefficients)),
        "penalty": float(f"{found.fit.penalty:.6g}"),
        "held_out_correlation": round(found.fit.correlation, 6),
    }
