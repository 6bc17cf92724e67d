"""Score against number of pairs: the points a study found, and their rendering for a terminal.

Two prompt sets never mix: points on dev prompts nominate, points on confirm prompts carry the claim.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from smidgen.evaluation.statistics import Interval, score_interval
from smidgen.report.artefacts import Run, Trial, confirm_trials, read_run
from smidgen.report.certificate import Step

ARM_NAMES = {
    "base": "base model",
    "full": "full data",
    "full_clean": "full, inverted removed",
    "aligned": "aligned model, as given",
    "subset": "the subset",
    "subset_equal_epochs": "subset, equal epochs",
    "subset_equal_steps": "subset, equal steps",
    "best": "best subset, any size",
    "random": "random, same size",
    "random_in_pool": "random in the same pool",
    "random_in_pool_of_best": "random in the pool, size of the best",
    "sft_on_chosen": "SFT on chosen answers",
}


@dataclass(frozen=True, slots=True)
class SearchPoint:
    """What the search saw of one subset on dev prompts.

    Attributes:
        score: Mean over seeds; its interval is over prompts alone, since a search has too few seeds for one over both.
        seed_scores: Each seed's score.
        trial_ids: Each seed's trial.
    """

    series: str
    budget: int
    score: Interval
    seed_scores: tuple[float, ...]
    trial_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TestedSize:
    """One size of the fixed sequence, on confirm prompts: full data's mean plus the paired difference from it.

    Attributes:
        lower_bound: One-sided, on the same scale; above full data less delta, the score's test passed.
    """

    budget: int
    score: Interval
    lower_bound: float
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontier:
    """All points, and the levels to hold them against.

    Attributes:
        dev_base: The base model's mean score on dev prompts; None where it was not measured there.
        dev_full: The same of training on all pairs.
        arms: Every arm's score on confirm prompts, with the number of pairs it was trained on, in reading order.
        n_surrogate_only: Search trials that the surrogate alone ranked; they have no score to draw.
    """

    search: tuple[SearchPoint, ...]
    tested: tuple[TestedSize, ...]
    arms: dict[str, tuple[int | None, Interval]]
    dev_base: float | None
    dev_full: float | None
    delta: float
    confidence: float
    full_size: int
    n_surrogate_only: int

    @property
    def series(self) -> list[str]:
        """The selectors in the search, in alphabetical order."""
        return sorted({point.series for point in self.search})

    @property
    def range(self) -> tuple[float, float]:
        """The scores worth drawing: all means, and intervals as far as they do not dwarf them."""
        scores = [*(score for _, score in self.arms.values()), *(p.score for p in (*self.search, *self.tested))]
        levels = [level for level in (self.dev_base, self.dev_full) if level is not None]
        means = [score.mean for score in scores] + levels + [0.0]
        bounds = [bound for score in scores for bound in (score.low, score.high) if math.isfinite(bound)]
        # Two seeds can give intervals wider than the scale of scores itself.
        reach = max(0.2, max(means) - min(means))
        return (
            max(-1.0, min([*means, *bounds]), min(means) - reach / 2),
            min(1.0, max([*means, *bounds, min(means) + 0.1]), max(means) + reach / 2),
        )


def frontier(run: Run) -> Frontier:
    """The points of a run."""
    certificate = run.certificate
    full = certificate.scores.get("full")
    return Frontier(
        search=tuple(_search_points(run)),
        tested=tuple(_tested_size(step, full.mean) for step in certificate.steps) if full else (),
        arms={arm: (arm_size(run, arm), score) for arm, score in _in_reading_order(certificate.scores)},
        dev_base=_dev_mean(run.trials, "base"),
        dev_full=_dev_mean(run.trials, "full"),
        delta=certificate.delta,
        confidence=certificate.confidence,
        full_size=certificate.full_size,
        n_surrogate_only=sum(trial.is_search and "score" not in trial.metrics for trial in run.trials),
    )


def _tested_size(step: Step, full: float) -> TestedSize:
    difference = step.difference
    score = Interval(full + difference.mean, full + difference.low, full + difference.high)
    return TestedSize(step.budget, score, full + step.lower_bound, step.passed)


def arm_size(run: Run, arm: str) -> int | None:
    """How many pairs an arm was trained on; None for a model that came from outside, or where nothing tells."""
    certificate = run.certificate
    known = {"base": 0, "full": certificate.full_size, "aligned": None, "best": certificate.best_size}
    if arm in known:
        return known[arm]
    measured = confirm_trials(run.trials, certificate, arm)
    if measured:
        return measured[0].budget
    return None if arm == "full_clean" else certificate.subset_size


def _search_points(run: Run) -> Iterator[SearchPoint]:
    scored = [trial for trial in run.trials if trial.is_search and "score" in trial.metrics]
    # Refinement tries several subsets of one size: they are points of their own.
    scored.sort(key=lambda trial: (trial.series, trial.budget, trial.pairs, trial.seed))
    for (series, budget, _), cell in groupby(scored, key=lambda trial: (trial.series, trial.budget, trial.pairs)):
        trials = list(cell)
        seeds = tuple(trial.metrics["score"] for trial in trials)
        yield SearchPoint(series, budget, _score(run, trials), seeds, tuple(trial.trial_id for trial in trials))


def _score(run: Run, trials: Sequence[Trial]) -> Interval:
    """Score over prompts, seeds averaged; the mean alone where the prompts' outcomes were not stored."""
    harmful, harmless = ([run.refused[trial.trial_id][side] for trial in trials] for side in (0, 1))
    if any(len({len(row) for row in rows} - {0, 1}) != 1 for rows in (harmful, harmless)):
        return Interval(float(np.mean([trial.metrics["score"] for trial in trials])), math.nan, math.nan)
    confidence = run.certificate.confidence
    return score_interval(np.mean(harmful, axis=0), np.mean(harmless, axis=0), confidence=confidence).interval


def _dev_mean(trials: Iterable[Trial], arm: str) -> float | None:
    # Where several recipes were tuned with one seed, the frozen one is the one that scored best.
    best: dict[int, float] = {}
    for trial in trials:
        if trial.prompt_set == "dev" and trial.arm == arm and "score" in trial.metrics:
            best[trial.seed] = max(trial.metrics["score"], best.get(trial.seed, -1.0))
    return float(np.mean(list(best.values()))) if best else None


def _in_reading_order(scores: Mapping[str, Interval]) -> list[tuple[str, Interval]]:
    order = [*ARM_NAMES, *sorted(set(scores) - set(ARM_NAMES))]
    return [(arm, scores[arm]) for arm in order if arm in scores]


def frontier_text(run_folder: Path | str) -> str:
    """The frontier as a table with bars, for a terminal: plain text, at most 80 columns wide.

    Raises:
        UsageError: No finished run there.
        InvalidData: An artefact that cannot be read.
    """
    found = frontier(read_run(run_folder))
    full = found.arms.get("full")
    draw = _Bars(*found.range, enough=None if full is None else full[1].mean - found.delta)
    lines = []
    best: dict[int, SearchPoint] = {}
    for point in found.search:
        if point.budget not in best or point.score.mean > best[point.budget].score.mean:
            best[point.budget] = point
    if best:
        others = len(found.search) - len(best)
        lines += [f"Search, on dev prompts: the best of each size ({others} more tried); nominates only"]
        lines += [draw.row(size, best[size].series, best[size].score) for size in sorted(best)]
        lines.append("")
    lines.append("Confirmed, on fresh prompts with fresh seeds")
    lines += [draw.row(size, ARM_NAMES.get(arm, arm), score) for arm, (size, score) in found.arms.items()]
    if found.tested:
        lines += ["", f"Tested against full data, largest first, {found.delta:.3f} below allowed"]
    for tested in found.tested:
        lines.append(draw.row(tested.budget, "enough" if tested.passed else "not shown to be enough", tested.score))
    lines += [
        "",
        f"Columns: pairs, what, score with {found.confidence:.0%} interval. ┊ is full data less {found.delta:.3f}.",
    ]
    return "\n".join(line.rstrip() for line in lines)


@dataclass(frozen=True, slots=True)
class _Bars:
    """Draws rows on one scale; `enough` is the score below which a subset is worse than allowed."""

    low: float
    high: float
    enough: float | None
    columns: int = 20

    def row(self, size: int | None, name: str, score: Interval) -> str:
        cells = [" "] * self.columns
        bounds = ""
        if math.isfinite(score.low):
            first, last = self._column(score.low), self._column(score.high)
            cells[first : last + 1] = "─" * (last + 1 - first)
            bounds = f"[{score.low:.3f}, {score.high:.3f}]"
        if self.enough is not None:
            cells[self._column(self.enough)] = "┊"
        cells[self._column(score.mean)] = "●"
        # Names come from the user's settings: nothing in them may steer the terminal.
        shown = "".join(character if character.isprintable() else "?" for character in name)
        shown = shown if len(shown) <= 24 else f"{shown[:23]}…"
        pairs = "" if size is None else f"{size:,}"
        return f"{pairs:>7}  {shown:24} {score.mean:6.3f} {bounds:16} {''.join(cells)}"

    def _column(self, score: float) -> int:
        share = (score - self.low) / (self.high - self.low)
        return min(self.columns - 1, max(0, round(share * (self.columns - 1))))
