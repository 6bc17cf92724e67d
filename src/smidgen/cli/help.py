"""Help pages that fit a screen: one line a flag, as much of its documentation as fits beside it; --help-all for all."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smidgen.cli.flags import COMMON_SETTINGS, LOSSES, MAIN_PANELS

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions

_MAX_COLUMN = 26
_MAX_WIDTH = 100
_FOOTER = "Also: --config FILE, --set A.B=C, --preset NAME, --json. All flags: --help-all."


@dataclass(frozen=True, slots=True)
class Help:
    """Formats cyclopts' help as plain text; `full` shows all flags with all that is written on them."""

    full: bool = False

    def render_usage(self, console: Console, options: ConsoleOptions, usage: Any) -> None:
        text = f"Usage: {str(usage).strip().removeprefix('Usage: ')}"
        _print(console, *textwrap.wrap(text, _width(console), subsequent_indent=" " * 4, break_on_hyphens=False))

    def render_description(self, console: Console, options: ConsoleOptions, description: Any) -> None:
        paragraphs = _plain(description, console).split("\n\n")
        for paragraph in paragraphs if self.full else paragraphs[:1]:
            _print(console, "", *textwrap.wrap(paragraph, _width(console)))

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        title, entries = str(panel.title), panel.entries
        if title == "Settings" and not self.full:
            entries = [entry for entry in entries if COMMON_SETTINGS.intersection(entry.names)]
        if title == LOSSES.name and not self.full:
            names = textwrap.wrap("  ".join(entry.names[0] for entry in entries), _width(console) - 2)
            _print(console, "", f"{title}:", *("  " + line for line in names))
        elif entries and (self.full or title in MAIN_PANELS):
            _print(console, "", f"{title}:")
            labels = [_label(entry) for entry in entries]
            column = min(_MAX_COLUMN, max(map(len, labels)) + 2)
            for label, entry in zip(labels, entries, strict=True):
                first, *rest = self._texts(entry, console, column)
                alone = [label] if len(label) >= column else []
                _print(console, *alone, ("" if alone else label).ljust(column) + first)
                _print(console, *(" " * column + line for line in rest))
        if not self.full and title == "Everywhere":
            _print(console, "", _FOOTER)

    def _texts(self, entry: HelpEntry, console: Console, column: int) -> list[str]:
        """What stands beside a label; one line, unless `full`."""
        text = " ".join(_plain(entry.description, console).split())
        notes = ["required"] if entry.required and self.full else []
        notes += ["repeatable"] if _is_repeatable(entry) and self.full else []
        notes += [f"one of {', '.join(entry.choices)}"] if entry.choices else []
        if entry.default not in (None, "", '""', "False", "()", "[]"):
            notes.append(f"default {entry.default}")
        width = _width(console) - column
        return textwrap.wrap(_noted(text, notes), width) or [""] if self.full else [_one_line(text, notes, width)]


def _label(entry: HelpEntry) -> str:
    """A flag and what follows it; how to turn it off, where it is on by default."""
    names = [*entry.positive_names, *entry.positive_shorts]
    names += entry.negative_names if entry.default == "True" else ()
    metavar = (entry.metavar or "").removesuffix("...")
    return "  " + (entry.positional_label or " ".join([*names, metavar]).strip())


def _is_repeatable(entry: HelpEntry) -> bool:
    return (entry.metavar or "").endswith("...")


def _one_line(text: str, notes: Sequence[str], width: int) -> str:
    """As much of the first sentence, up to a pause, and then of the notes as fits."""
    sentence = re.split(r"(?<=[.!?])\s", text, maxsplit=1)[0].rstrip(".")
    clauses = [sentence, *(sentence.split(pause)[0] for pause in (";", ":", ","))]
    lines = (_noted(clause, notes[n:]) for clause in clauses for n in range(len(notes) + 1))
    return next((line for line in lines if len(line) <= width), textwrap.shorten(sentence, width, placeholder="…"))


def _noted(text: str, notes: Sequence[str]) -> str:
    return f"{text} ({'; '.join(notes)})".strip() if notes else text


def _width(console: Console) -> int:
    return min(console.width, _MAX_WIDTH)


def _plain(renderable: Any, console: Console) -> str:
    if renderable is None:
        return ""
    with console.capture() as capture:
        console.print(renderable, markup=False, highlight=False, no_wrap=True, overflow="ignore", crop=False)
    return "\n".join(line.rstrip() for line in capture.get().strip().splitlines())


def _print(console: Console, *lines: str) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
