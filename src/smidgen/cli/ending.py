"""How a command ends: its outcome or its failure, as text for people or, with --json, as one JSON object.

An outcome is printed on standard output; a failure is one line on standard error. With --json standard output holds
exactly one object either way, and a failure's is always of the same form:

    {"error": {"kind": "usage", "message": "unknown command …"}, "exit_code": 2}

Kinds: failed, usage, invalid_data, interrupted, and defect for what is Smidgen's own fault.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from cyclopts import CycloptsError, UnknownCommandError

from smidgen.cli.outcome import Outcome
from smidgen.cli.shown import say, shown
from smidgen.cli.wrong_flags import wrong_flag
from smidgen.errors import SmidgenError, UsageError
from smidgen.runs import explained

HELP_FLAGS = ("--help", "-h", "--help-all")
_JSON = "--json"
# Studies keep every finished trial, trainings checkpoints, critiques and scores replies, generate what is written.
_AFTER_INTERRUPT = {True: "run the same command again to resume", False: "the same command starts again"}
_RESUMED = {"compare", "minimize", "demo", "train", "critique", "score", "generate"}


@dataclass(frozen=True, slots=True)
class Failure:
    """The end of a command that was not done.

    Attributes:
        kind: One word for programs.
        message: What was expected, what came, what to do.
    """

    kind: str
    message: str
    exit_code: int

    @property
    def data(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {"error": {"kind": self.kind, "message": self.message}, "exit_code": self.exit_code}


def wants_json(tokens: Sequence[str]) -> bool:
    """Whether the outcome is to be JSON: known before anything is parsed, since parsing may fail."""
    flags = tokens[: tokens.index("--")] if "--" in tokens else tokens
    return _JSON in flags


def asks_for_help(tokens: Sequence[str]) -> bool:
    return bool({*HELP_FLAGS} & set(tokens))


@contextmanager
def only_the_outcome(*, as_json: bool) -> Iterator[None]:
    """While a command runs with --json, what libraries print goes to standard error."""
    if not as_json:
        yield
        return
    with redirect_stdout(sys.stderr):
        yield


def finish(outcome: Outcome, *, as_json: bool) -> int:
    """Print what a command has to say; its exit code."""
    if as_json:
        _print_object(outcome.data)
    elif outcome.text:
        print(shown(outcome.text))
    sys.stdout.flush()
    return 4 if outcome.n_quarantined else 0


def fail(failure: Failure, *, as_json: bool) -> int:
    """Print why a command was not done; its exit code."""
    if as_json:
        _print_object(failure.data)
        sys.stdout.flush()
    say(f"smidgen: {failure.message}")
    return failure.exit_code


def fail_by_defect(error: BaseException, *, as_json: bool) -> None:
    """Say of an exception that nobody foresaw what a program needs to know; its traceback is for people."""
    if as_json:
        _print_object(Failure("defect", f"{type(error).__name__}: {error}", 1).data)
        sys.stdout.flush()


def failure_of(error: BaseException, tokens: Sequence[str]) -> Failure | None:
    """What an exception means to a user; None for a defect, which nobody foresaw."""
    if isinstance(error, UnknownCommandError):
        return Failure(UsageError.kind, _unknown_command(error), UsageError.exit_code)
    if isinstance(error, CycloptsError):
        command = " ".join(["smidgen", *(error.command_chain or ())])
        return Failure(UsageError.kind, f"{wrong_flag(error)} See `{command} --help`.", UsageError.exit_code)
    if isinstance(error, SmidgenError):
        return Failure(error.kind, str(error), error.exit_code)
    if isinstance(error, KeyboardInterrupt):
        return Failure("interrupted", f"interrupted; {_AFTER_INTERRUPT[bool(_RESUMED & set(tokens[:1]))]}", 130)
    if isinstance(error, OSError):
        return Failure(SmidgenError.kind, explained(error), SmidgenError.exit_code)
    return None


def _print_object(data: Mapping[str, Any]) -> None:
    print(shown(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)))


def _unknown_command(error: UnknownCommandError) -> str:
    """Said here, because the error's own text imports every command to find out which there are."""
    wrong = (error.unused_tokens or [""])[0]
    names = [name for name in error.app or () if not name.startswith("-")]
    if wrong.startswith("-"):
        return f"expected one of the commands {', '.join(names)}, got the flag {wrong}; name a command first."
    near = get_close_matches(wrong, names, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"unknown command {wrong!r}; expected one of: {', '.join(names)}.{hint}"
