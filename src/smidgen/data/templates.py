"""How a conversation becomes text: where the prompt ends, and where the answer begins.

In the project's own templates the prompt ends before a space, and that space belongs to the response. Tokenising the
two apart then gives the tokens of the whole text, for every tokenizer that splits words before their space.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from smidgen.errors import UsageError
from smidgen.pairs import Message, Messages
from smidgen.settings import Registry


@dataclass(frozen=True, slots=True)
class Template:
    """Text for both halves of a conversation; the whole text is `prompt(messages) + response(answer)`.

    Attributes:
        name: As given on the command line.
        prompt: Prompt messages to text, ending before the space that opens the answer.
        response: Answer messages to text, beginning with that space; without end of text.
        joins_cleanly: Whether prompt and response, tokenised apart, are meant to be the tokens of the whole text.
            `tokens.joins_cleanly` measures it for a tokenizer.
        boundary: One sentence on why that is so, or is not.
        control_tokens: Whether the text holds special tokens that the tokenizer must read as such. Where it does not,
            a special token's name in the data is plain text, so data can neither end an answer nor open a turn.
    """

    name: str
    prompt: Callable[[Messages], str] = field(repr=False)
    response: Callable[[Messages], str] = field(repr=False)
    joins_cleanly: bool
    boundary: str
    control_tokens: bool = False


templates: Registry[Callable[[Any], Template]] = Registry("template")


def load_template(name: str, tokenizer: Any = None) -> Template:
    """The template of this name.

    Args:
        name: "plain", "hh", "verbatim" or "chat"; with `:suffix=TEXT` behind it, `with_suffix` of that one.
        tokenizer: Needed for "chat", whose text is the tokenizer's own.

    Raises:
        UsageError: An unknown name, an empty suffix, or "chat" with a tokenizer that has no chat template.

    >>> load_template("plain").prompt((Message("user", "Hi"),))
    'user: Hi assistant:'
    >>> load_template("plain:suffix=A helpful answer:").prompt((Message("user", "Hi"),))
    'user: Hi assistant: A helpful answer:'
    """
    base, suffixed, suffix = name.partition(_SUFFIX)
    template = templates.get(base)(tokenizer)
    return with_suffix(template, suffix) if suffixed else template


_SUFFIX = ":suffix="


def with_suffix(template: Template, suffix: str) -> Template:
    """The same template with a fixed text before every answer; it is part of the prompt, so that it is never learned.

    Raises:
        UsageError: An empty suffix.
    """
    if not suffix.strip():
        raise UsageError(f"expected a text after {template.name}{_SUFFIX}, got none; leave {_SUFFIX!r} out.")
    return replace(
        template,
        name=f"{template.name}{_SUFFIX}{suffix}",
        prompt=lambda messages: template.prompt(messages) + before_answer(template, suffix),
    )


def before_answer(template: Template, text: str) -> str:
    """A text between a prompt and its answer, spaced as the template spaces an answer: behind a space, or on a line.

    >>> before_answer(load_template("hh"), "A helpful answer:")
    ' A helpful answer:'
    """
    opens_with_space = template.response((_ANSWER,)).startswith(" ")
    return f" {text}" if opens_with_space else f"{text}\n"


@templates
def plain(tokenizer: Any = None) -> Template:
    """The exercise's `user: {prompt} assistant: {response}`; further turns follow in the same way."""
    return Template(
        name="plain",
        prompt=lambda messages: " ".join(f"{m.role}: {m.content}" for m in messages) + " assistant:",
        response=lambda messages: f" {_answer(messages)}",
        joins_cleanly=True,
        boundary="the prompt ends in a colon and the space after it belongs to the response",
    )


_HH_ROLES = {"user": "Human", "assistant": "Assistant", "system": "System"}


@templates
def hh(tokenizer: Any = None) -> Template:
    """hh-rlhf's own: two newlines, `Human: `, the text, two newlines, `Assistant: `, the answer."""
    return Template(
        name="hh",
        prompt=lambda messages: "".join(f"\n\n{_HH_ROLES[m.role]}: {m.content}" for m in messages) + "\n\nAssistant:",
        response=lambda messages: f" {_answer(messages)}",
        joins_cleanly=True,
        boundary="the prompt ends in a colon and the space after it belongs to the response",
    )


@templates
def verbatim(tokenizer: Any = None) -> Template:
    """The texts as they stand, for data that was put into a template before: one turn, and the answer after it."""
    return Template(
        name="verbatim",
        prompt=_answer,
        response=_answer,
        joins_cleanly=False,
        boundary="where the prompt ends is the data's business; prompt and response are always tokenised apart",
    )


@templates
def chat(tokenizer: Any = None) -> Template:
    """The tokenizer's own chat template."""
    if not getattr(tokenizer, "chat_template", None):
        raise UsageError(
            "template chat: expected a tokenizer with a chat template, got "
            f"{'none' if tokenizer is None else 'one without'}. Take --template plain or hh, or another model."
        )
    opening, closing = _chat_frame(tokenizer)
    # For most models the closing mark (`<|im_end|>\n`) is the end of text, which encoding appends; once is enough.
    end = closing.strip().removeprefix(tokenizer.eos_token or "").strip()

    def response(messages: Messages) -> str:
        return _render(tokenizer, (_QUESTION, *messages))[len(opening) :].removesuffix(closing) + end

    return Template(
        name="chat",
        prompt=lambda messages: _render(tokenizer, messages, add_generation_prompt=True),
        response=response,
        joins_cleanly=False,
        boundary="the model's own chat template sets the boundary: an answer that opens with a space or a newline may "
        "merge with the end of the prompt, so prompt and response are always tokenised apart, as at inference",
        control_tokens=True,
    )


def _answer(messages: Messages) -> str:
    if len(messages) != 1:
        raise UsageError(
            f"expected one turn, got {len(messages)}: {', '.join(m.role for m in messages)}. Take --template hh, plain "
            "or chat, which know how to part turns."
        )
    return messages[0].content


def _render(tokenizer: Any, messages: Messages, *, add_generation_prompt: bool = False) -> str:
    turns = [{"role": m.role, "content": m.content} for m in messages]
    try:
        return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=add_generation_prompt)
    except Exception as error:  # a template is a program from outside: it may fail in any way, out of memory too
        roles = ", ".join(m.role for m in messages)
        raise UsageError(
            f"the tokenizer's chat template takes no conversation of the turns {roles}: {str(error) or repr(error)}. "
            "Take --template plain or hh, or leave out the rows with such turns."
        ) from error


_QUESTION = Message("user", "Question")
_ANSWER = Message("assistant", "⟦answer⟧")


def _chat_frame(tokenizer: Any) -> tuple[str, str]:
    """What a chat template writes before an answer, for `_QUESTION`, and after it."""
    opening = _render(tokenizer, (_QUESTION,), add_generation_prompt=True)
    whole = _render(tokenizer, (_QUESTION, _ANSWER))
    if not whole.startswith(opening) or _ANSWER.content not in whole:
        raise UsageError(
            "template chat: expected the tokenizer's chat template to write an answer after its generation prompt, "
            f"got a conversation that does not begin with {opening[-40:]!r}. Take --template plain or hh."
        )
    return opening, whole.rpartition(_ANSWER.content)[2]
