"""Flags that several commands share, each declared and documented once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

from cyclopts import Group, Parameter, validators
from pydantic import BaseModel, NonNegativeInt, PositiveInt

from smidgen.data.literals import split_reference
from smidgen.settings import Share, plain_settings

if TYPE_CHECKING:
    from smidgen.cli.outcome import Outcome
    from smidgen.data.prepare import Prepared

# Panels of a help page; those of the last two show in --help-all only.
_NO_LIMIT = 1_000_000
MAIN_PANELS = ("Commands", "Arguments", "Parameters", "Loss", "Settings")
RARE = Parameter(group=Group("Rare", sort_key=2))
EVERYWHERE = Parameter(group=Group("Everywhere", sort_key=3))
# For an argument that is a group: its fields become flags of their own, under their own names.
FLAT = Parameter(name="*")
# The same for the settings of another room, which knows nothing of help pages: only the common ones show by default.
SETTINGS = Parameter(name="*", group=Group("Settings", sort_key=1))
# The settings of one registered loss, few enough to show all.
LOSS_SETTINGS = Parameter(name="*", group=Group("Loss", sort_key=0))
NO_FLAG = Parameter(parse=False)
# Commands that are many: a help page lists their names, --help-all what they do.
LOSSES = Group("Preference losses", sort_key=1)
COMMON_SETTINGS = {
    "--loss",
    "--learning-rate",
    "--batch-size",
    "--epochs",
    "--steps",
    "--delta",
    "--selector",
    "--confirm-seeds",
    "--kl-coef",
    "--kl-target",
    "--seed",
}

PairSources = Annotated[
    list[str],
    Parameter(
        name="--pairs",
        metavar="SOURCE",
        help="Preference pairs: file, folder or hub name; repeatable. "
        "JSONL (plain or .gz), JSON, CSV or Parquet with prompt, chosen and rejected.",
    ),
]
Model = Annotated[
    str,
    Parameter(metavar="MODEL", help="The SFT model: a folder in Hugging Face format, or a hub name."),
]
Aligned = Annotated[
    str | None,
    Parameter(metavar="MODEL", help="The same model after training on all pairs, if there is one."),
]


def _is_there(kind: Any, value: Path | None) -> None:
    """Refuse a prompt list whose file is not there, as cyclopts refuses any other file."""
    if value is not None:
        validators.Path(exists=True, dir_okay=False)(kind, split_reference(value)[0])


# A file of prompts, or FILE.py#NAME: a list in a Python file, which is read and not run.
PromptFile = Annotated[Path, Parameter(validator=_is_there)]
Harmful = Annotated[
    PromptFile | None,
    Parameter(
        metavar="FILE",
        help="Prompts to refuse; without it, the project's own. "
        "One a line, a JSON list, JSONL or CSV with a prompt column, or FILE.py#NAME.",
    ),
]
Harmless = Annotated[
    PromptFile | None,
    Parameter(metavar="FILE", help="Prompts to answer; without it, the project's own."),
]
TemplateName = Annotated[
    str,
    Parameter(
        metavar="NAME",
        help="How a conversation becomes text: plain, hh, chat or verbatim. plain is "
        "`user: {prompt} assistant: {response}`, hh is hh-rlhf's, chat the tokenizer's own, verbatim adds nothing.",
    ),
]
MaxLength = Annotated[
    PositiveInt | None,
    Parameter(metavar="TOKENS", help="Longest prompt and answer; longer pairs are left out, and counted."),
]
AnswerHead = Annotated[
    PositiveInt | None,
    RARE,
    Parameter(
        metavar="TOKENS",
        help="Of a pair above --max-length, keep this much of both answers, without end of text; counted.",
    ),
]
SingleTurn = Annotated[
    bool,
    RARE,
    Parameter(help="Leave out pairs whose prompt is more than one turn of the user, and count them."),
]
First = Annotated[
    PositiveInt | None,
    RARE,
    Parameter(metavar="PAIRS", help="Keep the first so many usable pairs, in the data's order."),
]
MaxBadFraction = Annotated[
    Share,
    RARE,
    Parameter(metavar="SHARE", help="Fail, with exit code 3, when more than this share of the rows is bad."),
]
AllowLeaks = Annotated[
    bool,
    RARE,
    Parameter(help="Go on although training prompts stand among the benchmark's."),
]
ConfirmHarmful = Annotated[
    PromptFile | None,
    Parameter(metavar="FILE", help="Prompts for the final test; without it, half of --harmful, by hash."),
]
ConfirmHarmless = Annotated[
    PromptFile | None,
    Parameter(metavar="FILE", help="Prompts for the final test; without it, half of --harmless, by hash."),
]
Heldout = Annotated[
    tuple[str, ...],
    Parameter(metavar="SOURCE", help="Pairs never trained on; without it, some of --pairs are held out."),
]
Out = Annotated[
    Path,
    Parameter(metavar="FOLDER", help="Where the results go; other work there is never overwritten."),
]
Seed = Annotated[NonNegativeInt, Parameter(help="Everything random follows from it.")]
Executor = Annotated[
    Literal["local", "ray"],
    RARE,
    Parameter(help="Where trials and features are computed: this machine's processes, or a Ray cluster's workers."),
]
Address = Annotated[
    str | None,
    RARE,
    Parameter(metavar="HOST:PORT", help="The Ray cluster's head, or auto; without it, one is started on this machine."),
]
DryRun = Annotated[bool, Parameter(help="Say what would be done, and do nothing.")]


def takes_arguments_of(
    function: Callable[..., Any], *, but: Collection[str], flags: Mapping[str, Any]
) -> Callable[[Callable[..., Outcome]], Callable[..., Outcome]]:
    """Give a command the keyword-only arguments and the docstring of the function it runs: they are declared there.

    The command is called with all of them, those not given on the command line at their defaults.

    Args:
        function: What the command runs.
        but: Arguments that are no flags.
        flags: Types for the command line in place of the function's own, by argument.
    """
    hints = get_type_hints(function, include_extras=True) | dict(flags)
    parameters = [
        p.replace(annotation=hints[name])
        for name, p in inspect.signature(function).parameters.items()
        if p.kind is p.KEYWORD_ONLY and name not in but
    ]

    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}

    def decorate(command: Callable[..., Outcome]) -> Callable[..., Outcome]:
        def complete(**given: Any) -> Outcome:
            return command(**(defaults | given))

        complete.__name__ = command.__name__
        complete.__doc__ = inspect.getdoc(function)
        complete.__annotations__ = {p.name: p.annotation for p in parameters}
        complete.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
        return complete

    return decorate


@dataclass(frozen=True, slots=True, kw_only=True)
class PairData:
    """Where pairs come from, and which of them can be used."""

    pairs: PairSources
    template: TemplateName = "plain"
    max_length: MaxLength = None
    answer_head: AnswerHead = None
    single_turn: SingleTurn = False
    first: First = None
    max_bad_fraction: MaxBadFraction = 0.5

    def checks(self, tokenizer: Any) -> dict[str, Any]:
        """Everything that `prepare_pairs` takes beside the sources."""
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "pairs"}
        # A tokenizer says how long its model's texts may be, or a number beyond all sense where it does not know.
        told = _NO_LIMIT if tokenizer is None else tokenizer.model_max_length
        longest = told + 1 if told < _NO_LIMIT else _NO_LIMIT  # the last token is predicted, not fed
        most = min(self.max_length or _NO_LIMIT, longest)
        return settings | {"tokenizer": tokenizer, "max_length": most if most < _NO_LIMIT else None}

    def prepared(self, tokenizer: Any, *, positions: int | None = None) -> Prepared:
        """The checked pairs, encoded where a tokenizer is given; longer than the model's positions is over-long."""
        from smidgen.data.prepare import prepare_pairs

        settings = self.checks(tokenizer)
        if positions is not None:
            settings["max_length"] = min(settings["max_length"] or _NO_LIMIT, positions + 1)
        return prepare_pairs(self.pairs, **settings)


def flag_settings(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A command's arguments as the settings that `--config` takes: groups opened, values plain."""
    settings: dict[str, Any] = {}
    for name, value in arguments.items():
        is_group = isinstance(value, BaseModel) or (is_dataclass(value) and not isinstance(value, type))
        settings |= plain_settings(value) if is_group else {name: plain_settings(value)}
    return settings
