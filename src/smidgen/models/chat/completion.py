"""What a server's reply holds, read with suspicion: a reply is data from outside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from smidgen.models.chat.source import Answer, TryFailed

# The mark of servers that keep answers by Idempotency-Key on one that they give out again.
_REPLAYED = "idempotent-replayed"


def read_completion(body: bytes, headers: Mapping[str, str], *, model: str) -> Answer:
    """The first choice of a chat completion.

    Args:
        body: The reply's, whole.
        headers: The reply's, by names in small letters.
        model: The model asked for, where the reply names none.

    Raises:
        TryFailed: Anything but a chat completion with an answer in it. It may have been billed.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise TryFailed("a reply that is not JSON", unsure=True) from None
    choices = found.get("choices") if isinstance(found, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise TryFailed("a reply without choices", unsure=True)
    reason = choice.get("finish_reason")
    text = message.get("content") or message.get("refusal") or message.get("content")
    if reason == "content_filter":
        text = text if isinstance(text, str) else ""
    elif text is None and reason == "length":
        # A model that thinks first may have used up its tokens; asked again it would do so again.
        text = ""
    if not isinstance(text, str):
        raise TryFailed("a reply without content", unsure=True)
    usage = found.get("usage")
    told = found.get("model")
    return Answer(
        text=storable(text),
        model=storable(told) if isinstance(told, str) and told else model,
        cut=reason == "length",
        prompt_tokens=_count(usage, "prompt_tokens"),
        completion_tokens=_count(usage, "completion_tokens"),
        refused="content_filter" if reason == "content_filter" else "",
        replayed=headers.get(_REPLAYED, "").lower() == "true",
    )


def storable(text: str) -> str:
    """Text with what UTF-8 cannot hold, a lone half of a surrogate pair, as U+FFFD."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _count(usage: Any, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40 else None
