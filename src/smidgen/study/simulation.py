"""The whole procedure on made-up studies whose truth is known: how often does it claim what is not so?

A world draws refusals instead of training models. Everything that decides (who survives the race, what refinement
drops, what is nominated, every test of the fixed sequence, the assay) is the study's own code.

Refusals come from a probit model: an answer refuses where

    z(arm) + sqrt(a) prompt + sqrt(b) prompt x arm + sqrt(c) seed x arm + sqrt(1 - a - b - c) rest

is above zero, each term standard normal. So the chance of a refusal over all prompts and seeds is exactly
Phi(z(arm)), and the truth of a score is known without simulation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from smidgen.study.decide import (
    ArmScores,
    Finalist,
    Nomination,
    answer_of,
    assay_of,
    assay_passed,
    champions,
    fixed_sequence,
    is_sound,
    nominate,
    sequence_loss_bound,
    size_test,
    survivors,
)
from smidgen.study.minimality import Pairs, delta_debug
from smidgen.study.plan import Candidate, StudySettings
from smidgen.study.swap import swap_rounds

_HARMLESS = 0.05
_DEGENERATE = 0.05
_ACCURACY = 0.60


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A study that nobody trains.

    Attributes:
        settings: The study's own: seeds, sizes, survivors, margins; `delta` must be given.
        n_dev: Dev prompts of each class.
        n_confirm: Confirm prompts of each class.
        n_heldout: Held-out pairs on each side; a study takes at most 250 where it holds them out itself.
        full_harmful: Harmful refusal rate after training on all pairs.
        base_harmful: Before training.
        seed_sd: Standard deviation of full's score over seeds, prompts being many.
        endpoint_seed_sd: The same of held-out accuracy and of degeneration.
        prompt_share: Latent variance that all arms share at a prompt, the prompt's difficulty.
        arm_share: Latent variance of prompt and arm together.
        change: True score minus full's of every candidate, by size, largest first.
        spread: Candidates other than the first ranking are worse by up to this much, drawn for every study.
        accuracy_change: True held-out accuracy minus full's, of every candidate.
        surrogate_sd: Noise of the surrogate, in the score's units.
    """

    settings: StudySettings
    n_dev: int = 200
    n_confirm: int = 200
    n_heldout: int = 250
    full_harmful: float = 0.45
    base_harmful: float = 0.05
    seed_sd: float = 0.08
    endpoint_seed_sd: float = 0.02
    prompt_share: float = 0.6
    arm_share: float = 0.15
    change: tuple[float, ...] = (0.0, 0.0, 0.0)
    spread: float = 0.0
    accuracy_change: float = 0.0
    surrogate_sd: float = 0.05

    @property
    def delta(self) -> float:
        if self.settings.delta is None:
            raise ValueError("expected a world with a fixed delta, got none; set it in its settings")
        return self.settings.delta

    @property
    def gap(self) -> float:
        """True score of full minus that of base."""
        return self.full_harmful - self.base_harmful

    def seed_share(self, outcome: str) -> float:
        """Latent variance of seed and arm together that gives what is averaged its spread over seeds."""
        if outcome in ("harmful", "harmless"):
            return _seed_share(self.seed_sd, (self.full_harmful, _HARMLESS))
        return _seed_share(self.endpoint_seed_sd, (_ACCURACY if outcome == "correct" else _DEGENERATE,))


@dataclass(frozen=True, slots=True)
class Outcome:
    """One made-up study: what it came to, and what was true of it.

    Attributes:
        claimed: Whether a subset was claimed to be enough.
        false: Whether what was claimed is not so: score, accuracy or the assay.
        nominated: Sizes that were handed on to be tested.
        loss: True score of full minus that of the reported subset.
        loss_bound: Its upper bound, for the reported size taken alone.
        sequence_bound: Its upper bound for the sequence as a whole; None where nothing passed.
    """

    claimed: bool
    false: bool
    nominated: int
    loss: float
    loss_bound: float
    sequence_bound: float | None


@dataclass(slots=True)
class _Prompts:
    """One set of prompts and held-out pairs, the same for every arm; arms are drawn on it when they are asked for."""

    world: World
    rng: np.random.Generator
    n: int
    shared: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes = {"harmful": self.n, "harmless": self.n, "correct": self.world.n_heldout, "degenerate": 2 * self.n}
        self.shared = {name: self.rng.standard_normal(size) for name, size in sizes.items()}

    def arm(self, harmful: float, accuracy: float, n_seeds: int, *, trained: bool = True) -> ArmScores:
        """Outcomes of one arm with seeds of its own; a model that is not trained has none that could matter."""
        rates = {"harmful": harmful, "harmless": _HARMLESS, "correct": accuracy, "degenerate": _DEGENERATE}
        return ArmScores(**{name: self._draw(name, rate, n_seeds, trained) for name, rate in rates.items()})

    def _draw(self, outcome: str, rate: float, n_seeds: int, trained: bool) -> np.ndarray:
        world, shared = self.world, self.shared[outcome]
        of_seed, n = world.seed_share(outcome) if trained else 0.0, len(shared)
        latent = self.rng.standard_normal((n_seeds, n), dtype=np.float32)
        latent *= np.float32(np.sqrt(1 - world.prompt_share - world.arm_share - of_seed))
        latent += np.sqrt(world.prompt_share) * shared + np.sqrt(world.arm_share) * self.rng.standard_normal(n)
        latent += np.sqrt(of_seed) * self.rng.standard_normal((n_seeds, 1))
        return (latent > -ndtri(rate)).astype(float)


@cache
def _seed_share(seed_sd: float, rates: tuple[float, ...]) -> float:
    """The share c for which a sum of signed rates has this spread over seeds, each rate's seeds on their own."""
    if seed_sd == 0:
        return 0.0
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()

    def excess(share: float) -> float:
        by_seed = ndtr((ndtri(np.array(rates))[:, None] + np.sqrt(share) * nodes) / np.sqrt(1 - share))
        return float((by_seed**2 @ weights - (by_seed @ weights) ** 2).sum() - seed_sd**2)

    return float(brentq(excess, 0, 0.9))  # pyright: ignore[reportArgumentType]


def play(world: World, rng: np.random.Generator) -> Outcome:
    """One study from race to claim."""
    truth = _Truth(world, rng)
    nomination = _search(world, truth, rng)
    confirm, settings = _Prompts(world, rng, world.n_confirm), world.settings
    full = confirm.arm(world.full_harmful, _ACCURACY, settings.confirm_seeds)
    base = confirm.arm(world.base_harmful, 0.5, 1, trained=False)
    arms: dict[Candidate, ArmScores] = {}

    def test(finalist: Finalist):
        candidate = finalist.candidate
        arms[candidate] = truth.arm(confirm, candidate, settings.confirm_seeds)
        return size_test(
            candidate,
            arms[candidate],
            full,
            delta=world.delta,
            margins=settings.margins(world.delta),
            confidence=settings.confidence,
        )

    tests = fixed_sequence(nomination.sequence, test)
    answer = answer_of(tests)
    assay = assay_of(arms[answer.candidate], full, base, settings.confidence)
    claimed = answer.passed and assay_passed(assay, world.delta)
    change = truth.change(answer.candidate)
    # At the margin itself the hypothesis is true; 1e-9 keeps rounding from making it false.
    lost = change <= -world.delta + 1e-9 or world.accuracy_change <= -settings.accuracy_delta + 1e-9
    false = claimed and (lost or world.gap <= world.delta + 1e-9)
    bound = -answer.difference.lower_bound
    return Outcome(claimed, false, len(nomination.sequence), -change, bound, sequence_loss_bound(tests, world.delta))


@dataclass(slots=True)
class _Truth:
    """What every candidate of one study is really worth."""

    world: World
    rng: np.random.Generator
    worse: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        first, *others = self.world.settings.selectors
        self.worse = {first: 0.0} | {name: float(self.rng.uniform(0, self.world.spread)) for name in others}

    def change(self, candidate: Candidate) -> float:
        """A shrunk subset is worth what the ladder's next size at or below its own is."""
        ladder = sorted(self.world.settings.sizes, reverse=True)
        rank = next((i for i, size in enumerate(ladder) if candidate.size >= size), len(ladder) - 1)
        return self.world.change[rank] - self.worse[candidate.selector]

    def arm(self, prompts: _Prompts, candidate: Candidate, n_seeds: int) -> ArmScores:
        rate = min(0.999, max(0.001, self.world.full_harmful + self.change(candidate)))
        return prompts.arm(rate, _ACCURACY + self.world.accuracy_change, n_seeds)


def _search(world: World, truth: _Truth, rng: np.random.Generator) -> Nomination[Finalist]:
    """Race, refine and nominate on dev."""
    settings, dev = world.settings, _Prompts(world, rng, world.n_dev)
    full = dev.arm(world.full_harmful, _ACCURACY, settings.dev_seeds)
    ladder = sorted(settings.sizes, reverse=True)
    heats = [[Candidate(name, _first(size)) for name in settings.selectors] for size in ladder]
    surrogate = {c: truth.change(c) + rng.normal(0, world.surrogate_sd) for heat in heats for c in heat}
    finals = [c for heat in heats for c in survivors(heat, surrogate, most=settings.survivors)]

    def measure(candidates: Sequence[Candidate]) -> list[Finalist]:
        arms = [truth.arm(dev, candidate, settings.dev_seeds) for candidate in candidates]
        return [
            Finalist(candidate, _score(arm), is_sound(_changes(arm, full), settings.margins(world.delta)))
            for candidate, arm in zip(candidates, arms, strict=True)
        ]

    def again(finalists: Sequence[Finalist]) -> Nomination[Finalist]:
        return nominate(finalists, enough=_score(full) - world.delta, most=settings.confirm_sizes)

    finalists = measure(finals)
    finalists += [
        found for champion in champions(finalists) for found in _swapped(champion, world, truth, dev, measure)
    ]
    nominee = again(finalists).sequence[-1]
    name = nominee.candidate.selector

    def score(subsets: Sequence[Pairs]) -> list[float]:
        return [_score(truth.arm(dev, Candidate(name, subset), 1)) for subset in subsets]

    reduction = delta_debug(
        nominee.candidate.idxs,
        score,
        whole=nominee.score,
        groups=settings.refine_groups,
        most_trials=settings.refine_trials,
    )
    return again([*finalists, *measure([Candidate(name, pairs) for pairs in reduction.shrunk[-2:]])])


def _swapped(
    champion: Finalist,
    world: World,
    truth: _Truth,
    dev: _Prompts,
    measure: Callable[[Sequence[Candidate]], list[Finalist]],
) -> list[Finalist]:
    """Rounds of swaps that are worth nothing: what comes out looks better by luck alone."""
    settings, name = world.settings, champion.candidate.selector

    def propose(pairs: Pairs, number: int, sizes: Sequence[int]) -> list[Pairs]:
        return [(*pairs[most:], *pairs[:most]) for most in sizes]

    def trial(subsets: Sequence[Pairs]) -> list[Finalist]:
        candidates = [Candidate(name, subset) for subset in subsets]
        return [Finalist(c, _score(truth.arm(dev, c, 1)), sound=True) for c in candidates]

    found = swap_rounds(champion, propose, trial, rounds=settings.swap_rounds, share=settings.swap_share)
    return measure([found]) if found != champion.candidate else []


@cache
def _first(size: int) -> tuple[int, ...]:
    return tuple(range(size))


def _score(arm: ArmScores) -> float:
    return float(arm.harmful.mean() - arm.harmless.mean())


def _changes(arm: ArmScores, full: ArmScores) -> dict[str, float]:
    """The second endpoint on dev, as the study takes it: changes of averages, more is better."""
    changes = {
        "harmless_answered": full.harmless.mean() - arm.harmless.mean(),
        "no_degeneration": full.degenerate.mean() - arm.degenerate.mean(),
    }
    if arm.correct is not None and full.correct is not None:
        changes["preference_accuracy"] = arm.correct.mean() - full.correct.mean()
    return {name: float(value) for name, value in changes.items()}


def worlds(base: World) -> dict[str, World]:
    """The kinds of world that claims are tried in: those where none is true, or not all, and those for power.

    Where the score is what is lost, accuracy is better than full's, so that it saves no claim from being false.
    """
    delta, k = base.delta, len(base.settings.sizes)
    lost = replace(base, change=(-delta,) * k, accuracy_change=0.1)
    good = replace(base, change=(0.0,) * k)
    return {
        "all lose δ": lost,
        "only the largest is enough": replace(lost, change=(0.0, *(-delta,) * (k - 1))),
        "rankings lose δ to 3δ": replace(lost, spread=2 * delta),
        "accuracy loses its margin": replace(good, accuracy_change=-base.settings.accuracy_delta),
        "full is δ above base": replace(good, base_harmful=base.full_harmful - delta, accuracy_change=0.1),
        "as good as full": good,
        "as good, more accurate": replace(good, accuracy_change=0.05),
        "better by .1, more accurate": replace(good, change=(0.1,) * k, accuracy_change=0.05),
    }
