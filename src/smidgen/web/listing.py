"""From a run's material to the catalogue's rows: every pair with its labels, its features, and why it stands where."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from smidgen.pairs import PreferencePair
from smidgen.report.artefacts import KeptPair
from smidgen.selection.features import Features
from smidgen.selection.kinds import kind_of
from smidgen.selection.margins import implicit_margin
from smidgen.web.catalogue import Catalogue, Listed
from smidgen.web.material import Material
from smidgen.web.standing import Standing, standing

STATUS, KIND, SOURCE = "status", "kind", "source"
# Of a subset's table, what only a run that refined has; the rest of its numbers stand among the features.
_OWN_NUMBERS = ("rank", "metagradient")


def catalogue_of(material: Material) -> tuple[Catalogue, tuple[str, ...]]:
    """The catalogue of a run's pairs, and what a reader must know about what is missing."""
    found = standing(material)
    columns, flags = _columns(material.features)
    rows = list(_listed(material, found, columns, flags))
    notes = (*material.notes, *(found.notes if found else ()))
    return Catalogue(rows, flags=flags), notes


def _listed(
    material: Material, found: Standing | None, columns: Mapping[str, np.ndarray], flags: frozenset[str]
) -> Iterator[Listed]:
    features = material.features
    row_of = {} if features is None else {int(idx): row for row, idx in enumerate(features.idx)}
    kinds = kind_of(features) if features is not None and _has_kinds(features) else None
    told = {pair.idx: pair for pair in (*material.runners_up, *material.kept)}
    for idx in sorted({*row_of, *material.pairs, *told}):
        pair, own, row = material.pairs.get(idx), told.get(idx), row_of.get(idx)
        labels = {STATUS: found.status[idx]} if found else {}
        if kinds is not None and row is not None:
            labels[KIND] = kinds[row]
        numbers = {} if row is None else {name: float(values[row]) for name, values in columns.items()}
        labels |= {name: "yes" if numbers[name] else "no" for name in sorted(flags) if name in numbers}
        if own is not None:
            numbers |= _own_numbers(own)
        if pair is not None:
            numbers |= {} if row is not None else _lengths(pair)
            labels |= {SOURCE: pair.source} | _words(pair, labels)
            numbers |= {name: value for name, value in _meta_numbers(pair).items() if name not in numbers}
        yield Listed(
            idx=idx,
            prompt=pair.prompt_text if pair else own.prompt if own else None,
            chosen=pair.chosen_text if pair else own.chosen if own else None,
            rejected=pair.rejected_text if pair else own.rejected if own else None,
            labels=labels,
            reason=found.reason.get(idx, "") if found else "",
            features=numbers,
        )


def _columns(features: Features | None) -> tuple[dict[str, np.ndarray], frozenset[str]]:
    """The features that are one value a pair, and which of them are yes or no."""
    if features is None:
        return {}, frozenset()
    columns = {name: values for name, values in features.columns.items() if values.ndim == 1}
    if {"aligned_chosen_logps", "aligned_rejected_logps", "ref_chosen_logps", "ref_rejected_logps"} <= set(columns):
        columns["implicit_margin"] = implicit_margin(features)
    return columns, frozenset(name for name, values in columns.items() if values.dtype == bool)


def _has_kinds(features: Features) -> bool:
    return {"chosen_refuses", "rejected_refuses", "prompt_harmfulness"} <= set(features.columns)


def _own_numbers(pair: KeptPair) -> dict[str, float]:
    found = {}
    for name in _OWN_NUMBERS:
        try:
            found[name] = float(pair.extra[name])
        except (KeyError, ValueError):
            continue
    return found


def _lengths(pair: PreferencePair) -> dict[str, float]:
    return {
        "prompt_characters": len(pair.prompt_text),
        "chosen_characters": len(pair.chosen_text),
        "rejected_characters": len(pair.rejected_text),
    }


def _words(pair: PreferencePair, taken: Mapping[str, str]) -> dict[str, str]:
    """What the data itself says of a pair in words; a name that is ours already is marked as the data's."""
    texts = {name: value for name, value in pair.meta.items() if isinstance(value, str) and value}
    texts |= {name: "yes" if value else "no" for name, value in pair.meta.items() if isinstance(value, bool)}
    return {
        f"{name} (data)" if name in taken or name in (STATUS, SOURCE) else name: text for name, text in texts.items()
    }


def _meta_numbers(pair: PreferencePair) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in pair.meta.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }
