"""The smidgen commands in a piece of shell, and whether the command line knows all their flags."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

from cyclopts import App, CycloptsError

from smidgen.cli.app import build_app

_SEPARATORS = ";&|()<>\n"
_OPENS = {"do", "then", "else", "!", "time", "exec", "{"}


def find_commands(shell: str) -> Iterator[tuple[int, list[str]]]:
    """The words after `smidgen` of every such command, and the line it starts in, from 0.

    Raises:
        ValueError: A quotation is not closed.
    """
    text = re.sub(r"\\\n", lambda _: " \0", shell)
    text = re.sub(r"(?m)(^|[ \t])#.*$", "", text)
    words = shlex.shlex(text, posix=True, punctuation_chars=_SEPARATORS)
    words.whitespace, words.whitespace_split, words.commenters = " \t", True, ""
    line, command, start = 0, [], 0
    for word in [*words, "\n"]:
        if set(word) <= set(_SEPARATORS):
            yield from _smidgen_in(command, start)
            line += word.count("\n")
            command, start = [], line
        else:
            line += word.count("\0")
            start = line if not command else start
            command += [plain] if (plain := word.replace("\0", "")) else []


def _smidgen_in(command: Sequence[str], line: int) -> Iterator[tuple[int, list[str]]]:
    at = 0
    while at < len(command) and (command[at] in _OPENS or re.match(r"\w+=", command[at])):
        at += 1
    if at < len(command) and re.fullmatch(r"(.*/)?smidgen", command[at]):
        yield line, list(command[at + 1 :])
    elif "-m" in command[:-1] and command[command.index("-m") + 1] == "smidgen":
        yield line, list(command[command.index("-m") + 2 :])


def complaint(words: Sequence[str]) -> str | None:
    """What the command line would not know of a command's words, or None; placeholders such as … are let through."""
    app = build_app()
    if words and words[0].split("=")[0] in _flags_everywhere(app):
        words = _from_the_command_on(app, words)
    if not words:
        return None
    try:
        _, apps, rest = app.parse_commands(list(words))
    except CycloptsError as error:
        return str(error)
    *_, command = apps
    named = [word for word in rest if not word.startswith("-")]
    if named and command.default_command is None:
        if "--plugin" in rest or not named[0].islower():
            return None  # a plugin's own command, or NAME in place of one: nobody knows their flags here
        return f"expected a command behind `{' '.join(['smidgen', *words[: len(words) - len(rest)]])}`, got {named[0]}"
    known = _flags_of(app, apps)
    for word in rest:
        name = word.split("=")[0]
        if re.match(r"--?[a-z]", name) and name not in known:
            return f"expected a flag of `smidgen {' '.join(words[: len(words) - len(rest)])}`, got {name}"
    return None


def known_flags(words: Sequence[str], flags: Sequence[str]) -> list[str]:
    """Those of some flags, with their values, that a command knows; not those it has been given."""
    app = build_app()
    try:
        _, apps, rest = app.parse_commands(_from_the_command_on(app, words))
    except CycloptsError:
        return []
    known = _flags_of(app, apps) - {word.split("=")[0] for word in rest if word != "--set"}
    groups = split_flags(flags)
    return [word for group in groups if group[0].split("=")[0] in known for word in group]


def split_flags(flags: Sequence[str]) -> list[list[str]]:
    """Each flag with its values."""
    groups: list[list[str]] = []
    for word in flags:
        if word.startswith("--"):
            groups.append([])
        groups[-1].append(word)
    return groups


def _from_the_command_on(app: App, words: Sequence[str]) -> list[str]:
    """Without the flags of every command that stand before the command's name."""
    names = {name for name in app if not name.startswith("-")}
    return next((list(words[at:]) for at, word in enumerate(words) if word in names), [])


def _flags_of(app: App, path: Sequence[App]) -> set[str]:
    *_, command = path
    if command.default_command is None:
        return _flags_everywhere(app)
    with app.app_stack(path):
        arguments = command.assemble_argument_collection()
    own = {name for argument in arguments for name in (*argument.names, *argument.negatives)}
    return own | _flags_everywhere(app)


def _flags_everywhere(app: App) -> set[str]:
    """Those of every command, which the command line takes before it looks at the command's own."""
    arguments = app.meta.assemble_argument_collection()
    return {name for argument in arguments for name in argument.names} | {*app.help_flags, *app.version_flags}


def all_flags() -> set[str]:
    """Every flag of every command."""
    app = build_app()
    found: set[str] = set()
    waiting = [[app, app[name]] for name in app if not name.startswith("-")]
    while waiting:
        path = waiting.pop()
        found |= _flags_of(app, path)
        waiting += [[*path, path[-1][name]] for name in path[-1] if not name.startswith("-")]
    return found
