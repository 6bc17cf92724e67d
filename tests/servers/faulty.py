"""A chat server with faults, for tests: real HTTP on loopback, OpenAI's form, a script of what goes wrong, and a bill.

    with FaultyServer(plan=[rate_limited("0.2"), None, cut_connection()]) as server:
        ...                       # server.url, server.asked, server.bills

Every request takes the next entry of the plan; None, and whatever comes after the plan, is answered well. What it
makes it bills, also where the reply never arrives. Where it honours Idempotency-Key, an answer that was made is given
out again under its key and not billed again. Tokens are words.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Turns = list[dict[str, str]]


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request.

    Attributes:
        status: Another than 200 makes no answer and bills nothing.
        body: Sent in place of the answer.
        headers: Sent beside it.
        change: Alters the answer's JSON.
        seconds: Passes before anything is sent.
        sent: Share of the body that is sent before the connection is cut.
        pause: Passes between single bytes of the body.
    """

    status: int = 200
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    change: Callable[[dict[str, Any]], Any] | None = None
    seconds: float = 0.0
    sent: float = 1.0
    pause: float = 0.0


def refused(status: int, message: str = "refused", **error: Any) -> Fault:
    return Fault(status=status, body=json.dumps({"error": {"message": message, **error}}).encode())


def rate_limited(after: str | None = None) -> Fault:
    headers = {} if after is None else {"Retry-After": after}
    return Fault(status=429, body=b'{"error": {"message": "slow down"}}', headers=headers)


def no_quota() -> Fault:
    return refused(429, "you have used it all up", code="insufficient_quota", type="insufficient_quota")


def broken(status: int = 500) -> Fault:
    return Fault(status=status, body=b"<html>Internal Server Error</html>")


def slow(seconds: float) -> Fault:
    return Fault(seconds=seconds)


def dripping(pause: float) -> Fault:
    return Fault(pause=pause)


def cut_connection(sent: float = 0.5) -> Fault:
    return Fault(sent=sent)


def wrong_json(body: bytes = b'{"choices": [') -> Fault:
    return Fault(body=body)


def large(n_bytes: int) -> Fault:
    return Fault(body=b" " * n_bytes)


def changed(change: Callable[[dict[str, Any]], Any]) -> Fault:
    return Fault(change=change)


def without_usage() -> Fault:
    return Fault(change=lambda answer: answer.pop("usage"))


def without_content(reason: str = "stop") -> Fault:
    def change(answer: dict[str, Any]) -> None:
        answer["choices"][0]["message"]["content"] = None
        answer["choices"][0]["finish_reason"] = reason

    return Fault(change=change)


def redirected(url: str) -> Fault:
    return Fault(status=307, headers={"Location": url}, body=b"")


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    body: dict[str, Any]
    headers: dict[str, str]
    at_seconds: float

    @property
    def key(self) -> str:
        return self.headers.get("idempotency-key", "")

    @property
    def content(self) -> str:
        """A hash of what was asked."""
        return hashlib.sha256(json.dumps(self.body, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Bill:
    """One answer that was made, and has to be paid for."""

    key: str
    content: str
    prompt_tokens: int
    completion_tokens: int

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


def plain_reply(turns: Turns) -> str:
    """An answer that depends on the whole conversation."""
    digest = hashlib.sha256(json.dumps(turns).encode()).hexdigest()
    return f"Answer {digest[:8]} to {len(turns)} turns."


class FaultyServer:
    """The server; a context manager.

    Args:
        reply: From a conversation to the answer.
        plan: A fault, or None, for each request in the order of arrival; or what makes one from a request.
        honours_keys: Whether a repeated Idempotency-Key is answered from what was made before.
        key: Refuses other bearers, and says which came.
        model: Refuses other models, where not empty.
    """

    def __init__(
        self,
        reply: Callable[[Turns], str] = plain_reply,
        *,
        plan: Iterable[Fault | None] | Callable[[Asked], Fault | None] = (),
        honours_keys: bool = True,
        key: str = "",
        model: str = "",
    ) -> None:
        self.reply, self.honours_keys, self.key, self.model = reply, honours_keys, key, model
        script = iter(() if callable(plan) else plan)
        self.fault_for = plan if callable(plan) else lambda asked: next(script, None)
        self.asked: list[Asked] = []
        self.bills: list[Bill] = []
        self.replays = 0
        self.most_at_once = 0
        self._at_once = 0
        self._made: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._server = _Quiet(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def tokens_billed(self) -> int:
        return sum(bill.tokens for bill in self.bills)

    def times_billed(self) -> Counter[str]:
        """How often each question was billed, by its content."""
        return Counter(bill.content for bill in self.bills)

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers.get("Content-Length", 0))
        body = json.loads(request.rfile.read(length))
        asked = Asked(body, {n.lower(): v for n, v in request.headers.items()}, time.monotonic())
        with self._lock:
            self.asked.append(asked)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            fault = self.fault_for(asked) or Fault()
        try:
            self._respond(request, asked, self._barred(request.path, asked) or fault)
        finally:
            with self._lock:
                self._at_once -= 1

    def _barred(self, path: str, asked: Asked) -> Fault | None:
        shown = asked.headers.get("authorization", "").removeprefix("Bearer ")
        if path != "/v1/chat/completions":
            return refused(404, f"no such path {path}")
        if self.key and shown != self.key:
            return refused(401, f"Incorrect API key provided: {shown}", code="invalid_api_key")
        if self.model and asked.body["model"] != self.model:
            return refused(404, f"The model {asked.body['model']} does not exist", code="model_not_found")
        return None

    def _respond(self, request: BaseHTTPRequestHandler, asked: Asked, fault: Fault) -> None:
        headers = dict(fault.headers)
        body = fault.body or b""
        if fault.status == 200:
            answer, replayed = self._answer(asked)
            if replayed:
                headers["Idempotent-Replayed"] = "true"
            if fault.change:
                answer = json.loads(json.dumps(answer))
                fault.change(answer)
            body = fault.body if fault.body is not None else json.dumps(answer).encode()
        self._stopping.wait(fault.seconds)
        request.send_response(fault.status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if fault.pause:
            for byte in body:
                request.wfile.write(bytes([byte]))
                request.wfile.flush()
                if self._stopping.wait(fault.pause):
                    break
        else:
            request.wfile.write(body[: round(len(body) * fault.sent)])
        if fault.sent < 1 or fault.pause:
            request.close_connection = True

    def _answer(self, asked: Asked) -> tuple[dict[str, Any], bool]:
        """The answer, and whether it was made, and billed, before."""
        with self._lock:
            if self.honours_keys and asked.key in self._made:
                self.replays += 1
                return self._made[asked.key], True
            turns = asked.body["messages"]
            words = self.reply(turns).split(" ")
            most = asked.body.get("max_tokens") or asked.body.get("max_completion_tokens") or len(words)
            prompt_tokens = sum(len(turn["content"].split()) + 3 for turn in turns)
            completion_tokens = min(len(words), most)
            self.bills.append(Bill(asked.key, asked.content, prompt_tokens, completion_tokens))
            self._made[asked.key] = {
                "id": f"chat-{len(self.bills)}",
                "object": "chat.completion",
                "created": 0,
                "model": asked.body["model"],
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": " ".join(words[:most])},
                        "finish_reason": "length" if len(words) > most else "stop",
                    }
                ],
                "usage": {
                    "prompt_tokens": prompt_tokens,
                    "completion_tokens": completion_tokens,
                    "total_tokens": prompt_tokens + completion_tokens,
                },
            }
            return self._made[asked.key], False


class _Quiet(ThreadingHTTPServer):
    """Clients that are killed, or lose patience, are no news."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


def _handler(server: FaultyServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Header and body are two writes; without this, the second may wait for the first's receipt.
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            server.handle(self)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
