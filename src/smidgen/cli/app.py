"""The tree of commands, what every command takes, and how each one ends.

A command is a function: its arguments, with their types, defaults and docstring, are its flags. Its module is
imported when the command is called, so that `smidgen --help` is quick. It returns an `Outcome` and prints nothing
on standard output itself.

Exit codes: 0 done, 1 failed, 2 usage, 3 invalid data, 4 done with quarantined rows, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter, default_name_transform
from cyclopts.config import Dict
from cyclopts.types import ExistingDirectory, ExistingFile

from smidgen import __version__
from smidgen.cli.ending import (
    HELP_FLAGS,
    asks_for_help,
    fail,
    fail_by_defect,
    failure_of,
    finish,
    only_the_outcome,
    wants_json,
)
from smidgen.cli.flags import EVERYWHERE
from smidgen.cli.help import Help
from smidgen.cli.numbers import refuse_fractions
from smidgen.cli.outcome import Outcome
from smidgen.cli.presets import preset_settings
from smidgen.cli.shown import warnings_shown
from smidgen.cli.wrong_flags import refuse_unknown_settings
from smidgen.errors import UsageError
from smidgen.plugins import load_plugins
from smidgen.runs.interrupts import begun
from smidgen.settings import parse_overrides, read_settings

COMMANDS = {
    "demo": ("smidgen.cli.study:demo", "Run a whole study on embedded data: offline, in minutes."),
    "prepare": ("smidgen.cli.prepare:prepare", "Turn a dataset into checked pairs, and list its bad rows."),
    "critique": ("smidgen.cli.critique:critique", "Make pairs: a teacher answers, criticises, revises."),
    "score": ("smidgen.cli.score:score", "Score both answers of pairs: reward model, judge, policy, rule."),
    "train": ("smidgen.cli.train:app", "Train a model: sft, dpo and other preference losses."),
    "generate": ("smidgen.cli.generate:generate", "Write completions of prompts by a model, several each."),
    "bench": ("smidgen.cli.bench:bench", "Measure what a model refuses: the harmful, the harmless."),
    "select": ("smidgen.cli.select:select", "Choose a subset of the pairs at a budget."),
    "plan": ("smidgen.cli.plan:plan", "Tell how many prompts and seeds a claim needs."),
    "minimize": ("smidgen.cli.study:minimize", "Find the smallest subset that aligns as well as all."),
    "compare": ("smidgen.cli.compare:compare", "Compare models: who wins, for whom, how sure."),
    "explain": ("smidgen.cli.explain:app", "Explain ratings, losses and β on your own numbers."),
    "export": ("smidgen.cli.export:export", "Write pairs as TRL, LLaMA-Factory and others read them."),
    "view": ("smidgen.cli.view:view", "Show a run's pages: browse pairs, compare blind."),
    "report": ("smidgen.cli.report:report", "Rebuild a run's report from its files."),
    "settings": ("smidgen.cli.schema:app", "Describe the settings of every command."),
    "completion": ("smidgen.cli.completion:completion", "Make a shell complete commands and flags."),
}


def build_app(
    *, full_help: bool = False, described: Collection[str] = (), commands: Mapping[str, App] | None = None
) -> App:
    """The command tree.

    Args:
        full_help: Also show the rare flags.
        described: Names of commands whose help says all that their docstring says; the others are not imported to be
            listed.
        commands: In place of the real ones, by name.
    """
    app = App(
        name="smidgen",
        help="Find the smallest set of preference pairs that aligns a language model as well as all of them do.",
        version=__version__,
        help_flags=HELP_FLAGS,
        help_format="plaintext",
        help_formatter=Help(full=full_help),
        default_parameter=Parameter(negative_iterable=(), name_transform=flag_name),
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )
    app.meta.suppress_keyboard_interrupt = False
    for order, (name, (path, summary)) in enumerate(COMMANDS.items()):
        if commands is None:
            app.command(path, name=name, help=None if name in described else summary, sort_key=order)
        else:
            app.command(commands[name])

    @app.meta.default
    def launch(
        *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        config: Annotated[ExistingFile | None, EVERYWHERE] = None,
        override: Annotated[tuple[str, ...], Parameter(name="--set", metavar="A.B=C"), EVERYWHERE] = (),
        as_json: Annotated[bool, Parameter(name="--json", negative=""), EVERYWHERE] = False,
        preset: Annotated[str | None, Parameter(metavar="NAME"), EVERYWHERE] = None,
        course: Annotated[ExistingDirectory | None, Parameter(metavar="FOLDER"), EVERYWHERE] = None,
        plugin: Annotated[tuple[ExistingFile, ...], Parameter(metavar="FILE"), EVERYWHERE] = (),
    ) -> int:
        """Run one command and print its outcome.

        Args:
            config: Settings in YAML, named as the flags are; flags and --set go first.
            override: One setting on top of --config; repeatable.
            as_json: Print the outcome, or why there is none, as one JSON object.
            preset: Settings under a name, such as exercise; --config, --set and flags go first.
            course: With --preset, the folder of a course's data.py, whose lists are read and which is not run.
            plugin: A Python file that registers a loss, selector, judge or benchmark; it is run. Repeatable.
        """
        with only_the_outcome(as_json=as_json):
            _plug_in(plugin)
        sources = [(parse_overrides(override), "--set")] + ([(read_settings(config), str(config))] if config else [])
        if course and not preset:
            raise UsageError("--course: expected --preset beside it, got none; give --preset exercise.")
        if preset and tokens and not asks_for_help(tokens):
            command = " ".join(app.parse_commands(tokens)[0])
            sources.append((preset_settings(preset, command, course), f"preset {preset}"))
        for data, source in sources:
            if data and tokens and not asks_for_help(tokens):
                refuse_unknown_settings(app, tokens, data, source)
        given = (
            Dict({flag_name(key): value for key, value in data.items()}, source=source, use_commands_as_keys=False)
            for data, source in sources
        )
        app.config = (*given, refuse_fractions)
        own_page = asks_for_help(tokens)
        with only_the_outcome(as_json=as_json and not own_page):
            command, bound, _ = app.parse_args(tokens)
            outcome = begun(lambda: command(*bound.args, **bound.kwargs))
        if isinstance(outcome, Outcome):
            return finish(outcome, as_json=as_json)
        if as_json and not own_page:
            raise UsageError("expected a command with --json, got none; name one, or leave --json out.")
        return 0

    return app


def _plug_in(files: Sequence[str | Path]) -> None:
    """Run plugins; a loss among what they register becomes a command."""
    if files:
        load_plugins(files)
        import_module("smidgen.cli.train").offer_losses()


def _plugins_among(tokens: Sequence[str]) -> list[str]:
    """What stands behind `--plugin`, before anything else is parsed.

    >>> _plugins_among(["--plugin", "a.py", "--plugin=b.py", "train", "--help"])
    ['a.py', 'b.py']
    """
    joined = [token.removeprefix("--plugin=") for token in tokens if token.startswith("--plugin=")]
    return [value for flag, value in pairwise(tokens) if flag == "--plugin"] + joined


def flag_name(name: str) -> str:
    """An argument's flag; a flag that is repeated is named for one value."""
    return "selector" if name == "selectors" else default_name_transform(name)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line on `argv` (default: the process's own); its exit code."""
    tokens = list(sys.argv[1:] if argv is None else argv)
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")
    # A hub that cannot be reached is one error at the end, not a line for each try.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    try:
        with warnings_shown():
            return _run(tokens)
    except BrokenPipeError:
        # The reader (`head`, a pager) has gone; leave nothing for the interpreter to flush into the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(tokens: Sequence[str]) -> int:
    as_json = wants_json(tokens)
    try:
        if asks_for_help(tokens):  # help pages are printed before `launch` is called
            _plug_in(_plugins_among(tokens))
        full_help = "--help-all" in tokens
        return build_app(full_help=full_help, described=tokens[:1] if full_help else ()).meta(tokens) or 0
    except (BrokenPipeError, SystemExit):
        raise
    except BaseException as error:  # what panics in Rust is no Exception
        if failure := failure_of(error, tokens):
            return fail(failure, as_json=as_json)
        fail_by_defect(error, as_json=as_json)
        raise
