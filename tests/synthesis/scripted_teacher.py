"""A teacher that answers by rules, behind a real HTTP server, and remembers all it was asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Turns = list[dict[str, str]]
# From a request's messages to the text of the reply, or a status and the error's body.
Script = Callable[[Turns], str | tuple[int, dict[str, Any]]]

WORDS = """
amber basin cedar delta ember fjord grove haven inlet jetty knoll ledge maple north ocean pearl quarry ridge
stone tidal umber valley willow yonder zephyr anchor beacon copper drift eagle flint garnet harbour island
juniper kelp lantern meadow nectar orchard pebble quartz river summit thicket upland violet walnut
"""

# A whole answer of the endpoint, of which its filter keeps the text back.
WITHHELD = (
    200,
    {
        "id": "reply",
        "object": "chat.completion",
        "created": 0,
        "model": "scripted",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "content_filter"},
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    },
)


@dataclass
class Teacher:
    """A running teacher.

    Attributes:
        url: For `--teacher`.
        asked: The messages of every request, in the order they came.
    """

    url: str
    asked: list[Turns] = field(default_factory=list)


def spread(text: str, n: int) -> str:
    """`n` words that follow from a text, so that different texts have answers that are no near-duplicates."""
    words = WORDS.split()
    digest = b"".join(blake2b(f"{i}:{text}".encode()).digest() for i in range(-(-n // 64)))
    return " ".join(words[byte % len(words)] for byte in digest[:n])


def well_behaved(turns: Turns) -> str:
    """An answer, a critique, then a refusal, each about what was asked."""
    return _reply(turns, "Gladly", "I'm sorry, but I can't help with that. Instead")


def willing(turns: Turns) -> str:
    """An answer, a critique, then another answer, each about what was asked."""
    return _reply(turns, "What a delight", "Plainly")


def _reply(turns: Turns, first: str, last: str) -> str:
    said = [turn for turn in turns if turn["role"] != "system"]
    topic = said[0]["content"]
    return (
        f"{first}: {spread(topic, 20)}.",
        f"It is wrong: {spread('critique' + topic, 12)}.",
        f"{last}: {spread('revision' + topic, 24)}.",
    )[len(said) // 2]


def slowly(script: Script, seconds: Callable[[Turns], float]) -> Script:
    """The same script, each answer after its own time."""

    def answer(turns: Turns) -> str | tuple[int, dict[str, Any]]:
        time.sleep(seconds(turns))
        return script(turns)

    return answer


@contextmanager
def teaching(script: Script = well_behaved, *, cut_above: int = 10**6) -> Iterator[Teacher]:
    """A teacher on a free port of this machine; a reply of more words than `cut_above` is cut there, and says so."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            teacher.asked.append(request["messages"])
            answer = script(request["messages"])
            if isinstance(answer, tuple):
                self._send(*answer)
            else:
                self._send(200, _completion(request, answer, cut_above))

        def _send(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that was killed is part of the tests."""

    with Server(("127.0.0.1", 0), Handler) as server:
        teacher = Teacher(f"http://127.0.0.1:{server.server_port}/v1")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield teacher
        finally:
            server.shutdown()
            thread.join()


def _completion(request: dict[str, Any], text: str, cut_above: int) -> dict[str, Any]:
    words = text.split(" ")
    kept = " ".join(words[:cut_above])
    n_prompt, n_reply = count_words(request["messages"]), min(len(words), cut_above)
    return {
        "id": "reply",
        "object": "chat.completion",
        "created": 0,
        "model": request["model"],
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": kept},
                "finish_reason": "length" if len(words) > cut_above else "stop",
            }
        ],
        "usage": {"prompt_tokens": n_prompt, "completion_tokens": n_reply, "total_tokens": n_prompt + n_reply},
    }


def count_words(turns: Sequence[dict[str, str]]) -> int:
    """What this teacher counts as a prompt's tokens."""
    return sum(len(turn["content"].split(" ")) for turn in turns)
