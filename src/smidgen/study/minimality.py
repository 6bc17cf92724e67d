"""Refinement by delta debugging: can the nominee do without groups of its pairs? On dev alone, as all of the search.

What it comes to is a statement about groups, on dev: that none of them can be dropped, or which could.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from smidgen.study.decide import Finalist
from smidgen.study.plan import Candidate
from smidgen.study.search import DevLevels, measure
from smidgen.study.study import Study

Pairs = tuple[int, ...]
# Shrunk subsets that are measured again with the finalists' seeds: the smallest, and one to fall back on.
_MEASURED_AGAIN = 2


@dataclass(frozen=True, slots=True)
class Round:
    """Every group of a subset dropped in turn.

    Attributes:
        pairs: The subset that the groups are of.
        losses: What dropping each group cost on dev, score; negative where the rest did better.
    """

    pairs: Pairs
    losses: tuple[float, ...]

    @property
    def droppable(self) -> int:
        return sum(loss <= 0 for loss in self.losses)


@dataclass(frozen=True, slots=True)
class Reduction:
    """What delta debugging found.

    Attributes:
        rounds: In the order they were run.
        shrunk: Every smaller subset that held up, in the order found.
        trials: How many were run.
    """

    rounds: tuple[Round, ...] = ()
    shrunk: tuple[Pairs, ...] = ()
    trials: int = 0


def delta_debug(
    pairs: Pairs, score: Callable[[Sequence[Pairs]], Sequence[float]], *, whole: float, groups: int, most_trials: int
) -> Reduction:
    """Drop groups of pairs as long as the score stays at least `whole`; halve the groups where none can go.

    Groups are interleaved along the order of `pairs`, so each is a fair share of a ranking. Groups that can go one by
    one are dropped together; where the rest does not hold up, only the one that costs least is. Everything is held
    against the same `whole`, so that small losses do not add up.

    Args:
        pairs: The subset, best first.
        score: Scores of subsets, higher is better; called with all of a round's at once.
        whole: Score of `pairs` itself.
        groups: Number of groups of the first round; fewer than two try nothing.
        most_trials: Most subsets that may be scored. A round is run whole or not at all.

    Source: Zeller & Hildebrandt 2002, "Simplifying and isolating failure-inducing input", IEEE TSE 28:183 (ddmin,
    complements only).
    """
    rounds: list[Round] = []
    shrunk: list[Pairs] = []
    spent, n = 0, groups
    while groups > 1 and len(pairs) > 1:
        n = min(n, len(pairs))
        if spent + n > most_trials:
            break
        without = [_without(pairs, n, {group}) for group in range(n)]
        losses = tuple(whole - value for value in score(without))
        spent += n
        rounds.append(Round(pairs, losses))
        spare = {group for group, loss in enumerate(losses) if loss <= 0}
        if not spare:
            if n == len(pairs):
                break
            n *= 2
            continue
        pairs, gone = without[min(spare, key=lambda group: losses[group])], 1
        together = _without(rounds[-1].pairs, n, spare)
        if 1 < len(spare) < n and spent < most_trials:
            spent += 1
            if score([together])[0] >= whole:
                pairs, gone = together, len(spare)
        shrunk.append(pairs)
        n = max(2, n - gone)
    return Reduction(tuple(rounds), tuple(shrunk), spent)


def _without(pairs: Pairs, n_groups: int, gone: set[int]) -> Pairs:
    return tuple(idx for i, idx in enumerate(pairs) if i % n_groups not in gone)


def refine(study: Study, finalist: Finalist, levels: DevLevels) -> tuple[list[Finalist], Reduction]:
    """Try to do without groups of the nominee's pairs; the shrunk ones, measured again, and what was tried.

    Groups are tried with one dev seed, the first of the finalist's own; what holds up is measured with fresh ones.
    """
    settings = study.settings
    selector, pairs = finalist.candidate.selector, finalist.candidate.idxs
    if len(pairs) < 2 * settings.refine_groups:
        return [], Reduction()

    def score(subsets: Sequence[Pairs]) -> list[float]:
        trials = [
            study.subset_trial(Candidate(selector, subset), stage="refine", arm="search", seed=study.dev_seed(1))
            for subset in subsets
        ]
        return [record.metric("score") for record in study.results(trials, "refining, group by group")]

    reduction = delta_debug(
        pairs,
        score,
        whole=finalist.trials[0].metric("score"),
        groups=settings.refine_groups,
        most_trials=settings.refine_trials,
    )
    shrunk = [Candidate(selector, found) for found in reduction.shrunk[-_MEASURED_AGAIN:]]
    return measure(study, shrunk, levels, stage="refine") if shrunk else [], reduction


def minimality(reduction: Reduction, claimed: Pairs) -> dict[str, object]:
    """What delta debugging says of the claimed subset, or, where that was not tried itself, of the one tried last."""
    if not reduction.rounds:
        return {"groups": 0, "tested": 0, "droppable": 0, "trials": 0, "statement": "No group of pairs was dropped."}
    own = [found for found in reduction.rounds if found.pairs == claimed]
    last = own[-1] if own else reduction.rounds[-1]
    size, n = len(last.pairs), len(last.losses)
    share = -(-size // n)
    which = "the claimed subset" if own else f"a nominee of {size:,} pairs (not the claimed subset)"
    if last.droppable:
        statement = (
            f"On dev, {last.droppable} of {n} groups of about {share:,} pairs could each be dropped from {which} "
            "without loss."
        )
    else:
        statement = (
            f"On dev, no group of {share:,} pairs could be dropped from {which} without losing {min(last.losses):.3f} "
            f"or more ({n} groups tried)."
        )
    return {
        "pairs": size,
        "is_claimed": bool(own),
        "groups": n,
        "group_pairs": share,
        "tested": sum(len(found.losses) for found in reduction.rounds),
        "droppable": last.droppable,
        "least_loss": round(min(last.losses), 6),
        "trials": reduction.trials,
        "rounds": [
            {"pairs": len(found.pairs), "groups": len(found.losses), "droppable": found.droppable}
            for found in reduction.rounds
        ],
        "statement": statement + " One seed, the dev prompts: a search, not a test.",
    }
