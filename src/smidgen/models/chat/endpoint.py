"""A model behind an OpenAI-compatible endpoint, asked once at a time: what is sent, and what may come back.

Only the model, the conversation and its sampling are sent: no tools, no number of choices, no format of the reply, and
no header beyond the key and those of HTTP itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx2
import openai

from smidgen.models.chat.address import check_url, is_loopback, read_key
from smidgen.models.chat.base import Sampling
from smidgen.models.chat.completion import read_completion
from smidgen.models.chat.failures import OtherLimitName, failure
from smidgen.models.chat.outside import safe_line, without_key
from smidgen.models.chat.source import Answer, Source, TryFailed
from smidgen.pairs import Messages

MOST_REPLY_BYTES = 10_000_000
_MOST_ERROR_BYTES = 100_000
_CONNECT_SECONDS = 15.0
# Beside Authorization, which is sent where there is a key.
_HEADERS = {"host", "connection", "accept", "accept-encoding", "content-type", "content-length", "transfer-encoding"}
# The last one is how the client itself knows later that the body is to be read here; it says "stream".
_HEADERS |= {"user-agent", "idempotency-key", "x-stainless-raw-response"}
# The field is called so almost everywhere; newer models of one maker want the other name, and say so.
_LIMIT_NAMES = ("max_tokens", "max_completion_tokens")


@asynccontextmanager
async def open_endpoint(
    url: str, model: str, *, key_variable: str | None = None, timeout_seconds: float = 120.0
) -> AsyncIterator[Source]:
    """A model behind HTTP.

    Args:
        url: The endpoint's address; most end in /v1.
        model: As the server calls it.
        key_variable: The environment variable with the key; OPENAI_API_KEY where None, no key where "none".
        timeout_seconds: Most time of one try, from sending to the reply's last byte.

    Raises:
        UsageError: An address or a key that cannot be used.
    """
    url = check_url(url)
    key = read_key(url, key_variable)
    # Of a proxy for the world outside, this machine's own servers know nothing.
    transport = openai.DefaultAsyncHttpxClient(
        follow_redirects=False,
        trust_env=not is_loopback(url),
        event_hooks={"request": [_only_sending(key)], "response": [_refuse]},
    )
    async with openai.AsyncOpenAI(
        api_key=key or "none",
        base_url=url,
        max_retries=0,
        timeout=httpx2.Timeout(None, connect=min(_CONNECT_SECONDS, timeout_seconds)),
        http_client=transport,
    ) as client:
        yield Source(name=url, model=model, answer=_Endpoint(client, url, model, key, timeout_seconds).answer)


def _only_sending(key: str) -> Callable[[httpx2.Request], Awaitable[None]]:
    """What takes from a request all headers but those that it needs.

    The client adds what it finds in the environment (OPENAI_ORG_ID, OPENAI_PROJECT_ID, OPENAI_CUSTOM_HEADERS), meant
    for another server, and what it knows of this machine.
    """

    async def strip(request: httpx2.Request) -> None:
        for name in list(request.headers.keys()):
            if name.lower() not in _HEADERS:
                del request.headers[name]
        if key:
            request.headers["Authorization"] = f"Bearer {key}"

    return strip


class _Refused(Exception):
    """A status that is not 200, with the beginning of its body."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        super().__init__(status)
        self.status, self.headers, self.body = status, headers, body


async def _refuse(response: httpx2.Response) -> None:
    """Read no more of a refusal than what is needed to tell what it means."""
    if response.status_code == 200:
        return
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > _MOST_ERROR_BYTES:
            break
    headers = {name.lower(): value for name, value in response.headers.items()}
    raise _Refused(response.status_code, headers, bytes(body[:_MOST_ERROR_BYTES]))


@dataclass(slots=True, repr=False)
class _Endpoint:
    client: openai.AsyncOpenAI
    url: str
    model: str
    key: str
    timeout_seconds: float
    limit_name: str = _LIMIT_NAMES[0]

    async def answer(self, messages: Messages, sampling: Sampling, key: str) -> Answer:
        """One try; see `Source`."""
        limit_name = self.limit_name
        try:
            async with asyncio.timeout(self.timeout_seconds):
                body, headers = await self._post(messages, sampling, key, limit_name)
        except TimeoutError:
            raise TryFailed(f"no reply within {self.timeout_seconds:g} seconds", unsure=True) from None
        except _Refused as refused:
            raise self._failure(refused, limit_name) from None
        except (openai.APIConnectionError, httpx2.RequestError) as error:
            raise self._lost(error) from None
        except openai.APIError as error:
            raise TryFailed(f"an unreadable reply: {self._show(str(error))}", unsure=True) from None
        if len(body) > MOST_REPLY_BYTES:
            return _too_large(self.model)
        found = read_completion(body, headers, model=self.model)
        return replace(found, text=without_key(found.text, self.key), model=safe_line(found.model, self.key))

    async def _post(
        self, messages: Messages, sampling: Sampling, key: str, limit_name: str
    ) -> tuple[bytes, dict[str, str]]:
        turns: Any = [{"role": m.role, "content": m.content} for m in messages]
        limit: Any = {limit_name: sampling.max_new_tokens}
        nucleus: Any = {"top_p": sampling.top_p} if sampling.top_p < 1 else {}
        async with self.client.chat.completions.with_streaming_response.create(
            model=self.model,
            messages=turns,
            temperature=sampling.temperature,
            **limit,
            **nucleus,
            extra_headers={"Idempotency-Key": key},
        ) as response:
            body = bytearray()
            async for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MOST_REPLY_BYTES:
                    break
            return bytes(body), {name.lower(): value for name, value in response.headers.items()}

    def _failure(self, refused: _Refused, limit_name: str) -> Exception:
        found = failure(refused.status, refused.headers, refused.body, url=self.url, model=self.model, show=self._show)
        if isinstance(found, OtherLimitName) and limit_name == _LIMIT_NAMES[0]:
            self.limit_name = _LIMIT_NAMES[1]
            return TryFailed(str(found), wait=0.0)
        return found

    def _lost(self, error: Exception) -> TryFailed:
        cause = error.__cause__ or error
        if isinstance(cause, (httpx2.ConnectError, httpx2.ConnectTimeout)):
            said = self._show(str(cause)) or type(cause).__name__
            return TryFailed(f"nobody answers at {self.url}: {said}", unreachable=True)
        return TryFailed(f"the connection was cut: {type(cause).__name__}", unsure=True)

    def _show(self, text: str) -> str:
        return safe_line(text, self.key)


def _too_large(model: str) -> Answer:
    return Answer(text="", model=model, cut=True, prompt_tokens=None, completion_tokens=None, refused="too_large")
