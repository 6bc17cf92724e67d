"""What teachers, judges and servers say, however long or crooked: a value or none, and at once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.hostile.mutations import contents

from smidgen.errors import SmidgenError
from smidgen.evaluation.samples import _HEADING, _INLINE  # pyright: ignore[reportPrivateUsage]
from smidgen.evaluation.verdict_parsing import read_choice
from smidgen.models.chat.base import NoReply
from smidgen.models.chat.completion import read_completion
from smidgen.models.chat.failures import failure
from smidgen.models.chat.outside import safe_line
from smidgen.models.chat.source import TryFailed
from smidgen.synthesis.language import language_of
from smidgen.synthesis.score_parsing import read_score
from smidgen.synthesis.whole_refusal import refuses_the_whole

SECONDS = 5.0  # on a busy machine; a pattern that takes the square of a reply's length takes ten times as many
_PIECES = (" ", "\t", "\n", "\r", "*", "_", "`", "1", "9", ".", ",", "-", "−", "/", "(", ")", "Score:", "Verdict:",
           "5 ", "</think>", "<think>", "x", "out of ", "of", "I'm sorry, but ", "I cannot ", "can't help but ", "the ",
           "#", "here is the ", "' ", "\u0301", "\u200b", "’", "and so it goes ")  # fmt: skip


def judged(text: str) -> None:
    read_score(text, low=0, high=5, step=1)
    read_choice(text)


def gated(text: str) -> None:
    refuses_the_whole(text)
    language_of(text[:20_000])


@pytest.mark.parametrize("look", [judged, gated], ids=["judged", "gated"])
@pytest.mark.parametrize("piece", _PIECES)
def test_no_reply_takes_long(piece: str, look: Callable[[str], None]) -> None:
    long = piece * (30_000 // len(piece))
    started = time.perf_counter()
    for text in (long, f"Score: 5{long}x", f"Verdict: 1{long}2", f"{long}\nScore: {long}", f"I cannot help{long}x"):
        look(text)
    assert time.perf_counter() - started < SECONDS


@pytest.mark.parametrize("spaces", [200, 2_000])
def test_a_score_among_spaces_is_read_at_once(spaces: int) -> None:
    """Two hundred spaces took five seconds once, and two thousand would have taken fifteen hours."""
    gap = " " * spaces
    assert read_score(f"Score: 4{gap}/{gap}5{gap}points{gap}.", low=0, high=5).score == 4
    assert read_score(f"Score: 4{gap}or so", low=0, high=5).problem == "not_a_number"


def test_a_heading_of_samples_is_read_at_once() -> None:
    line = " " * 5_000 + "#" * 5_000 + " " * 5_000 + "prompt" + " " * 5_000 + "1" + " " * 5_000 + "x"
    started = time.perf_counter()
    assert not _HEADING.match(" ".join(line.split())) and not _INLINE.match(line)
    assert time.perf_counter() - started < SECONDS


_ANSWER = {
    "choices": [{"message": {"content": "Hi", "refusal": None}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1},
    "model": "m",
}
_REFUSAL = {"error": {"message": "m is not there", "code": "x", "type": "y", "param": "max_tokens"}}


@settings(max_examples=60, database=None)
@given(contents((json.dumps(_ANSWER).encode(),)))
def test_any_body_is_an_answer_or_a_failed_try(body: bytes) -> None:
    try:
        answer = read_completion(body, {"idempotent-replayed": "\xff"}, model="m")
    except TryFailed:
        return
    answer.text.encode()
    answer.model.encode()


@settings(max_examples=60, database=None)
@given(
    st.sampled_from((301, 400, 401, 404, 408, 422, 429, 500, 503, 599)),
    contents((json.dumps(_REFUSAL).encode(),)),
    st.text(max_size=20) | st.sampled_from(("-1", "1e999", "nan", "Thu, 01 Jan 1970 00:00:30 GMT", "Thu, 99 Foo 1")),
)
def test_any_refusal_is_one_that_a_user_or_the_next_try_can_act_on(status: int, body: bytes, wait: str) -> None:
    found = failure(status, {"retry-after": wait}, body, url="http://x", model="m", show=safe_line)
    assert isinstance(found, (TryFailed, NoReply, SmidgenError))
    assert str(found).isprintable()
