"""What people's verdicts come to: for every two models a win rate with its interval, and how far raters agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from smidgen.evaluation.agreement import Agreement, krippendorff
from smidgen.evaluation.statistics import Interval
from smidgen.evaluation.verdicts import Verdict
from smidgen.evaluation.winrate import Tally, by_prompt, tally, win_rate


@dataclass(frozen=True, slots=True)
class Line:
    """One rater's verdicts, or all of them.

    Attributes:
        rater: Empty for all.
        rate: Of the first model, with its interval over prompts; None where nothing was judged.
    """

    rater: str
    tally: Tally
    n_prompts: int
    rate: Interval | None


@dataclass(frozen=True, slots=True)
class Contest:
    """Two models: all verdicts on them, then each rater's."""

    model_a: str
    model_b: str
    everybody: Line
    raters: tuple[Line, ...]

    @property
    def sentence(self) -> str:
        """What may be said, with the numbers it rests on."""
        line, rate = self.everybody, self.everybody.rate
        if rate is None:
            return f"Nobody has judged {self.model_a} against {self.model_b}."
        numbers = (
            f"win rate {rate.mean:.0%}, 95% interval over prompts {rate.low:.0%} to {rate.high:.0%}; "
            f"{line.tally.wins} won, {line.tally.ties} tied, {line.tally.losses} lost on {line.n_prompts} prompts"
        )
        if rate.low > 0.5:
            return f"{self.model_a} is preferred to {self.model_b}: {numbers}."
        if rate.high < 0.5:
            return f"{self.model_b} is preferred to {self.model_a}: {self.model_a}’s {numbers}."
        return f"Neither is shown to be preferred: {self.model_a}’s {numbers}."


@dataclass(frozen=True, slots=True)
class Result:
    """All contests, and agreement where two raters at least judged the same matches and not all alike."""

    contests: tuple[Contest, ...]
    agreement: Agreement | None
    n_raters: int


def result_of(verdicts: Sequence[Verdict]) -> Result:
    """The result of people's verdicts; a verdict without an outcome does not count."""
    judged = [verdict for verdict in verdicts if verdict.outcome is not None]
    models = dict.fromkeys((verdict.model_a, verdict.model_b) for verdict in judged)
    raters = sorted({verdict.rater for verdict in judged})
    contests = []
    for a, b in models:
        own = [verdict for verdict in judged if (verdict.model_a, verdict.model_b) == (a, b)]
        lines = (_line(rater, [v for v in own if v.rater == rater]) for rater in raters)
        contests.append(Contest(a, b, _line("", own), tuple(line for line in lines if line.tally.n)))
    ratings = [{v.key: v.outcome for v in judged if v.rater == rater} for rater in raters]
    agreement = krippendorff(ratings, level="ordinal", cluster_of=lambda key: key[0]) if len(raters) > 1 else None
    return Result(tuple(contests), agreement, len(raters))


def _line(rater: str, verdicts: Sequence[Verdict]) -> Line:
    outcomes = [(verdict.number, verdict.outcome) for verdict in verdicts if verdict.outcome is not None]
    of_prompts = by_prompt(outcomes)
    return Line(rater, tally(outcome for _, outcome in outcomes), len(of_prompts), win_rate(list(of_prompts.values())))
