"""What `smidgen explain` says on the terminal: tables that fit its width, then the conclusion."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from smidgen.explain.base import Cell, Explanation, Table
from smidgen.explain.wording import cell
from smidgen.models.chat.outside import printable

_GAP = 2
_LEAST = 12


def explanation_text(found: Explanation, width: int) -> str:
    """An explanation for people, in lines of at most `width` columns where its numbers allow it."""
    lines = [found.title]
    lines += [line for name, text in found.given.items() for line in _wrapped(f"{name} = {text}", width, 2)]
    for table in found.tables:
        lines += ["", *_wrapped(table.title, width), *_rows(table, width), *_wrapped(table.note, width)]
    for paragraph in found.conclusion:
        lines += ["", *_wrapped(paragraph, width)]
    return "\n".join(lines)


def _wrapped(text: str, width: int, indent: int = 0) -> list[str]:
    pad = " " * indent
    return textwrap.wrap(printable(text), width, initial_indent=pad, subsequent_indent=pad * 2, break_long_words=False)


def _rows(table: Table, width: int) -> list[str]:
    """Numbers right, text left; where the columns do not fit, the widest texts are folded."""
    head = [printable(name) for name in table.columns]
    cells = [[_text(value, table.digits) for value in row] for row in table.rows]
    columns = range(len(table.columns))
    is_number = [all(not isinstance(row[i], str) for row in table.rows) for i in columns]
    widths = [max(len(row[i]) for row in (head, *cells)) for i in columns]
    excess = 2 + sum(widths) + _GAP * (len(widths) - 1) - width
    for i in sorted((i for i in columns if not is_number[i]), key=lambda i: -widths[i]):
        taken = min(max(excess, 0), max(widths[i] - _LEAST, 0))
        widths[i], excess = widths[i] - taken, excess - taken
    return [line for row in (head, *cells) for line in _row(row, widths, is_number)]


def _row(row: Sequence[str], widths: Sequence[int], is_number: Sequence[bool]) -> list[str]:
    folded = [textwrap.wrap(text, width) or [""] for text, width in zip(row, widths, strict=True)]
    lines = []
    for depth in range(max(map(len, folded))):
        parts = [
            (parts[depth] if depth < len(parts) else "").rjust(width)
            if right
            else (parts[depth] if depth < len(parts) else "").ljust(width)
            for parts, width, right in zip(folded, widths, is_number, strict=True)
        ]
        lines.append("  " + (" " * _GAP).join(parts).rstrip())
    return lines


def _text(value: Cell, digits: int) -> str:
    return printable(value) if isinstance(value, str) else cell(value, digits)
