"""Refinement by metagradients: swap pairs that hold the model back for those left out that would help it. On dev.

A round trains once on the subset, asks what a little more weight on each pair would have done to the surrogate, and
makes the swaps that promise most, each within what a pair teaches, so that the subset's composition stays. What a
round promises has to show in a trial before the next one starts from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from smidgen.data.templates import load_template
from smidgen.data.tokens import EncodedPair, encode_prompts
from smidgen.evaluation.surrogate import TokenIds, encode_openings, refusal_opening_gradient
from smidgen.models.load import LanguageModel
from smidgen.models.reference_store import ReferenceStore
from smidgen.runs import atomic_write, content_hash
from smidgen.selection.features import Features
from smidgen.selection.kinds import INVERTED, kind_of
from smidgen.selection.selectors.base import random_keys
from smidgen.study.decide import Finalist, champions
from smidgen.study.plan import Candidate
from smidgen.study.progress import Progress
from smidgen.study.search import DevLevels, measure, measured
from smidgen.study.study import Study
from smidgen.study.trial import TrialContext
from smidgen.training.metagradient import metagradients
from smidgen.training.preference import reference_logps

METAGRADIENTS = "metagradients"
Pairs = tuple[int, ...]
_LEAST_SHARE = 0.05
# Looked at in each of four steps of a round, at about four forward passes each.
_MOST_CANDIDATES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class MetagradientOracle:
    """Asked for a subset's metagradients; answers are kept, so that a study called again does not ask twice.

    Attributes:
        lm: The study's model, with the weights that every trial starts from.
        pairs: All pairs, by idx.
        kinds: What each pair teaches, by idx.
        harmful: Dev prompts to be refused, token ids.
        harmless: Dev prompts to be answered.
        openings: Of refusals, token ids.
        store: The reference's values.
        folder: Where answers are kept.
    """

    lm: LanguageModel
    pairs: Mapping[int, EncodedPair]
    kinds: Mapping[int, str]
    harmful: Sequence[TokenIds]
    harmless: Sequence[TokenIds]
    openings: Sequence[TokenIds]
    store: ReferenceStore
    folder: Path

    def look_back(self, study: Study, answer: Pairs) -> dict[int, float]:
        """The answer's metagradients, for people to read; nothing where the study swaps no pairs.

        With a seed that no round of swaps has asked with: what was chosen by a value would owe part of it to luck.
        """
        rounds = study.settings.swap_rounds
        return self.ask(study, answer, seed=study.dev_seed(rounds)) if rounds else {}

    def ask(self, study: Study, subset: Pairs, *, seed: int) -> dict[int, float]:
        """What more weight on a pair, each time it is drawn, does to the surrogate on dev, by idx.

        Of the subset's pairs, and of others of their kinds, since only those can take their places: of all of them, or
        of as many drawn by the seed as a round can afford.
        """
        recipe = study.settings.subset_recipe(study.recipe, len(study.all_idxs), len(subset))
        steps = min(study.settings.swap_steps, recipe.total_steps(len(subset)))
        recipe = replace(recipe, steps=steps)
        members, kinds = set(subset), {self.kinds[idx] for idx in subset} - {INVERTED}
        others = np.array(
            [idx for idx in self.pairs if idx not in members and self.kinds[idx] in kinds], dtype=np.int64
        )
        others = others[np.argsort(random_keys(others, seed))][:_MOST_CANDIDATES]
        asked = [*subset, *others.tolist()]
        path = (
            self.folder / f"{content_hash([self.lm.fingerprint, study.settings.loss, repr(recipe), asked, seed])}.npy"
        )
        if not path.exists():
            pairs = [self.pairs[idx] for idx in asked]
            found = metagradients(
                self.lm,
                pairs,
                reference_logps(self.lm, pairs, self.store),
                self._target,
                members=range(len(subset)),
                objective=study.settings.loss,
                recipe=recipe,
                seed=seed,
                on_step=lambda done, total: study.watch(Progress("metagradients", done, total)),
            )
            with atomic_write(path, "wb") as file:
                np.save(file, found.per_draw)
        return dict(zip(asked, np.lib.format.open_memmap(path, mode="r").tolist(), strict=True))

    def _target(self, lm: LanguageModel) -> tuple[float, Tensor]:
        refusing, over_refusing = (
            refusal_opening_gradient(lm, prompts, self.openings, of="probability")
            for prompts in (self.harmful, self.harmless)
        )
        return refusing[0] - over_refusing[0], refusing[1] - over_refusing[1]


def metagradient_oracle(
    lm: LanguageModel, context: TrialContext, features: Features, folder: Path
) -> MetagradientOracle:
    """The oracle of a study."""
    template = load_template(context.template, lm.tokenizer)
    harmful, harmless = (encode_prompts(prompts, template, lm.tokenizer) for prompts in context.prompts["dev"])
    return MetagradientOracle(
        lm=lm,
        pairs={pair.idx: pair for pair in context.pairs},
        kinds=dict(zip(map(int, features.idx), kind_of(features), strict=True)),
        harmful=harmful,
        harmless=harmless,
        openings=encode_openings(context.openings, template, lm.tokenizer),
        store=ReferenceStore(context.reference_store),
        folder=folder,
    )


def swap_champions(
    study: Study, finalists: Sequence[Finalist], oracle: MetagradientOracle, levels: DevLevels
) -> tuple[list[Finalist], dict[Pairs, Pairs]]:
    """The champions of every size after their swaps, and of each of them the pairs that it began with."""
    began = [(found, champion) for champion in champions(finalists) for found in swap(study, champion, oracle, levels)]
    return [found for found, _ in began], {found.candidate.idxs: old.candidate.idxs for found, old in began}


def swap(study: Study, champion: Finalist, oracle: MetagradientOracle, levels: DevLevels) -> list[Finalist]:
    """The champion after rounds of swaps, measured with fresh seeds; nothing where no round gained."""

    def propose(pairs: Pairs, number: int, sizes: Sequence[int]) -> list[Pairs]:
        gradients = oracle.ask(study, pairs, seed=study.dev_seed(number))
        return [swap_pairs(pairs, gradients, oracle.kinds, most=most) for most in sizes]

    def trial(subsets: Sequence[Pairs]) -> list[Finalist]:
        candidates = [Candidate(champion.candidate.selector, subset) for subset in subsets]
        return measured(study, candidates, levels, [1], stage="refine", activity="swapping pairs")

    settings = study.settings
    found = swap_rounds(champion, propose, trial, rounds=settings.swap_rounds, share=settings.swap_share)
    return measure(study, [found], levels, stage="refine") if found != champion.candidate else []


def swap_rounds(
    champion: Finalist,
    propose: Callable[[Pairs, int, Sequence[int]], list[Pairs]],
    trial: Callable[[Sequence[Pairs]], list[Finalist]],
    *,
    rounds: int,
    share: float,
) -> Candidate:
    """Where rounds of swaps lead. Each tries two numbers of swaps and goes on from the better, if that is a gain.

    Args:
        champion: Where to start; its score is the one to beat.
        propose: Given a subset, the round, and numbers of swaps: a subset for each.
        trial: Measures subsets with one seed each.
        rounds: How many.
        share: Swaps of the first round, as a share of the subset, and half of them; a round without gain leaves a
            quarter of both.
    """
    current, score = champion.candidate, champion.trials[0].metric("score") if champion.trials else champion.score
    for number in range(rounds):
        if share < _LEAST_SHARE:
            break
        sizes = sorted({max(1, round(part * current.size)) for part in (share, share / 2)})
        proposed = [pairs for pairs in propose(current.idxs, number, sizes) if pairs != current.idxs]
        better = [found for found in trial(proposed) if found.score > score] if proposed else []
        if not better:
            share /= 4
            continue
        best = max(better, key=lambda found: (found.sound, found.score))
        current, score = best.candidate, best.score
    return current


def swap_pairs(subset: Pairs, gradients: Mapping[int, float], kinds: Mapping[int, str], *, most: int) -> Pairs:
    """The subset with its worst pairs replaced by the best left out, one for one, as long as that promises a gain.

    Args:
        subset: Best first; who comes in takes the place of who goes.
        gradients: Of the subset's pairs and of every candidate.
        kinds: What each of these pairs teaches; a pair makes way for one of its own kind alone.
        most: Most swaps, the most promising first.

    >>> gradients = {1: 0.5, 2: -1.0, 3: 0.0, 4: 0.3, 5: 9.0}
    >>> swap_pairs((1, 2, 3), gradients, {1: "a", 2: "a", 3: "a", 4: "a", 5: "b"}, most=2)
    (1, 4, 3)
    """
    inside = set(subset)
    swaps: list[tuple[float, int, int]] = []
    for kind in sorted({kinds[idx] for idx in subset}):
        own = [idx for idx in gradients if kinds[idx] == kind]
        leaving = sorted((idx for idx in own if idx in inside), key=lambda idx: (gradients[idx], idx))
        coming = sorted((idx for idx in own if idx not in inside), key=lambda idx: (-gradients[idx], idx))
        swaps += [(gradients[new] - gradients[old], old, new) for old, new in zip(leaving, coming, strict=False)]
    promising = sorted((swap for swap in swaps if swap[0] > 0), reverse=True)[:most]
    replaced = {old: new for _, old, new in promising}
    return tuple(replaced.get(idx, idx) for idx in subset)
