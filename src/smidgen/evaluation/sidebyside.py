"""Models side by side: from verdicts to who wins, by how much, on which prompts and letters, and how sure that is.

Everything here is for the pairs of models in the order in which the comparison names them; `a` is the earlier one. The
letters of a prompt hang together, so every interval is over prompts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from smidgen.evaluation.agreement import Agreement, krippendorff
from smidgen.evaluation.length_control import LengthControlled, length_controlled
from smidgen.evaluation.matches import Match
from smidgen.evaluation.ratings import Leaderboard, leaderboard
from smidgen.evaluation.statistics import Interval
from smidgen.evaluation.verdict_parsing import FIRST, SECOND
from smidgen.evaluation.verdicts import LOSS, TIE, WIN, Verdict
from smidgen.evaluation.winrate import Tally, by_prompt, sign_flip_p, tally, win_rate

Key = tuple[int, str, str, str]
# Judges of nothing but length.
BY_LENGTH = ("longer", "shorter")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The verdicts on one prompt, or on one letter.

    Attributes:
        name: The prompt's number, or the letter.
        rate: Of `a`; its interval is over prompts, so a single prompt has none.
    """

    name: str
    tally: Tally
    rate: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What came of asking in both orders; None where no match was judged so.

    Attributes:
        flips: Share of the matches with two replies on which these disagreed.
        first: Share of the replies that took a side which took the answer shown first; a half is no bias.
    """

    flips: Interval | None
    first: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one judge says of two models; every outcome is `model_a`'s.

    Attributes:
        rate: Win rate, ties half; None without a verdict.
        p: Two-sided, of the sign-flip test over prompts.
        at_equal_length: The length-controlled win rate; None where the texts are not known, nothing was judged, or
            length alone was.
        missing: Matches without a verdict, by why.
    """

    judge: str
    model_a: str
    model_b: str
    tally: Tally
    n_prompts: int
    rate: Interval | None
    p: float | None
    at_equal_length: LengthControlled | None
    letters: tuple[Part, ...]
    prompts: tuple[Part, ...]
    missing: Mapping[str, int]
    orders: Orders | None
    raters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Accord:
    """How far some judges, or the people of one, agree on the matches that they share."""

    who: tuple[str, ...]
    agreement: Agreement | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All of it.

    Attributes:
        characters: Mean length of each model's answers; empty where the texts are not known.
        ratings: By judge; empty for two models.
    """

    models: tuple[str, ...]
    judges: tuple[str, ...]
    n_prompts: int
    letters: tuple[str, ...]
    characters: Mapping[str, float]
    results: tuple[Result, ...]
    accords: tuple[Accord, ...]
    ratings: Mapping[str, Leaderboard]


def compare(
    verdicts: Sequence[Verdict], matches: Sequence[Match] = (), *, models: Sequence[str] = (), seed: int = 0
) -> Comparison:
    """Everything that verdicts say of the models that they are on.

    Args:
        verdicts: Of any judges, in any order of models; a judge's later verdict on a match takes an earlier one's
            place, rater by rater.
        matches: With the texts; those of other models or none are fine, but then no length is controlled for.
        models: In the order wanted; others follow by name.
        seed: Of resampling.
    """
    names = list(dict.fromkeys([*models, *sorted({name for v in verdicts for name in (v.model_a, v.model_b)})]))
    place = {name: i for i, name in enumerate(names)}
    turned = [turn(v) if place[v.model_a] > place[v.model_b] else v for v in latest(verdicts)]
    texts = {m.key: m for m in matches}
    judges = list(dict.fromkeys(v.judge for v in turned))
    pairs = [p for p in combinations(names, 2) if any((v.model_a, v.model_b) == p for v in turned)]
    results = [
        _result(judge, pair, [v for v in turned if v.judge == judge and (v.model_a, v.model_b) == pair], texts)
        for pair in pairs
        for judge in judges
    ]
    ratings = {
        judge: found
        for judge in judges
        if len(names) > 2 and (found := leaderboard([v for v in turned if v.judge == judge], seed=seed))
    }
    return Comparison(
        models=tuple(names),
        judges=tuple(judges),
        n_prompts=len({v.number for v in turned}),
        letters=tuple(sorted({v.letter for v in turned}, key=lambda x: (len(x), x))),
        characters=_characters(matches),
        results=tuple(one for one in results if one.tally.n or one.missing),
        accords=tuple(_accords(turned, judges)),
        ratings=ratings,
    )


def turn(verdict: Verdict) -> Verdict:
    """The same verdict with the other model named first."""
    first, _, second = verdict.orders.partition(" ")
    return replace(
        verdict,
        model_a=verdict.model_b,
        model_b=verdict.model_a,
        outcome=None if verdict.outcome is None else WIN - verdict.outcome,
        orders=f"{second} {first}" if second else verdict.orders,
        score_a=verdict.score_b,
        score_b=verdict.score_a,
    )


def latest(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """What counts: of several verdicts by one judge and rater on a match, whichever model they name first, the last."""
    last = {(v.judge, v.rater, v.number, v.letter, frozenset((v.model_a, v.model_b))): v for v in verdicts}
    return list(last.values())


def _result(judge: str, pair: tuple[str, str], verdicts: Sequence[Verdict], texts: Mapping[Key, Match]) -> Result:
    given = [(v, v.outcome) for v in verdicts if v.outcome is not None]
    prompts = by_prompt((v.number, outcome) for v, outcome in given)
    letters = sorted({v.letter for v, _ in given}, key=lambda x: (len(x), x))
    return Result(
        judge=judge,
        model_a=pair[0],
        model_b=pair[1],
        tally=tally(outcome for _, outcome in given),
        n_prompts=len(prompts),
        rate=win_rate(list(prompts.values())),
        p=sign_flip_p(list(prompts.values())),
        at_equal_length=_at_equal_length(judge, given, texts),
        letters=tuple(_of_letter(name, given) for name in letters),
        prompts=tuple(Part(name=str(number), tally=one, rate=None) for number, one in prompts.items()),
        missing=dict(sorted(Counter(v.problem or "unknown" for v in verdicts if v.outcome is None).items())),
        orders=_orders(verdicts),
        raters=tuple(sorted({v.rater for v in verdicts if v.rater})),
    )


def _of_letter(name: str, given: Sequence[tuple[Verdict, float]]) -> Part:
    prompts = by_prompt((v.number, outcome) for v, outcome in given if v.letter == name)
    mine = tally(outcome for v, outcome in given if v.letter == name)
    return Part(name=name, tally=mine, rate=win_rate(list(prompts.values())))


def _at_equal_length(
    judge: str, given: Sequence[tuple[Verdict, float]], texts: Mapping[Key, Match]
) -> LengthControlled | None:
    # A judge of length alone would have nothing to say at equal length.
    if not given or judge.partition(":")[0] in BY_LENGTH or any(v.key not in texts for v, _ in given):
        return None
    matches = [texts[v.key] for v, _ in given]
    lengths = ([len(m.a) for m in matches], [len(m.b) for m in matches])
    return length_controlled([outcome for _, outcome in given], *lengths, [v.number for v, _ in given])


def _orders(verdicts: Sequence[Verdict]) -> Orders | None:
    if not any(v.orders for v in verdicts):
        return None
    flips = by_prompt((v.number, WIN if v.flipped else LOSS) for v in verdicts if v.flipped is not None)
    sides = by_prompt(
        (v.number, WIN if said == FIRST else LOSS)
        for v in verdicts
        if v.flipped is not None
        for said in v.orders.split()
        if said in (FIRST, SECOND)
    )
    return Orders(flips=win_rate(list(flips.values())), first=win_rate(list(sides.values())))


def _characters(matches: Sequence[Match]) -> dict[str, float]:
    lengths: dict[str, dict[tuple[int, str], int]] = {}
    for m in matches:
        lengths.setdefault(m.model_a, {})[m.number, m.letter] = len(m.a)
        lengths.setdefault(m.model_b, {})[m.number, m.letter] = len(m.b)
    return {model: sum(found.values()) / len(found) for model, found in lengths.items()}


def majority(verdicts: Iterable[Verdict]) -> dict[Key, float]:
    """What several raters say of each match together: by the mean of their outcomes, win, tie or loss."""
    found: dict[Key, list[float]] = {}
    for v in verdicts:
        if v.outcome is not None:
            found.setdefault(v.key, []).append(v.outcome)
    means = {key: sum(outcomes) / len(outcomes) for key, outcomes in found.items()}
    return {key: TIE if abs(mean - TIE) < 1e-9 else WIN if mean > TIE else LOSS for key, mean in means.items()}


def _accords(verdicts: Sequence[Verdict], judges: Sequence[str]) -> Iterable[Accord]:
    """Each two judges, all of them where they are more, and the people of one where there are several."""
    words = {judge: majority(v for v in verdicts if v.judge == judge) for judge in judges}
    groups = list(combinations(judges, 2)) + ([tuple(judges)] if len(judges) > 2 else [])
    for group in groups:
        yield Accord(who=group, agreement=_agreement([words[judge] for judge in group]))
    for judge in judges:
        raters = sorted({v.rater for v in verdicts if v.judge == judge and v.rater})
        if len(raters) > 1:
            mine = [majority(v for v in verdicts if v.judge == judge and v.rater == rater) for rater in raters]
            yield Accord(who=tuple(f"{judge} {rater}" for rater in raters), agreement=_agreement(mine))


def _agreement(ratings: Sequence[Mapping[Key, float]]) -> Agreement | None:
    return krippendorff(ratings, level="ordinal", cluster_of=lambda key: key[0])
