"""What people's verdicts come to, as `smidgen compare` would say it: in words, for every two models, by rater."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from smidgen.evaluation.agreement import Agreement
from smidgen.evaluation.conclusion import conclusion
from smidgen.evaluation.matches import Match
from smidgen.evaluation.sidebyside import Result, compare
from smidgen.evaluation.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class Contest:
    """Two models: all verdicts on them, then each rater's by her name."""

    everybody: Result
    raters: tuple[tuple[str, Result], ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """All contests; agreement where two raters at least judged the same matches and not all alike."""

    words: tuple[str, ...]
    contests: tuple[Contest, ...]
    agreement: Agreement | None
    n_raters: int


def outcome_of(verdicts: Sequence[Verdict], matches: Sequence[Match] = ()) -> Outcome:
    """The outcome of people's verdicts.

    Args:
        verdicts: Of the judge `human`.
        matches: With the texts, so that length is controlled for; models stand in the order in which these name them.
    """
    models = list(dict.fromkeys(name for m in matches for name in (m.model_a, m.model_b)))
    found = compare(verdicts, matches, models=models)
    return Outcome(
        words=tuple(conclusion(found)),
        contests=tuple(Contest(result, tuple(_by_rater(result, verdicts))) for result in found.results),
        agreement=next((accord.agreement for accord in found.accords), None),
        n_raters=len({rater for result in found.results for rater in result.raters}),
    )


def _by_rater(result: Result, verdicts: Sequence[Verdict]) -> list[tuple[str, Result]]:
    pair = [result.model_a, result.model_b]
    of_pair = [v for v in verdicts if {v.model_a, v.model_b} == set(pair)]
    own = {rater: [v for v in of_pair if v.rater == rater] for rater in result.raters}
    return [(rater, compare(hers, models=pair).results[0]) for rater, hers in own.items()]
