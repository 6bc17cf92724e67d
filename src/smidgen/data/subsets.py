"""A run's subset as pairs: subset.csv read back, numbers as numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from smidgen.data.export.columns import typed
from smidgen.data.prepare import Prepared, prepare_pairs
from smidgen.pairs import PairTable

SUBSET = "subset.csv"


def read_subset(run: Path) -> Prepared:
    """The pairs of a run's subset.csv, in its order, the reasons as `meta`.

    Raises:
        InvalidData: A subset.csv that is empty or holds a row that is no pair.
    """
    prepared = prepare_pairs(run / SUBSET, max_bad_fraction=0.0)
    names = dict.fromkeys(name for pair in prepared.pairs for name in pair.meta)
    columns = {name: typed([pair.meta.get(name) for pair in prepared.pairs]) for name in names}
    pairs = [
        replace(pair, meta={name: values[i] for name, values in columns.items()})
        for i, pair in enumerate(prepared.pairs)
    ]
    return replace(prepared, pairs=PairTable(pairs))
