"""A teacher that replays known pairs, and a judge that is right as often as told: what stands in for a large model.

    python recipes/label_noise/replay.py --pairs pairs.jsonl --port 8011 --judge-accuracy 0.8

A small model can neither criticise nor judge. So that the whole path can be run and measured without a large one, this
server answers in the form of a chat endpoint, on this machine alone: a known prompt's rejected answer first, a fixed
critique, then its chosen answer; and, asked to score one of the two, a high score for the better one, or, for a share
of the pairs that follows from their prompts, for the worse one. Nothing it says is a model's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from smidgen.data.prepare import prepare_pairs
from smidgen.pairs import PreferencePair, random_key

CRITIQUE = "It does not answer in the way that people would want. An answer that does would say something else."
REFUSED = 404, {"error": {"message": "expected a prompt of the pairs that are replayed, or one of their answers"}}


class Script:
    """What is said to whom.

    Args:
        pairs: Of a prompt that stands in several, the first is replayed.
        judge_accuracy: Share of the pairs whose better answer gets the higher score.
    """

    def __init__(self, pairs: Sequence[PreferencePair], judge_accuracy: float) -> None:
        self.by_prompt = {pair.prompt_text: pair for pair in reversed(pairs)}
        self.judge_accuracy = judge_accuracy

    def reply(self, messages: Sequence[dict[str, str]]) -> str | None:
        """The next turn of a conversation; None where it is about nothing known."""
        turns = [m["content"] for m in messages if m["role"] == "user"]
        pair = self.by_prompt.get(turns[0])
        if pair is None:
            return self.score("\n".join(m["content"] for m in messages))
        return (pair.rejected_text, CRITIQUE, pair.chosen_text)[min(len(turns), 3) - 1]

    def score(self, text: str) -> str | None:
        """A judge's reply to a text that quotes a prompt and one of its answers."""
        found = [p for p in self.by_prompt.values() if p.prompt_text in text]
        quoted = [(len(a), p, a) for p in found for a in (p.chosen_text, p.rejected_text) if a in text]
        if not quoted:
            return None
        _, pair, answer = max(quoted, key=lambda one: (one[0], len(one[1].prompt_text)))
        right = random_key("judge", random_key(pair.prompt_text, 0)) / 2**64 < self.judge_accuracy
        better = (answer == pair.chosen_text) == right
        return f"I have read the answer and weighed it by the rubric.\nScore: {5 if better else 1}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", required=True)
    parser.add_argument("--port", type=int, default=8011)
    parser.add_argument("--judge-accuracy", type=float, default=0.8)
    asked = parser.parse_args()
    script = Script(prepare_pairs(asked.pairs).pairs, asked.judge_accuracy)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            text = script.reply(request["messages"])
            status, body = REFUSED if text is None else (200, completion(request, text))
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    print(f"replaying {len(script.by_prompt)} prompts on http://127.0.0.1:{asked.port}/v1", flush=True)
    ThreadingHTTPServer(("127.0.0.1", asked.port), Handler).serve_forever()


def completion(request: dict[str, Any], text: str) -> dict[str, Any]:
    """The body of a reply; words stand in for tokens."""
    n_asked, n_said = sum(len(m["content"].split()) for m in request["messages"]), len(text.split())
    return {
        "id": "replay",
        "object": "chat.completion",
        "created": 0,
        "model": request["model"],
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": n_asked, "completion_tokens": n_said, "total_tokens": n_asked + n_said},
    }


if __name__ == "__main__":
    main()
