"""`smidgen settings schema`: what may stand in a command's --config, or behind a selector's or loss's colon."""

from __future__ import annotations

import json
from typing import Annotated, Any

from cyclopts import App, Parameter
from pydantic import TypeAdapter

from smidgen.cli.outcome import Outcome
from smidgen.errors import UsageError
from smidgen.settings import Registry, plain_settings, settings_schema

app = App(name="settings", help="Describe the settings of every command.")


@app.command
def schema(name: Annotated[str, Parameter(metavar="NAME")] = "", /) -> Outcome:
    """Print the JSON schema of the settings of a command, of all selectors, losses or formats, or of everything.

    Args:
        name: A command such as minimize or "train dpo", or selector, loss or format; without it, everything.
    """
    root, commands = all_commands()
    kinds = {registry.kind: registry for registry in registries()}
    if name and name not in [*commands, *kinds]:
        raise UsageError(f"unknown {name!r}; expected one of: {', '.join([*commands, *kinds])}")
    found = {key: command_schema(root, key) for key in commands if name in ("", key)}
    found |= {
        kind: {function.__name__: settings_schema(function) for function in registry}
        for kind, registry in kinds.items()
        if name in ("", kind)
    }
    result = found[name] if name else found
    return Outcome(result, json.dumps(result, indent=2, ensure_ascii=False))


def command_schema(app: App, name: str) -> dict[str, Any]:
    """The JSON schema of a command's settings, from its flags: `--a.b` is the setting b of the group a."""
    root: dict[str, Any] = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    _, path, _ = app.parse_commands(name.split())
    with app.app_stack(path):
        arguments = path[-1].assemble_argument_collection(parse_docstring=True)
    for argument in arguments:
        if not argument.show or not argument.name.startswith("--"):
            continue
        *groups, last = argument.name.removeprefix("--").replace("-", "_").split(".")
        node = root
        for group in groups:
            empty = {"type": "object", "properties": {}, "additionalProperties": False}
            node = node["properties"].setdefault(group, empty)
        if argument.required:
            node.setdefault("required", []).append(last)
        found = TypeAdapter(argument.field_info.annotation).json_schema()
        if argument.parameter.help:
            found["description"] = " ".join(argument.parameter.help.split())
        if not argument.required and argument.field_info.default is not argument.field_info.empty:
            found["default"] = plain_settings(argument.field_info.default)
        node["properties"][last] = found
    return root


def all_commands() -> tuple[App, list[str]]:
    """The whole command line, and every command's full name."""
    from smidgen.cli.app import COMMANDS, build_app

    root, names = build_app(), []
    for name in COMMANDS:
        own = [key for key in root[name] if not key.startswith("-")]
        names += [f"{name} {key}" for key in own] or [name]
    return root, names


def registries() -> tuple[Registry[Any], ...]:
    from smidgen.data.export import export_format
    from smidgen.evaluation.judges.base import judge
    from smidgen.evaluation.task_benchmarks import benchmark
    from smidgen.selection.selectors import selector
    from smidgen.training.losses import loss

    return selector, loss, export_format, judge, benchmark
