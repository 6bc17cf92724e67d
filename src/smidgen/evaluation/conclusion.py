"""What a comparison comes to, in a few sentences made from its numbers: which is better, for whom, and how sure."""

from __future__ import annotations

from collections.abc import Sequence

from smidgen.evaluation.length_control import EQUAL_LENGTHS
from smidgen.evaluation.sidebyside import Comparison, Part, Result
from smidgen.evaluation.statistics import Interval
from smidgen.evaluation.winrate import Tally

_MOST_NUMBERS = 8


def conclusion(found: Comparison) -> list[str]:
    """Paragraphs for people: of two models, what each judge says; of more, the ratings and each pair in a sentence."""
    pairs = list(dict.fromkeys((r.model_a, r.model_b) for r in found.results))
    if len(pairs) > 1:
        paragraphs = _ratings(found)
        paragraphs += [_of_result(r)[0] for r in found.results] if len(found.judges) == 1 else []
    else:
        paragraphs = [" ".join(_of_result(result)) for result in found.results]
    if len(found.judges) > 1:
        paragraphs = [*(_over_judges(found, pair) for pair in pairs), *paragraphs]
    return [*paragraphs, text] if (text := _accord(found)) else paragraphs


def leader(result: Result) -> str | None:
    """The model that is preferred beyond doubt at 95 %; None where the interval holds a half, or nothing was judged."""
    if result.rate is None or result.rate.low <= 0.5 <= result.rate.high:
        return None
    return result.model_a if result.rate.mean > 0.5 else result.model_b


def _of_result(result: Result) -> list[str]:
    a, b, rate = result.model_a, result.model_b, result.rate
    if rate is None:
        return [f"By {result.judge} nothing can be said of {a} and {b}: no match has a verdict{_missing(result)}."]
    best = leader(result)
    front, behind, shown, counts = (a, b, rate, result.tally) if rate.mean >= 0.5 else _turned(result, rate)
    numbers = (
        f"{percent(shown)} of {counts.n} verdicts on {result.n_prompts} prompt{'s' * (result.n_prompts != 1)}, ties "
        f"half: {counts.wins} won, {counts.losses} lost, {counts.ties} tied"
    )
    if counts.ties == counts.n:
        return [f"By {result.judge}, {a} and {b} tie on every verdict: {numbers}.", *_doubts(result)]
    if best:
        opening = f"By {result.judge}, {front} is preferred to {behind}: {numbers}; p = {result.p:.3g}."
    else:
        opening = f"By {result.judge}, {a} and {b} cannot be told apart: {front} has {numbers}; p = {result.p:.3g}."
        opening += _where_they_part(result)
    return [opening, *_at_equal_length(result, front), *_for_whom(result, front, behind), *_doubts(result)]


def _where_they_part(result: Result) -> str:
    """What is to be known where the sign-flip test sees a difference, and the interval, which decides, does not."""
    if result.p is None or result.p >= 0.05:
        return ""
    return (
        f" The sign-flip test alone, which knows these {result.n_prompts} prompts only, would tell them apart; the "
        "interval, which decides here, allows for prompts unlike these, and holds a half."
    )


def _turned(result: Result, rate: Interval) -> tuple[str, str, Interval, Tally]:
    """The result as the other model's."""
    mine = result.tally
    return result.model_b, result.model_a, _mirror(rate), Tally(mine.losses, mine.wins, mine.ties)


def _at_equal_length(result: Result, front: str) -> list[str]:
    found = result.at_equal_length
    if found is None or (found.win_rate is not None and found.interval is None and found.note == EQUAL_LENGTHS):
        return []
    if found.win_rate is None:
        return [f"At equal length it cannot be said: {found.note}."]
    mine = front == result.model_a
    if found.interval is None:
        value = found.win_rate if mine else 1 - found.win_rate
        return [f"At equal length it has {value:.1%}, without an interval: {found.note}."]
    shown = found.interval if mine else _mirror(found.interval)
    note = f"; {found.note}" if found.note else ""
    before, sure = leader(result) is not None, not shown.low <= 0.5 <= shown.high
    if sure and shown.mean < 0.5:
        word = "it would be behind"
    elif before and not sure:
        word = "the lead is no longer clear"
    elif sure:
        word = "the lead stays" if before else "it would be ahead"
    else:
        word = "they cannot be told apart either"
    return [f"At equal length {word}: {percent(shown)}{note}."]


def _for_whom(result: Result, front: str, behind: str) -> list[str]:
    """On which prompts and letters the model in front is not."""
    if result.n_prompts < 2:
        return []
    mine = front == result.model_a
    lost = [p.name for p in result.prompts if _margin(p, mine) < 0]
    level = sum(_margin(p, mine) == 0 for p in result.prompts)
    won = len(result.prompts) - len(lost) - level
    prompts = f"{won} prompt{'s' * (won != 1)}"
    text = f"{front} is ahead on {prompts}, level on {level}, and behind on {len(lost)}{_numbers(lost)}"
    # Letters are draws of the same model: only one that is clearly the other's is worth a word.
    clear = [p for p in result.letters if p.rate and not p.rate.low <= 0.5 <= p.rate.high]
    letters = [p.name for p in clear if _margin(p, mine) < 0]
    if letters:
        text += f"; letter{'s' * (len(letters) > 1)} {', '.join(letters)} go{'es' * (len(letters) == 1)} to {behind}"
    return [f"{text}."]


def _margin(part: Part, mine: bool) -> int:
    margin = part.tally.wins - part.tally.losses
    return margin if mine else -margin


def _numbers(names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _MOST_NUMBERS} more" if len(names) > _MOST_NUMBERS else ""
    return f" ({', '.join(names[:_MOST_NUMBERS])}{more})"


def _doubts(result: Result) -> list[str]:
    said = []
    if result.orders and result.orders.flips:
        first = result.orders.first
        bias = f"; of its replies that took a side, {percent(first)} took the answer shown first" if first else ""
        said.append(
            f"Asked in both orders, the judge changed its mind on {percent(result.orders.flips)} of matches{bias}."
        )
    if result.missing:
        n = sum(result.missing.values())
        said.append(f"{n} {'match has' if n == 1 else 'matches have'} no verdict{_missing(result)}.")
    return said


def _missing(result: Result) -> str:
    return f" ({', '.join(f'{n} {problem}' for problem, n in result.missing.items())})" if result.missing else ""


def _over_judges(found: Comparison, pair: tuple[str, str]) -> str:
    results = [r for r in found.results if (r.model_a, r.model_b) == pair and r.rate is not None]
    by_leader = {name: [r.judge for r in results if leader(r) == name] for name in (*pair, None)}
    parts = [f"{len(judges)} for {name} ({', '.join(judges)})" for name, judges in by_leader.items() if name and judges]
    if undecided := by_leader[None]:
        parts.append(f"{len(undecided)} cannot tell ({', '.join(undecided)})")
    return f"Of {len(results)} judges of {pair[0]} and {pair[1]}: {'; '.join(parts) or 'none has a verdict'}."


def _accord(found: Comparison) -> str:
    said = []
    for accord in found.accords:
        # Judges by twos say the same as all of them where they are two; where they are more, the page has the table.
        if accord.agreement and (len(found.judges) <= 2 or len(accord.who) > 2 or "human" in accord.who):
            one = accord.agreement
            ends = "" if one.low is None else f" [{one.low:.2f}, {one.high:.2f}]"
            said.append(f"Krippendorff's α of {', '.join(accord.who)} is {one.alpha:.2f}{ends}")
    return f"{'; '.join(said)}; 1 is complete agreement, 0 is chance." if said else ""


def _ratings(found: Comparison) -> list[str]:
    said = []
    for judge, board in found.ratings.items():
        if board.rows[0].rating is None:
            said.append(f"By {judge} the models have no ratings: {board.problem}.")
            continue
        first, second = board.rows[:2]
        clear = first.low is not None and second.high is not None and first.low > second.high
        word = "clear of" if clear else "not clear of"
        ends = "" if first.low is None or first.high is None else f" [{first.low:.0f}, {first.high:.0f}]"
        note = f" ({board.problem})" if board.problem else ""
        said.append(
            f"By {judge}, {first.model} is rated highest at {first.rating:.0f} Elo points{ends}, {word} {second.model} "
            f"at {second.rating:.0f}{note}."
        )
    return said


def percent(found: Interval) -> str:
    """A share with its interval.

    >>> percent(Interval(0.5, 0.25, 0.75))
    '50.0% [25.0%, 75.0%]'
    """
    return f"{found.mean:.1%} [{found.low:.1%}, {found.high:.1%}]"


def _mirror(found: Interval) -> Interval:
    return Interval(1 - found.mean, 1 - found.high, 1 - found.low)
