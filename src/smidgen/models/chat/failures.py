"""What a server's refusal means: try again, leave this conversation, or stop for everybody."""

from __future__ import annotations

import email.utils
import json
import math
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from smidgen.errors import SmidgenError
from smidgen.models.chat.base import NoReply
from smidgen.models.chat.source import TryFailed

# Longest that one answer can make everybody wait.
LONGEST_WAIT_SECONDS = 120.0
_AGAIN = {408, 409, 425, 429}
# Nobody knows whether the machine behind a gateway that lost patience went on, and billed.
_UNSURE = {408, 502, 504, 520, 522, 523, 524}
_CONVERSATION = {400: "bad_request", 413: "too_long", 422: "bad_request", 451: "content_filter"}
_BY_CODE = {
    "content_filter": "content_filter",
    "content_policy_violation": "content_filter",
    "context_length_exceeded": "too_long",
}
_TO_DO = {
    401: "expected a key that the server takes, got one it refuses (401): {said} Set the right key in the environment.",
    402: "expected an account with money on it, got a refusal (402): {said} Pay, then run the same command again.",
    403: "expected a key that may use model {model!r}, got a refusal (403): {said} Ask for access, or take another.",
    404: "expected a model that the server knows, got {model!r} (404): {said} Check --model, and that --teacher is the "
    "whole address; most end in /v1.",
}
_QUOTA = "expected some quota left, got none ({status}): {said} Pay or wait, then run the same command again."
_ELSE = "expected a chat endpoint at {url}, got status {status}: {said} Check --teacher; most addresses end in /v1."


def failure(
    status: int, headers: Mapping[str, str], body: bytes, *, url: str, model: str, show: Callable[[str], str]
) -> TryFailed | NoReply | SmidgenError:
    """What to raise for an answer that is not of status 200.

    Args:
        status: Of HTTP.
        headers: Of the answer, by names in small letters.
        body: Of the answer, or its beginning.
        url: Where it came from.
        model: The model asked for.
        show: Makes text from outside a line that is safe to print.
    """
    error = _error_of(body)
    message, code = str(error.get("message") or ""), str(error.get("code") or error.get("type") or "")
    said = show(message) or "nothing said."
    if "insufficient_quota" in (error.get("code"), error.get("type")):
        return SmidgenError(_QUOTA.format(status=status, said=said))
    if status in _AGAIN or status >= 500:
        wait = retry_after(headers.get("retry-after"), now=time.time())
        crowded = status in (429, 503, 529)
        return TryFailed(f"status {status}: {said}", wait=wait, unsure=status in _UNSURE, crowded=crowded)
    if status in (400, 422) and error.get("param") == "max_tokens" and "max_completion_tokens" in message:
        return OtherLimitName(f"status {status}: {said}")
    if status in _TO_DO:
        return SmidgenError(_TO_DO[status].format(model=model, said=said))
    if status == 400 and code not in _BY_CODE and _names(model, message):
        # Not this conversation is wrong but the model's name, or what is asked of every conversation.
        return SmidgenError(
            f"expected a request that model {model!r} takes, got a refusal (400): {said} Check --model."
        )
    if status in _CONVERSATION:
        return NoReply(_BY_CODE.get(code, _CONVERSATION[status]), said)
    return SmidgenError(_ELSE.format(url=url, status=status, said=said))


def _names(model: str, message: str) -> bool:
    """Whether a message names the model: as a word of its own, not as a part of one.

    >>> _names("phi", "model 'phi' is not loaded"), _names("phi", "the graphics are too long, as phi-3 said")
    (True, False)
    """
    return bool(re.search(rf"(?<![\w./:-]){re.escape(model)}(?![\w/:-]|\.\w)", message))


class OtherLimitName(SmidgenError):
    """The server has another name for the most tokens of an answer."""


def retry_after(value: str | None, *, now: float) -> float | None:
    """Seconds that a Retry-After header asks for, within bounds; None where it does not.

    Args:
        value: Seconds, or a date of HTTP.
        now: The time, in seconds since 1970.

    Source: RFC 9110, section 10.2.3.

    >>> retry_after("1.5", now=0.0), retry_after("Thu, 01 Jan 1970 00:00:30 GMT", now=10.0)
    (1.5, 20.0)
    >>> retry_after("soon", now=0.0)
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return None if math.isnan(seconds) else min(max(seconds, 0.0), LONGEST_WAIT_SECONDS)


def _error_of(body: bytes) -> dict[str, Any]:
    """The error in a body: OpenAI's own form, the forms of other servers, or plain text."""
    text = body.decode("utf-8", "replace")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {"message": text}
    found = found.get("error", found) if isinstance(found, dict) else found
    if not isinstance(found, dict):
        return {"message": found if isinstance(found, str) else text}
    return found | {"message": found.get("message") or found.get("detail") or text}
