"""One row of any accepted shape as a preference pair, or why it is none.

Shapes: prompt, chosen and rejected as texts; the same as lists of messages; without a prompt, two whole dialogues
(hh-rlhf strings, or lists of messages) that differ in their last assistant turn; and other programs' names for all of
these (`shapes`). Dialogues are split at that turn and nowhere else: a split at the longest common prefix would cut into
answers that open alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from sys import intern
from typing import Any

from smidgen.data.checks import BadRow, check_characters, check_string, check_text, excerpt
from smidgen.data.records import TEXT_COLUMNS
from smidgen.data.shapes import HH_TURN, is_dialogue, own_columns
from smidgen.pairs import Message, Messages, PreferencePair, Scalar, as_turns, messages_from

_OWN_COLUMNS = {*TEXT_COLUMNS, "idx", "source", "source_row"}
_ROLES = ("system", "user", "assistant")
_SHAREGPT_ROLES = {"human": "user", "gpt": "assistant"}


def pair_from_row(
    columns: Any, *, idx: int, source: str, source_row: int, extra: Mapping[str, Scalar] | None = None
) -> PreferencePair:
    """The pair that a row holds.

    Args:
        columns: The row; its own `source` and `source_row`, where they are text and a whole number, are kept.
        idx: The pair's idx.
        source: Used where the row names none.
        source_row: Zero-based; used where the row names none.
        extra: Further `meta`.

    Raises:
        BadRow: The row holds no usable pair.
    """
    if not isinstance(columns, Mapping):
        raise BadRow("not_an_object", f"got {type(columns).__name__}: {excerpt(columns)}")
    columns = own_columns(columns)
    prompt, chosen, rejected = _conversation(columns)
    if chosen == rejected:
        raise BadRow("equal_answers", f"both are {excerpt(chosen[0].content)}")
    return PreferencePair(
        idx=idx,
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        source=own_source(columns) or source,
        source_row=source_row if (own := own_row(columns)) is None else own,
        meta={**_meta(columns), **(extra or {})},
    )


def _conversation(columns: Mapping[str, Any]) -> tuple[Messages, Messages, Messages]:
    chosen, rejected = columns["chosen"], columns["rejected"]
    if "prompt" not in columns or is_dialogue(chosen) or is_dialogue(rejected):
        prompt, chosen_answer = split_dialogue(chosen, "chosen")
        other_prompt, rejected_answer = split_dialogue(rejected, "rejected")
        if prompt != other_prompt:
            raise BadRow("prompts_differ", f"they part at {_parting(prompt, other_prompt)}")
        if "prompt" in columns and columns["prompt"] not in (prompt[-1].content, as_turns(prompt)):
            raise BadRow("prompts_differ", "the prompt column is not the prompt of the dialogues")
        return _ends_with_user(prompt), chosen_answer, rejected_answer
    return prompt_messages(columns["prompt"]), answer_messages(chosen, "chosen"), answer_messages(rejected, "rejected")


def prompt_messages(value: Any) -> Messages:
    """A prompt: a text, or messages that end with the user; BadRow for anything else."""
    return _ends_with_user(_messages(value, "prompt", "user"))


def _ends_with_user(prompt: Messages) -> Messages:
    if prompt[-1].role != "user":
        raise BadRow("bad_messages", f"the prompt ends in a turn of the {prompt[-1].role}")
    check_text(prompt[-1].content, "the last turn of the prompt")
    return prompt


def answer_messages(value: Any, name: str) -> Messages:
    """An answer: a text, or a list of one message of the assistant; BadRow for anything else."""
    messages = _messages(value, name, "assistant")
    if [m.role for m in messages] != ["assistant"]:
        raise BadRow("bad_messages", f"{name} is {len(messages)} turns; expected one of the assistant")
    check_text(messages[0].content, name)
    return messages


def split_dialogue(value: Any, name: str) -> tuple[Messages, Messages]:
    """Prompt and answer of a whole dialogue, split at its last assistant turn.

    >>> prompt, answer = split_dialogue("\\n\\nHuman: Hi\\n\\nAssistant: Hello.", "chosen")
    >>> prompt[0].content, answer[0].content
    ('Hi', 'Hello.')
    """
    messages = _messages(value, name, None)
    *prompt, answer = messages
    if answer.role == "user":
        raise BadRow("ends_in_human_turn", f"{name} ends in a human turn: {excerpt(answer.content)}")
    if answer.role != "assistant" or not prompt:
        raise BadRow("no_prompt", f"{name} has no turn before its answer")
    check_text(answer.content, f"the last answer of {name}")
    return tuple(prompt), (answer,)


def _messages(value: Any, name: str, role: str | None) -> Messages:
    """Messages from one, a list of them or text: one turn of `role`, or for None an hh-rlhf dialogue."""
    if isinstance(value, Mapping) and ("content" in value or "value" in value):
        value = [value]
    if isinstance(value, list):
        if not value:
            raise BadRow("empty_field", f"{name} is an empty list")
        return tuple(_message(turn, f"{name}[{i}]") for i, turn in enumerate(value))
    text = check_text(value, name)
    return messages_from(text, role) if role else _hh_turns(text, name)


def _message(turn: Any, name: str) -> Message:
    if not isinstance(turn, Mapping) or not ({"role", "content"} <= turn.keys() or {"from", "value"} <= turn.keys()):
        raise BadRow("bad_messages", f"{name} is no message with role and content: {excerpt(turn)}")
    role, content = (turn["role"], "content") if "role" in turn and "content" in turn else (turn["from"], "value")
    own = _SHAREGPT_ROLES.get(role, role) if isinstance(role, str) and content == "value" else role
    if own not in _ROLES:
        raise BadRow("bad_messages", f"{name} has role {excerpt(role)}; expected {', '.join(_ROLES)}")
    return Message(own, check_string(turn[content], f"{name}.{content}"))


_HH_ROLES = {"Human": "user", "Assistant": "assistant"}


def _hh_turns(text: str, name: str) -> Messages:
    """An hh-rlhf dialogue's turns; the one space after a role's colon is the format's, all else the text's."""
    opening, *rest = HH_TURN.split(text)
    if not rest:
        raise BadRow("no_prompt", f"{name} is no dialogue with Human: and Assistant: turns, and there is no prompt")
    if opening.strip():
        raise BadRow("bad_messages", f"{name} opens with text before the first turn: {excerpt(opening)}")
    return tuple(
        Message(_HH_ROLES[role], content.removeprefix(" ")) for role, content in zip(rest[::2], rest[1::2], strict=True)
    )


def _parting(a: Messages, b: Messages) -> str:
    turn = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return f"turn {turn + 1} of {len(a)} and {len(b)}"


def whole_number(value: Any) -> int | None:
    """A non-negative whole number, also from a table's text cell; None for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None


def own_source(columns: Mapping[str, Any]) -> str | None:
    """The source that a row names itself."""
    source = columns.get("source")
    if not isinstance(source, str | int) or source == "":
        return None
    check_characters(str(source), "source")
    return intern(str(source))


def own_row(columns: Mapping[str, Any]) -> int | None:
    """The row of its source that a row names itself."""
    return whole_number(columns.get("source_row"))


def _meta(columns: Mapping[str, Any]) -> dict[str, Scalar]:
    meta: dict[str, Scalar] = {}
    for name, value in columns.items():
        if name not in _OWN_COLUMNS and is_scalar(value):
            check_characters(name, "a column's name")
            if isinstance(value, str):
                check_characters(value, name)
            # A number beyond the floats (1e999) has no JSON form to be written in.
            meta[name] = None if isinstance(value, float) and not isfinite(value) else value
    return meta


def is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)
