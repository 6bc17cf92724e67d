"""Scores of both answers of a pair: as columns of the data, and what they look like together.

A score that could not be found is None, with the reason beside it. No other row's score ever takes its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil, floor, log10
from typing import Any

import numpy as np
from jaxtyping import Float

from smidgen.errors import UsageError
from smidgen.evaluation.statistics import wilson
from smidgen.pairs import PreferencePair, Scalar
from smidgen.synthesis import score_parsing

COLUMNS = ("chosen_score", "rejected_score", "score_problem")
REPLY_COLUMNS = ("judge_chosen", "judge_rejected")

PROBLEMS = score_parsing.PROBLEMS | {
    "over_long": "prompt and answer are longer than the model takes; no answer is cut",
    "waiting": "the budget was spent before the judge was asked",
}
"""Why an answer has no score, one sentence each; a judge that gives no reply has reasons of its own."""

# So many different values, or fewer, have a bar each.
_MOST_VALUES = 11
_BINS = 10


@dataclass(frozen=True, slots=True)
class Score:
    """An external score of one answer, in the scorer's own unit, higher is better.

    Attributes:
        value: None where there is none.
        problem: Why there is none; empty where there is one.
        reply: What the judge said, where one was asked.
        unanswered: Whether the judge gave no reply, and asking again may bring one.
    """

    value: float | None
    problem: str = ""
    reply: str | None = None
    unanswered: bool = False

    @property
    def waits(self) -> bool:
        """Whether the budget did not reach it."""
        return self.problem == "waiting"


PairScores = tuple[Score, Score]
"""Of the chosen and of the rejected answer."""


def check_unscored(pairs: Sequence[PreferencePair]) -> None:
    """UsageError where the data has score columns already."""
    own = {*COLUMNS, *REPLY_COLUMNS}
    if found := sorted({name for pair in pairs for name in own & pair.meta.keys()}):
        raise UsageError(
            f"expected pairs without scores, got columns {', '.join(found)}. Give --replace to put new ones in their "
            "place, or data without them."
        )


def with_scores(pair: PreferencePair, scores: PairScores, *, replies: bool = False) -> PreferencePair:
    """The pair with its scores as columns, in place of any that it had.

    Args:
        replies: Also what the judge said of either answer.
    """
    columns: dict[str, Scalar] = dict(
        zip(COLUMNS, (*(score.value for score in scores), problem_of(scores)), strict=True)
    )
    if replies:
        columns |= dict(zip(REPLY_COLUMNS, (score.reply for score in scores), strict=True))
    kept = {name: value for name, value in pair.meta.items() if name not in {*COLUMNS, *REPLY_COLUMNS}}
    return replace(pair, meta=kept | columns)


def problem_of(scores: PairScores) -> str | None:
    """Which of the two scores is missing, and why; None where both are there.

    >>> problem_of((Score(1.0), Score(None, "cut")))
    'rejected: cut'
    """
    named = zip(("chosen", "rejected"), scores, strict=True)
    return "; ".join(f"{name}: {score.problem}" for name, score in named if score.value is None) or None


@dataclass(frozen=True, slots=True)
class Bin:
    """A bar of a histogram: values from `low` to below `high` (the last one's `high` counts), or one value."""

    low: float
    high: float
    counts: tuple[int, ...]

    @property
    def label(self) -> str:
        """One number, or two."""
        return f"{self.low:.4g}" if self.low == self.high else f"{self.low:.4g} to {self.high:.4g}"


def histogram(*series: Sequence[float]) -> list[Bin]:
    """How often values occur, each series counted apart in common bins; single values where there are few of them."""
    every = [np.asarray(values, np.float64) for values in series]
    values = np.unique(np.concatenate(every)) if every else np.empty(0)
    if len(values) <= _MOST_VALUES:
        return [Bin(float(v), float(v), tuple(int((part == v).sum()) for part in every)) for v in values]
    edges = _edges(float(values[0]), float(values[-1]))
    counts = [np.histogram(part, edges)[0].tolist() for part in every]
    return [Bin(edges[i], edges[i + 1], column) for i, column in enumerate(zip(*counts, strict=True))]


def _edges(low: float, high: float) -> list[float]:
    """Round numbers, evenly spaced, so that 0 is one of them; about ten bins from `low` to `high`."""
    least = (high - low) / _BINS
    if not least > 1e-12 * max(abs(low), abs(high)):
        return np.linspace(low, high, _BINS + 1).tolist()
    unit = 10.0 ** floor(log10(least))
    step = next(times * unit for times in (1, 2, 2.5, 5, 10, 20) if times * unit >= least)
    edges = [i * step for i in range(floor(low / step), ceil(high / step) + 1)]
    # A product may be rounded past the value that it is to hold.
    return [min(edges[0], low), *edges[1:-1], max(edges[-1], high)]


def summarise(scores: Sequence[PairScores]) -> dict[str, Any]:
    """Everything about the scores of a data set that fits a page.

    Returns:
        `counts`: `pairs`, `scored` (both answers), `missing` (either), and of these those with an answer that is
        `waiting` or `unanswered`: the same work, done again, may find its score. `problems`: answers by reason.
        `order`: pairs whose chosen answer scores above, equal or below the rejected one, with Wilson's 95 % intervals.
        `chosen`, `rejected`, `difference`: number, mean, standard deviation and quantiles. `histograms`: of the
        `scores`, with counts of chosen and of rejected answers, and of the `differences`. All but counts and problems
        are of pairs with both scores.
    """
    both = np.array([[s.value for s in pair] for pair in scores if problem_of(pair) is None], np.float64).reshape(-1, 2)
    chosen, rejected = both.T
    problems = Counter(score.problem for pair in scores for score in pair if score.value is None)
    signs = np.sign(chosen - rejected)
    order = {"above": int((signs > 0).sum()), "equal": int((signs == 0).sum()), "below": int((signs < 0).sum())}
    return {
        "counts": {
            "pairs": len(scores),
            "scored": len(both),
            "missing": len(scores) - len(both),
            "waiting": sum(any(score.waits for score in pair) for pair in scores),
            "unanswered": sum(any(score.unanswered for score in pair) for pair in scores),
        },
        "problems": dict(problems.most_common()),
        "order": {
            name: {"pairs": k, **(wilson(k, len(both)).as_dict() if len(both) else {})} for name, k in order.items()
        },
        "chosen": _spread(chosen),
        "rejected": _spread(rejected),
        "difference": _spread(chosen - rejected),
        "histograms": {
            "scores": [asdict(b) for b in histogram(chosen.tolist(), rejected.tolist())],
            "differences": [asdict(b) for b in histogram((chosen - rejected).tolist())],
        },
    }


def _spread(values: Float[np.ndarray, " n"]) -> Mapping[str, float | int]:
    if not len(values):
        return {"n": 0}
    quantiles = np.quantile(values, [0, 0.25, 0.5, 0.75, 1]).tolist()
    named = zip(("least", "quarter", "median", "three_quarters", "most"), quantiles, strict=True)
    return {"n": len(values), "mean": float(values.mean()), "sd": float(values.std()), **dict(named)}
