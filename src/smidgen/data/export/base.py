"""What export formats share: their registry, what a format says of itself, and rows in the two usual forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from smidgen.data.checks import BadRow
from smidgen.data.templates import load_template
from smidgen.errors import UsageError
from smidgen.pairs import PreferencePair, as_turns
from smidgen.settings import Registry

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a format writes pairs.

    Attributes:
        row: A pair's own columns; raises BadRow where the format has no way to say it.
        path: The data file, relative to the folder; .jsonl, .json (a list, one element a line) or .parquet.
        usage: What to do with the folder, in Markdown, for its card.
        files: Further files by their path, such as a configuration.
        reads_back: Whether a row is the pair itself, and not its text in a template.
    """

    row: Callable[[PreferencePair], Row]
    path: str
    usage: str
    files: Mapping[str, str] = field(default_factory=dict)
    reads_back: bool = True


export_format: Registry[Callable[..., Layout]] = Registry("format")
"""Functions from a dataset's name, and settings, to a `Layout`."""


def prompt_chosen_rejected(template: str | None) -> tuple[Callable[[PreferencePair], Row], bool]:
    """Rows of prompt, chosen and rejected, and whether they read back as the pair.

    Args:
        template: None for lists of messages. A template's name for texts: "verbatim" as they stand, one turn each; any
            other for the whole conversation as that template has it.

    Raises:
        UsageError: An unknown template, or "chat", which is the trainer's own business.

    >>> from smidgen.pairs import plain_pair
    >>> prompt_chosen_rejected("plain")[0](plain_pair(0, "Hi", "Hello.", "Go away."))
    {'prompt': 'user: Hi assistant:', 'chosen': ' Hello.', 'rejected': ' Go away.'}
    """
    if template is None:
        return _conversational, True
    if template.partition(":")[0] == "chat":
        raise UsageError(
            "expected template plain, hh or verbatim, got chat: whoever trains on lists of messages applies the "
            "model's chat template; leave template out."
        )
    if template == "verbatim":
        return _verbatim, True
    found = load_template(template)

    def row(pair: PreferencePair) -> Row:
        return {
            "prompt": found.prompt(pair.prompt),
            "chosen": found.response(pair.chosen),
            "rejected": found.response(pair.rejected),
        }

    return row, False


def _conversational(pair: PreferencePair) -> Row:
    return {name: as_turns(getattr(pair, name)) for name in ("prompt", "chosen", "rejected")}


def _verbatim(pair: PreferencePair) -> Row:
    if [turn.role for turn in pair.prompt] != ["user"]:
        roles = ", ".join(turn.role for turn in pair.prompt)
        raise BadRow("not_expressible", f"a text is one turn of the user, the prompt has {roles}; write messages")
    return {"prompt": pair.prompt_text, "chosen": pair.chosen_text, "rejected": pair.rejected_text}
