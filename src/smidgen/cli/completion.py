"""`smidgen completion`: what makes a shell complete Smidgen's commands and flags.

Cyclopts writes the scripts from a tree of commands. The real one imports torch to know its flags, which no shell should
wait for; so the tree is made here of stand-ins, from a list of all flags that ships with the package. Whoever adds a
flag writes the list anew: `python -m smidgen.cli.completion_flags`.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from smidgen.assets import COMPLETION_FLAGS
from smidgen.cli.outcome import Outcome

Shell = Literal["bash", "zsh", "fish"]
_NAME = "smidgen"


def completion(shell: Shell, /) -> Outcome:
    """Print a script that makes a shell complete commands and flags.

    Args:
        shell: bash, zsh or fish. The script is printed. For bash, `source <(smidgen completion bash)` in ~/.bashrc; for
            zsh, into the file _smidgen of a folder of $fpath, before compinit; for fish, into
            ~/.config/fish/completions/smidgen.fish.
    """
    script = completion_script(shell, json.loads(COMPLETION_FLAGS.read_text(encoding="utf-8")))
    return Outcome({"shell": shell, "script": script}, script.rstrip("\n"))


def completion_script(shell: Shell, listed: Mapping[str, Any]) -> str:
    """The script, from the list that `completion_flags` makes."""
    from smidgen.cli.app import build_app

    # Bash completes names of files better itself than the script would: with slashes, quotes and spaces.
    path_type = str if shell == "bash" else Path
    script = build_app(commands=stand_ins(listed, path_type)).generate_completion(prog_name=_NAME, shell=shell)
    return script.replace(f"complete -F _{_NAME} {_NAME}", f"complete -o default -F _{_NAME} {_NAME}")


def stand_ins(listed: Mapping[str, Any], path_type: type) -> dict[str, App]:
    """Commands that do nothing and take the flags of the real ones, by the first word of their names."""
    apps: dict[str, App] = {}
    for full_name, command in listed["commands"].items():
        name, _, sub = full_name.partition(" ")
        stand_in = _stand_in([listed["flags"][key] for key in command["flags"]], path_type)
        if sub:
            apps.setdefault(name, App(name=name, help=listed["help"][name]))
            apps[name].command(stand_in, name=sub, help=command["help"])
        else:
            apps[name] = App(name=name, help=command["help"])
            apps[name].default(stand_in)
    return apps


def _stand_in(flags: list[Mapping[str, Any]], path_type: type) -> Callable[..., None]:
    kinds: dict[str, Any] = {"switch": bool, "text": str, "path": path_type}
    parameters = []
    for n, flag in enumerate(flags):
        kind = kinds[flag["kind"]]
        if choices := flag.get("choices"):
            known = Literal[tuple(choices)]
            kind = known | path_type if flag["kind"] == "path" else known
        is_flag = flag["name"].startswith("-")
        named = (
            Parameter(name=flag["name"], negative="", help=flag["help"]) if is_flag else Parameter(help=flag["help"])
        )
        place = inspect.Parameter.KEYWORD_ONLY if is_flag else inspect.Parameter.POSITIONAL_ONLY
        parameters.append(inspect.Parameter(f"p{n}", place, default=None, annotation=Annotated[kind, named]))

    def stand_in(*values: Any, **named: Any) -> None: ...

    ordered = sorted(parameters, key=lambda parameter: parameter.kind)
    stand_in.__signature__ = inspect.Signature(ordered)  # pyright: ignore[reportFunctionMemberAccess]
    stand_in.__annotations__ = {parameter.name: parameter.annotation for parameter in ordered}
    return stand_in
