"""Selectors in worlds whose truth is known, but not to them; no threshold was tuned on these seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from smidgen.assets.world import make_world
from smidgen.data.tokens import EncodedPair
from smidgen.evaluation.patterns import SHIPPED, load_pattern_lists
from smidgen.pairs import PairTable, plain_pair
from smidgen.selection.features import Features, compute_features
from smidgen.selection.harmfulness import fit_harmfulness, prompt_harmfulness
from smidgen.selection.selectors import is_inverted, selector, top
from smidgen.selection.texts import words

SEEDS = (31, 32, 33, 34, 35)
TEACHING = ("teaches_refusing", "teaches_answering")


@dataclass(frozen=True)
class Judged:
    """A world's features, with what each pair teaches and which pairs are copies of each other, by row (= idx)."""

    features: Features
    truth: np.ndarray
    answers: list[tuple[str, str]]

    def share(self, idx: Sequence[int] | np.ndarray, *truths: str) -> float:
        return float(np.isin(self.truth[np.asarray(idx)], truths).mean())


@cache
def judged(seed: int) -> Judged:
    world = make_world(seed)
    pairs = PairTable(plain_pair(row["idx"], row["prompt"], row["chosen"], row["rejected"]) for row in world.pairs)
    texts = [(pair.prompt_text, pair.chosen_text, pair.rejected_text) for pair in pairs]
    encoded = [EncodedPair(p.idx, *((0,) * len(words(t)) for t in text)) for p, text in zip(pairs, texts, strict=True)]
    classifier = fit_harmfulness(world.harmful_dev, world.harmless_dev)
    features = compute_features(
        pairs,
        encoded,
        pattern_lists=load_pattern_lists(SHIPPED),
        harmfulness=prompt_harmfulness(classifier, [pair.prompt_text for pair in pairs]),
    )
    assert features.idx.tolist() == list(range(len(pairs)))
    # A copy teaches what its original does; that it is one too many is judged apart.
    answers = [(row["chosen"], row["rejected"]) for row in world.pairs]
    originals = {a: row["truth"] for a, row in zip(answers, world.pairs, strict=True) if row["truth"] != "duplicate"}
    return Judged(features, np.array([originals[a] for a in answers]), answers)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["contrast", "contrast_cover"])
@pytest.mark.parametrize("budget", [100, 350])
def test_contrast_finds_the_teaching_pairs(seed: int, name: str, budget: int) -> None:
    world = judged(seed)
    everything = world.features.idx
    kept = top(selector.get(name)(world.features, 0), budget)
    assert world.share(everything, *TEACHING) < 0.45
    assert world.share(kept, *TEACHING) >= 0.88
    assert world.share(kept, "inverted") < world.share(everything, "inverted") / 3
    assert 0.4 <= world.share(kept, "teaches_refusing") <= 0.6
    assert len({world.answers[i] for i in kept}) >= 0.95 * budget


@pytest.mark.parametrize("seed", SEEDS)
def test_random_finds_them_at_their_base_rate(seed: int) -> None:
    world = judged(seed)
    kept = top(selector.get("random")(world.features, 0), 400)
    assert world.share(kept, *TEACHING) == pytest.approx(world.share(world.features.idx, *TEACHING), abs=0.08)


@pytest.mark.parametrize("seed", SEEDS)
def test_half_of_the_inverted_pairs_are_found_and_few_teaching_ones_lost(seed: int) -> None:
    world = judged(seed)
    flagged = is_inverted(world.features)
    assert flagged[world.truth == "inverted"].mean() >= 0.5
    assert flagged[np.isin(world.truth, TEACHING)].mean() <= 0.08
