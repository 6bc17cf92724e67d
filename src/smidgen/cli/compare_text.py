"""What `smidgen compare` says on the terminal: the tables, and the conclusion."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from smidgen.evaluation.conclusion import percent
from smidgen.evaluation.ratings import Leaderboard
from smidgen.evaluation.sidebyside import Comparison, Result
from smidgen.models.chat.outside import printable

_WIDTH = 100


def comparison_text(found: Comparison, said: Sequence[str]) -> str:
    """Tables by pair of models, the ratings, and the conclusion; names from outside are made safe to print."""
    blocks = []
    for pair in dict.fromkeys((r.model_a, r.model_b) for r in found.results):
        blocks.append(_pair([r for r in found.results if (r.model_a, r.model_b) == pair]))
    blocks += [_board(judge, board) for judge, board in found.ratings.items()]
    paragraphs = [textwrap.fill(printable(text), _WIDTH, break_on_hyphens=False) for text in said]
    return "\n\n".join([*blocks, *paragraphs])


def _pair(results: Sequence[Result]) -> str:
    first = results[0]
    lines = [f"first: {printable(first.model_a)}   second: {printable(first.model_b)}"]
    rows: list[tuple[str, ...]] = [
        ("judge", "first won", "second won", "tied", "none", "win rate of first", "at equal length", "p")
    ]
    for r in results:
        rows.append((printable(r.judge), *_counts(r), *_rates(r)))
        rows += [
            (f"  letter {printable(p.name)}", str(p.tally.wins), str(p.tally.losses), str(p.tally.ties), "",
             percent(p.rate) if p.rate else "", "", "")
            for p in r.letters if len(r.letters) > 1
        ]  # fmt: skip
    return "\n".join([*lines, *columns(rows)])


def _counts(r: Result) -> tuple[str, ...]:
    return (str(r.tally.wins), str(r.tally.losses), str(r.tally.ties), str(sum(r.missing.values()) or ""))


def _rates(r: Result) -> tuple[str, str, str]:
    equal = r.at_equal_length
    if equal is None or equal.win_rate is None:
        at_equal_length = "–"
    else:
        at_equal_length = percent(equal.interval) if equal.interval else f"{equal.win_rate:.1%}"
    p = "–" if r.p is None else f"{r.p:.3g}"
    return percent(r.rate) if r.rate else "–", at_equal_length, p


def _board(judge: str, board: Leaderboard) -> str:
    rows = [("model", "Elo", "", "win rate", "verdicts")]
    for row in board.rows:
        ends = [("" if end is None else f"{end:.0f}") or "–" for end in (row.low, row.high)]
        rating = "–" if row.rating is None else f"{row.rating:.0f}"
        bounds = f"[{', '.join(ends)}]" if row.rating is not None else ""
        rows.append((printable(row.model), rating, bounds, percent(row.win_rate), str(row.n_verdicts)))
    note = [f"  {printable(board.problem)}"] if board.problem else []
    return "\n".join([f"ratings by {printable(judge)}", *columns(rows), *note])


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines of columns, the first to the left and all others to the right.

    >>> columns([("a", "12"), ("bc", "3")])
    ['a   12', 'bc   3']
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(others, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return lines
