"""What judges said of the sheet's two models, as sections of LaTeX: the conclusion, win/lose/tie, and the texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from latex import heading, table, text, written

from smidgen.errors import UsageError
from smidgen.evaluation.completions import Completed, Completions
from smidgen.evaluation.conclusion import conclusion, percent
from smidgen.evaluation.matches import Match, read_matches
from smidgen.evaluation.sidebyside import Comparison, compare, majority, turn
from smidgen.evaluation.verdicts import LOSS, TIE, WIN, Verdict, read_verdicts
from smidgen.explain.base import Table
from smidgen.runs import read_json

_WORDS = {WIN: "win", LOSS: "lose", TIE: "tie"}
_FILES = ("matches.jsonl", "verdicts.jsonl", "comparison.json")


@dataclass(frozen=True, slots=True)
class Judged:
    """A comparison of two models, seen from the tuned one, which its command named second.

    Attributes:
        outcomes: By judge, then by prompt and letter: the tuned model's; of several people, what most say.
    """

    first: str
    tuned: str
    matches: tuple[Match, ...]
    found: Comparison
    outcomes: Mapping[str, Mapping[tuple[int, str], float]]

    @property
    def letters(self) -> list[str]:
        return list(dict.fromkeys(m.letter for m in self.matches))

    @property
    def numbers(self) -> list[int]:
        return list(dict.fromkeys(m.number for m in self.matches))

    def word(self, judge: str, number: int, letter: str) -> str:
        """win, lose or tie of the tuned model; a dash where there is no verdict."""
        outcome = self.outcomes[judge].get((number, letter))
        return "–" if outcome is None else _WORDS[outcome]


def read_judged(folder: Path) -> Judged:
    """What `smidgen compare` left in a folder.

    Raises:
        UsageError: No comparison there, of other than two models, or nobody has judged yet.
    """
    if missing := [name for name in _FILES if not (folder / name).is_file()]:
        raise UsageError(
            f"expected {', '.join(_FILES)} in {folder}, got no {' and no '.join(missing)}. Write them by `smidgen "
            f"compare SFT TUNED --judge … --out {folder}`; with --judge human, judge by `smidgen view {folder}`, then "
            "run the same `smidgen compare` again."
        )
    matches = read_matches(folder / "matches.jsonl")
    names = list(dict.fromkeys(name for m in matches for name in (m.model_a, m.model_b)))
    if len(names) != 2:
        raise UsageError(f"{folder}: expected a comparison of two models, got {', '.join(names)}; compare two.")
    verdicts = read_verdicts(folder / "verdicts.jsonl")
    found = compare(verdicts, matches, models=names, seed=int(read_json(folder / "comparison.json")["seed"]))
    outcomes = {judge: _of_tuned([v for v in verdicts if v.judge == judge], names[1]) for judge in found.judges}
    return Judged(names[0], names[1], tuple(matches), found, outcomes)


def _of_tuned(verdicts: list[Verdict], tuned: str) -> dict[tuple[int, str], float]:
    mine = [v if v.model_a == tuned else turn(v) for v in verdicts]
    # A later verdict on a match takes an earlier one's place, as it does in what is counted.
    latest = {(v.rater, v.key): v for v in mine}.values()
    return {(number, letter): outcome for (number, letter, *_), outcome in majority(latest).items()}


def completions_of(judged: Judged, label: str) -> list[Completions]:
    """Both models' texts, as they were compared."""

    def rows(name: str) -> Iterator[Completed]:
        for number in judged.numbers:
            here = [m for m in judged.matches if m.number == number]
            yield Completed(here[0].prompt, tuple(m.a if m.model_a == name else m.b for m in here))

    return [Completions(model=name, rows=tuple(rows(name)), label=label) for name in (judged.first, judged.tuned)]


def conclusions(judged: Judged) -> str:
    """The overall comparison in sentences, the counts, and win/lose/tie of every prompt and letter."""
    opening = (
        f"Win, lose and tie are those of the tuned model, {judged.tuned}, against {judged.first}. Intervals are 95 % "
        "and over prompts, since completions of one prompt hang together; ties count half in a win rate."
    )
    paragraphs = [opening, *conclusion(judged.found)]
    tables = [_overall(judged), *(_by_letter(judged, judge) for judge in judged.found.judges)]
    return "\n\n".join([*map(text, paragraphs), *map(table, tables)])


def _overall(judged: Judged) -> Table:
    rows = []
    for result in judged.found.results:
        rate = result.rate and replace(
            result.rate, mean=1 - result.rate.mean, low=1 - result.rate.high, high=1 - result.rate.low
        )
        counts = result.tally
        none = sum(result.missing.values())
        rows.append((
            result.judge, float(counts.losses), float(counts.wins), float(counts.ties), float(none),
            percent(rate) if rate else "–",
        ))  # fmt: skip
    return Table(
        title=f"{judged.tuned} against {judged.first}, over all prompts",
        columns=("judge", "win", "lose", "tie", "none", "win rate"),
        rows=tuple(rows),
        digits=0,
        note="none: matches that the judge gave no verdict on.",
    )


def _by_letter(judged: Judged, judge: str) -> Table:
    rows = tuple((str(n), *(judged.word(judge, n, letter) for letter in judged.letters)) for n in judged.numbers)
    raters = next((r.raters for r in judged.found.results if r.judge == judge), ())
    note = f"Judged by {len(raters)} people; where they differ, by what most of them say." if len(raters) > 1 else ""
    return Table(
        title=f"{judged.tuned}, prompt by prompt, judged by {judge}",
        columns=("prompt", *judged.letters),
        rows=rows,
        note=note,
    )


def texts(judged: Judged) -> str:
    """Every prompt, and what either model wrote after it."""
    parts = []
    for number in judged.numbers:
        here = [m for m in judged.matches if m.number == number]
        parts += [rf"\subsubsection*{{Prompt {number}}}", written(here[0].prompt)]
        for match in here:
            place = f"{number}-{match.letter}"
            said = "; ".join(f"{judge}: {judged.word(judge, number, match.letter)}" for judge in judged.found.judges)
            parts += [heading(text(f"{place}, {match.model_a}")), written(match.a)]
            parts += [heading(rf"{text(f'{place}, {match.model_b}')} \textmd{{({text(said)})}}"), written(match.b)]
    return "\n".join(parts)
