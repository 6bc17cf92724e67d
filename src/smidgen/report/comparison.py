"""A comparison as one page that opens offline: what it comes to, the tables, and every prompt with both texts.

All text of models and people passes through Jinja's escaping; the page's style is allowed by its hash, and nothing else
runs or loads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from smidgen.evaluation.conclusion import leader, percent
from smidgen.evaluation.matches import Match
from smidgen.evaluation.sidebyside import Comparison, Result, turn
from smidgen.evaluation.verdict_parsing import PROBLEMS
from smidgen.evaluation.verdicts import LOSS, TIE, WIN, Verdict
from smidgen.evaluation.winrate import Tally, tally
from smidgen.report.comparison_figures import outcomes_svg
from smidgen.report.page import render_page
from smidgen.report.ratings_figure import ratings_svg
from smidgen.runs import content_hash, write_text

MOST_PROMPTS = 400
MOST_CHARACTERS = 4000
_WORDS = {WIN: "a", LOSS: "b", TIE: "tie", None: "none"}


@dataclass(frozen=True, slots=True)
class Word:
    """A verdict as the page shows it: `side` is a, b, tie or none."""

    who: str
    side: str
    note: str
    why: str


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt: its matches, each with the verdicts on it, and their tally."""

    number: int
    prompt: str
    tally: Tally
    matches: tuple[tuple[Match, tuple[Word, ...]], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """One pair of models."""

    model_a: str
    model_b: str
    results: tuple[Result, ...]
    figure: Markup
    rows: tuple[Row, ...]
    n_left_out: int


def write_comparison(
    path: Path | str, found: Comparison, said: Sequence[str], matches: Sequence[Match], verdicts: Sequence[Verdict]
) -> Path:
    """Write the page; equal verdicts give equal bytes."""
    write_text(path, render(found, said, matches, verdicts))
    return Path(path)


def render(found: Comparison, said: Sequence[str], matches: Sequence[Match], verdicts: Sequence[Verdict]) -> str:
    """The page as text."""
    pairs = list(dict.fromkeys((r.model_a, r.model_b) for r in found.results))
    words = _words_by_match(verdicts)
    rated = {judge: board for judge, board in found.ratings.items() if board.rows[0].rating is not None}
    return render_page(
        "comparison.html.j2",
        {"clip": _clip, "rate": percent, "leader": leader, "share": _share, "why": _why},
        found=found,
        said=said,
        status=_status(found),
        sections=[_section(found, pair, matches, words) for pair in pairs],
        ratings_figure=Markup(ratings_svg(rated)) if rated else Markup(""),
        n_verdicts=sum(r.tally.n for r in found.results),
        run_id=content_hash([found.models, list(said)]),
    )


def _status(found: Comparison) -> tuple[str, str]:
    """A class and a few words: what all judges say of all pairs together."""
    leaders = {leader(r) for r in found.results}
    named = leaders - {None}
    if not found.results or not named:
        return "cannot-tell", "Cannot be told apart"
    if len(found.models) > 2:
        return "pass", "Differences found"
    if len(named) > 1:
        return "cannot-tell", "The judges disagree"
    name, judged = named.pop(), [r for r in found.results if r.rate is not None]
    if None not in leaders:
        return "pass", f"{name} is preferred"
    k = sum(leader(r) == name for r in judged)
    return "cannot-tell", f"{name} is preferred by {k} of {len(judged)} judges, the others cannot tell"


def _words_by_match(verdicts: Sequence[Verdict]) -> Mapping[tuple[int, str, str, str], list[Word]]:
    words: dict[tuple[int, str, str, str], list[Word]] = {}
    for given in verdicts:
        for v in (given, turn(given)):
            who = f"{v.judge} {v.rater}".strip()
            notes = [f"{v.score_a:.3g} to {v.score_b:.3g}"] if v.score_a is not None and v.score_b is not None else []
            notes += ["changed its mind"] if v.flipped else []
            notes += [v.problem] if v.problem else []
            words.setdefault(v.key, []).append(Word(who, _WORDS[v.outcome], ", ".join(notes), v.why))
    return words


def _section(
    found: Comparison,
    pair: tuple[str, str],
    matches: Sequence[Match],
    words: Mapping[tuple[int, str, str, str], Sequence[Word]],
) -> Section:
    mine = [m for m in matches if (m.model_a, m.model_b) == pair]
    numbers = list(dict.fromkeys(m.number for m in mine))
    rows = []
    for number in numbers[:MOST_PROMPTS]:
        here = [m for m in mine if m.number == number]
        shown = tuple((m, tuple(words.get(m.key, ()))) for m in here)
        outcomes = {"a": WIN, "b": LOSS, "tie": TIE}
        counted = tally(outcomes[w.side] for _, said in shown for w in said if w.side in outcomes)
        rows.append(Row(number, here[0].prompt, counted, shown))
    results = tuple(r for r in found.results if (r.model_a, r.model_b) == pair)
    return Section(*pair, results, Markup(outcomes_svg(results)), tuple(rows), len(numbers) - len(rows))


def _clip(text: str, most: int = MOST_CHARACTERS) -> str:
    return text if len(text) <= most else f"{text[:most].rstrip()} …"


def _share(part: int, of: Tally) -> str:
    """A width in percent."""
    return f"{100 * part / of.n:.2f}%" if of.n else "0%"


def _why(problem: str) -> str:
    """What a problem's short name means; itself where it has no sentence."""
    return PROBLEMS.get(problem, problem)
