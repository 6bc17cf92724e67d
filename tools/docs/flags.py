"""What a command's help page holds, as data: its usage, what it says of itself, and its flags by panel."""

from __future__ import annotations

import io
import types
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from cyclopts import App
from cyclopts.help import HelpEntry, HelpPanel
from rich.console import Console, ConsoleOptions

_WORDS = {bool: "yes or no", int: "whole number", float: "number", str: "text", Path: "path"}
_NO_DEFAULT = ("", '""', "()", "[]", "None")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """A flag, or an argument that is given by its place.

    Attributes:
        place: Such as RUN, for one that may be given by its place; else empty.
        names: Such as --max-length; none for one that is given by its place alone.
        metavar: What follows a flag; empty for a switch.
        kind: What it may be, in words.
        default: Empty for none.
        says: What it means, one paragraph of plain text.
    """

    place: str
    names: tuple[str, ...]
    metavar: str
    kind: str
    required: bool
    default: str
    says: str

    @property
    def setting(self) -> str:
        """Its name in a file of settings; empty where it has none."""
        return self.names[0].removeprefix("--").replace("-", "_") if self.names else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HelpPage:
    """A command's help.

    Attributes:
        name: The whole command, such as "train dpo".
        flags: By the title of their panel, in the help's order.
        commands: Names of the commands below it, by the title of their panel.
    """

    name: str
    usage: str
    says: str
    flags: dict[str, list[Flag]]
    commands: dict[str, list[str]]


@dataclass(slots=True)
class _Collector:
    """Stands where help is formatted, and keeps what would be shown."""

    usage: str = ""
    says: str = ""
    panels: list[HelpPanel] = field(default_factory=list)

    def render_usage(self, console: Console, options: ConsoleOptions, usage: Any) -> None:
        self.usage = _plain(usage)

    def render_description(self, console: Console, options: ConsoleOptions, description: Any) -> None:
        self.says = _plain(description)

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        self.panels.append(panel)


def help_page(app: App, name: str) -> HelpPage:
    """The help of the command `name` below `app`; the app's own for an empty name."""
    found = _Collector()
    app.help_formatter = found
    app.help_print(name.split(), console=Console(file=io.StringIO(), width=10_000))
    flags: dict[str, list[Flag]] = {}
    commands: dict[str, list[str]] = {}
    for panel in found.panels:
        title = str(panel.title)
        if panel.format == "command":
            commands[title] = [entry.names[0] for entry in panel.entries if not entry.names[0].startswith("-")]
        elif panel.entries:
            flags[title] = [_flag(entry) for entry in panel.entries]
    return HelpPage(name=name, usage=found.usage, says=found.says, flags=flags, commands=commands)


def _flag(entry: HelpEntry) -> Flag:
    names = [*entry.positive_names, *entry.positive_shorts]
    if entry.default == "True":
        names += entry.negative_names
    return Flag(
        place=entry.positional_label or "",
        names=tuple(names),
        metavar="" if entry.positional_label else (entry.metavar or "").removesuffix("..."),
        kind=in_words(entry.type, entry.choices or ()),
        required=entry.required,
        default=_default(_plain(entry.default)),
        says=_plain(entry.description),
    )


def _default(shown: str) -> str:
    """As a file of settings has it."""
    return "" if shown in _NO_DEFAULT else {"True": "true", "False": "false"}.get(shown, shown)


def in_words(hint: Any, choices: Sequence[str] = ()) -> str:
    """What values a type takes, for people.

    >>> in_words(tuple[str, ...] | None), in_words(Literal["a", "b"]), in_words(Annotated[float, "nats"])
    ('text, repeatable', 'a or b', 'number')
    """
    origin, inner = get_origin(hint), [kind for kind in get_args(hint) if kind not in (type(None), ...)]
    if choices or origin is Literal:
        return " or ".join(map(str, choices or inner))
    if origin is Annotated:
        return in_words(inner[0])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(in_words(kind) for kind in inner))
    if origin in (list, tuple, set, frozenset):
        return f"{in_words(inner[0])}, repeatable"
    if origin is dict:
        return "names and values"
    return _WORDS.get(hint, getattr(hint, "__name__", str(hint)).lower())


def _plain(renderable: Any) -> str:
    if renderable is None:
        return ""
    console = Console(file=io.StringIO(), width=10_000)
    with console.capture() as capture:
        console.print(renderable, markup=False, highlight=False, soft_wrap=True)
    return "\n".join(line.rstrip() for line in capture.get().strip().splitlines())
