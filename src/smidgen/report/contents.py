"""What is in the subset, held against the full data: kinds, distributions, and the words of its prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from smidgen.report.artefacts import KeptPair
from smidgen.selection.features import Features
from smidgen.selection.kinds import ANSWERING, INVERTED, OTHER, REFUSAL, kind_of
from smidgen.selection.texts import words

DISTRIBUTIONS = {
    "prompt_harmfulness": "harmfulness of the prompt",
    "prompt_tokens": "prompt, tokens",
    "chosen_tokens": "chosen answer, tokens",
    "rejected_tokens": "rejected answer, tokens",
}


@dataclass(frozen=True, slots=True)
class KindRow:
    """How many pairs are of one kind, in the subset and in the full data."""

    kind: str
    n_subset: int
    n_full: int
    subset_share: float
    full_share: float


@dataclass(frozen=True, slots=True)
class Distribution:
    """One feature's histogram; both shares use the same edges and each sums to 1."""

    name: str
    title: str
    edges: np.ndarray
    subset_shares: np.ndarray
    full_shares: np.ndarray
    subset_median: float
    full_median: float


@dataclass(frozen=True, slots=True)
class TypicalWords:
    """The words that set one kind's prompts apart from the rest of the subset, with how many prompts have each."""

    kind: str
    words: tuple[tuple[str, int], ...]


def subset_rows(features: Features, kept: Iterable[KeptPair]) -> np.ndarray:
    """The features' rows that belong to kept pairs, bool [n]."""
    return np.isin(features.idx, np.array([pair.idx for pair in kept], dtype=np.int64))


def kind_rows(features: Features, kept: Sequence[KeptPair]) -> list[KindRow]:
    """Every kind that the full data has, the teaching ones first."""
    of_full = kind_of(features)
    in_subset = subset_rows(features, kept)
    full = Counter(of_full)
    subset = Counter(kind for kind, kept_here in zip(of_full, in_subset, strict=True) if kept_here)
    n_subset, n_full = max(1, int(in_subset.sum())), max(1, len(features))
    order = [REFUSAL, ANSWERING, INVERTED, OTHER, *sorted(set(full) - {REFUSAL, ANSWERING, INVERTED, OTHER})]
    return [KindRow(kind, subset[kind], full[kind], subset[kind] / n_subset, full[kind] / n_full) for kind in order]


def distributions(features: Features, kept: Sequence[KeptPair], *, bins: int = 16) -> list[Distribution]:
    """Histograms of the features worth a look; values beyond the full data's 99th percentile join the last bin."""
    in_subset = subset_rows(features, kept)
    if not in_subset.any():
        return []
    found = []
    for name, title in DISTRIBUTIONS.items():
        if name not in features.columns:
            continue
        values = np.asarray(features.column(name), dtype=np.float64)
        if name == "prompt_harmfulness":
            edges = np.linspace(0, 1, bins + 1)
        else:
            top = max(bins, float(np.quantile(values, 0.99)))
            edges = np.arange(bins + 1) * np.ceil(top / bins)
        shares = [np.histogram(np.clip(v, edges[0], edges[-1]), edges)[0] / len(v) for v in (values[in_subset], values)]
        medians = float(np.median(values[in_subset])), float(np.median(values))
        found.append(Distribution(name, title, edges, shares[0], shares[1], *medians))
    return found


def typical_words(kept: Sequence[KeptPair], *, n_words: int = 14, at_least: int = 3) -> list[TypicalWords]:
    """Words over-represented in each kind's prompts against the subset's other prompts.

    A word is weighed by the log odds of a prompt containing it, with one half added to every count, over its standard
    error; words in fewer than `at_least` prompts of a kind are left out, and kinds with fewer than three such words.

    Source: Monroe, Colaresi and Quinn 2008, "Fightin' Words", with a flat prior.
    """
    bags: dict[str, list[set[str]]] = {}
    for pair in kept:
        bags.setdefault(pair.extra.get("kind", OTHER), []).append(set(words(pair.prompt)))
    if len(bags) < 2:
        return []
    counts = {kind: Counter(word for bag in found for word in bag) for kind, found in bags.items()}
    everywhere = Counter[str]()
    for count in counts.values():
        everywhere.update(count)
    result = []
    for kind in sorted(bags, key=lambda kind: -len(bags[kind])):
        here, n_here, n_rest = counts[kind], len(bags[kind]), len(kept) - len(bags[kind])
        weights = {
            word: _log_odds_z(n, n_here, everywhere[word] - n, n_rest) for word, n in here.items() if n >= at_least
        }
        best = sorted((word for word in weights if weights[word] > 1.64), key=lambda word: (-weights[word], word))
        if len(best) >= 3:  # one or two words say nothing about a topic
            result.append(TypicalWords(kind, tuple((word, here[word]) for word in best[:n_words])))
    return result


def _log_odds_z(n: int, of: int, other: int, other_of: int) -> float:
    cells = [count + 0.5 for count in (n, of - n, other, other_of - other)]
    odds = np.log(cells[0] / cells[1]) - np.log(cells[2] / cells[3])
    return float(odds / np.sqrt(sum(1 / cell for cell in cells)))
