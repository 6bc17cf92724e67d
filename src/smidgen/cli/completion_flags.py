"""The list of commands and flags that shells complete from; `python -m smidgen.cli.completion_flags` writes it anew.

It is made from the commands themselves, and a test holds the two together.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal, get_args, get_origin

from cyclopts import App, Argument

from smidgen.assets import COMPLETION_FLAGS
from smidgen.cli.schema import all_commands, registries
from smidgen.evaluation.patterns import SHIPPED

_FILES = {"FILE", "FOLDER", "SOURCE", "MODEL", "RUN", "PAIRS|RUN"}
# Names that a flag takes, though it takes more than names.
_LISTS_OR_FILES = {"--patterns", "--public-patterns", "--anywhere"}
_NAMED = {"--selector": "selector", "--format": "format", "--loss": "loss"}


def listed_flags() -> dict[str, Any]:
    """Every command's summary and flags; a flag that several commands share is written once."""
    root, names = all_commands()
    known = {registry.kind: registry.names() for registry in registries()}
    flags: dict[str, dict[str, Any]] = {}
    commands: dict[str, Any] = {}
    for name in names:
        _, path, _ = root.parse_commands(name.split())
        with root.app_stack(path):
            arguments = path[-1].assemble_argument_collection(parse_docstring=True)
        entries = [entry for argument in arguments if argument.show for entry in _entries(argument, known)]
        commands[name] = {"help": _summary(path[-1]), "flags": [_key(flags, entry) for entry in entries]}
    groups = {name.split()[0] for name in names if " " in name}
    return {"help": {name: str(root[name].help) for name in sorted(groups)}, "commands": commands, "flags": flags}


def _key(flags: dict[str, dict[str, Any]], entry: dict[str, Any]) -> str:
    """Where the entry stands: under its name, or under its name and a number where others have that."""
    same = [key for key in flags if key.partition(" ")[0] == entry["name"]]
    key = next((key for key in same if flags[key] == entry), None)
    if key is None:
        key = f"{entry['name']} {len(same) + 1}" if same else entry["name"]
        flags[key] = entry
    return key


def _entries(argument: Argument, known: dict[str, list[str]]) -> Sequence[dict[str, Any]]:
    """A flag; and what turns it off, where it is on by default."""
    positional = not argument.name.startswith("-")
    name = argument.name if not positional else str(argument.parameter.metavar or argument.name)
    text = " ".join((argument.parameter.help or "").split())
    entry: dict[str, Any] = {"name": name, "kind": "text", "help": text.partition(". ")[0].rstrip(".")}
    if name in _LISTS_OR_FILES:
        return [entry | {"kind": "path", "choices": list(SHIPPED)}]
    choices = _choices(argument.hint) or known.get(_NAMED.get(name, ""), [])
    if choices:
        return [entry | {"choices": list(choices)}]
    if argument.hint is bool:
        off = [one for one in argument.negatives if argument.field_info.default is True]
        return [entry | {"kind": "switch"}, *({**entry, "name": one, "kind": "switch"} for one in off)]
    metavar = (argument.parameter.metavar or "").split()
    return [entry | {"kind": "path"}] if set(metavar) & _FILES else [entry]


def _choices(hint: Any) -> Sequence[str]:
    if get_origin(hint) is Literal:
        return [str(value) for value in get_args(hint)]
    return next((found for part in get_args(hint) if (found := _choices(part))), ())


def _summary(command: App) -> str:
    text = str(command.help or "").strip()
    return text.split("\n")[0]


def listed_text() -> str:
    """The list as the file holds it: a line an entry, so that a change is a line of the difference."""
    found = listed_flags()
    parts = [
        f'"{part}": {{\n' + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in found[part].items()) + "\n}"
        for part in found
    ]
    return "{" + ",\n".join(parts) + "}\n"


if __name__ == "__main__":
    COMPLETION_FLAGS.write_text(listed_text(), encoding="utf-8")
