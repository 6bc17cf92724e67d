"""Wrong flags and settings, in the words of all other errors: what is unknown, what is missing, what is near."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from cyclopts import App, Argument, CycloptsError, MissingArgumentError, UnknownOptionError, UnusedCliTokensError
from cyclopts import ValidationError as InvalidValue
from pydantic import ValidationError

from smidgen.errors import UsageError
from smidgen.settings import out_of_range

# What every command takes, beside its own flags.
_EVERYWHERE = {"--config", "--set", "--json", "--preset", "--course", "--plugin", "--help", "--help-all", "--version"}


def wrong_flag(error: CycloptsError) -> str:
    """What cyclopts found wrong with a command line; its own words where no better ones are known."""
    if isinstance(error, UnknownOptionError):
        return _unknown("flag", [error.token.keyword or error.token.value], _flags(error.argument_collection))
    if isinstance(error, MissingArgumentError) and error.argument:
        return _missing(error, error.argument.name)
    if isinstance(error, UnusedCliTokensError):
        return f"expected flags, each with its value behind it, got {(error.unused_tokens or [''])[0]!r} beside them."
    return _wrong_value(error)


def refuse_unknown_settings(app: App, tokens: Sequence[str], data: Mapping[str, Any], source: str) -> None:
    """Hold settings from a file or from `--set` to the flags of the command among `tokens`.

    Raises:
        UsageError: Names that are no setting of it, all of them; or the name of a group whose settings are flags of
            their own.
    """
    *_, command = app.parse_commands(tokens)[1]
    if command.default_command is None:  # no command, or only the first word of one: said where it is called
        return
    arguments = command.assemble_argument_collection()
    flattened = {argument.field_info.name for argument in arguments if "*" in argument.names}
    if found := sorted(flattened & data.keys()):
        raise UsageError(f"{source}: {found[0]!r} is no setting; name what stands below it at the top level.")
    known = {_setting(name) for argument in arguments for name in argument.names if name.startswith("--")}
    groups = {name[:i] for name in known for i, character in enumerate(name) if character == "."}
    if unknown := sorted(set(_unknown_in(data, known, groups))):
        asked = " ".join(["smidgen", *app.parse_commands(tokens)[0]])
        raise UsageError(f"{source}: {_unknown('setting', unknown, known - groups)} See `{asked} --help-all`.")


def _unknown_in(
    data: Mapping[str, Any], known: Collection[str], groups: Collection[str], at: str = ""
) -> Iterator[str]:
    for key, value in data.items():
        name = f"{at}{_setting(key)}"
        if name in groups and isinstance(value, Mapping):
            yield from _unknown_in(value, known, groups, f"{name}.")
        elif name not in known and name not in groups:
            yield name


def _setting(flag: str) -> str:
    """A flag's name as a settings file has it; `selectors` is what the Python API calls a repeated `--selector`."""
    name = flag.removeprefix("--").replace("-", "_")
    return "selector" if name == "selectors" else name


def _unknown(kind: str, names: Sequence[str], known: Iterable[str]) -> str:
    """
    >>> _unknown("flag", ["--modle"], ["--model", "--out"])
    'unknown flag --modle; did you mean --model?'
    """
    # By their last parts, so that a group's name is neither in the way nor needed.
    parts = {name.rpartition(".")[2]: name for name in sorted(known)}
    near = {name: [parts[part] for part in get_close_matches(name.rpartition(".")[2], parts, n=1)] for name in names}
    several = len(names) > 1
    hints = [f"{found[0]} for {name}" if several else found[0] for name, found in near.items() if found]
    hint = f"did you mean {', '.join(hints)}?" if hints else f"leave {'them' if several else 'it'} out."
    return f"unknown {kind}{'s' * several} {', '.join(names)}; {hint}"


def _missing(error: MissingArgumentError, name: str) -> str:
    """Whoever mistypes a flag that is needed has left it out, but should read what is mistyped."""
    names = _flags(error.app.assemble_argument_collection()) if error.app and not error.keyword else set()
    unused = [token.partition("=")[0] for token in error.unused_tokens or () if token.startswith("--")]
    if names and (unknown := [flag for flag in unused if flag not in names]):
        return _unknown("flag", unknown[:1], names)
    return f"expected a value after {error.keyword}, got none." if error.keyword else f"expected {name}, got none."


def _flags(arguments: Iterable[Argument]) -> set[str]:
    return _EVERYWHERE.union(*(argument.names for argument in arguments))


def _wrong_value(error: CycloptsError) -> str:
    """A number out of its range in the words of all the others."""
    cause = error.__cause__
    if not (isinstance(error, InvalidValue) and error.argument and isinstance(cause, ValidationError)):
        return str(error)
    found = cause.errors(include_url=False)[0]
    name, annotation = error.argument.name, error.argument.field_info.annotation
    # A group of settings is checked as a whole, and says which of them it was.
    fields = getattr(error.argument.hint, "model_fields", {})
    if found["loc"] and found["loc"][0] in fields:
        setting = str(found["loc"][0])
        name, annotation = f"--{setting.replace('_', '-')}", fields[setting].rebuild_annotation()
    return f"{out_of_range(name, annotation, found)}; leave it out for its default."
