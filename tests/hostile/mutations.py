"""What an enemy makes of a good file: bytes at random, bytes changed here and there, JSON gone wrong."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

HOSTILE_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 2**63, 10**400, 0.5, 1e308, float("nan"), float("inf"), "", " ", "1", "\ud800", "\0",
    "\x1b[2J", "\u202e", "=1+1", "../../etc/passwd", "<script>alert(1)</script>", "A" * 300, [], {}, [[]], [None],
    {"role": "user"}, {"content": 1}, [{"role": "user", "content": "\udfff"}], {"": {}}, [0] * 50,
    "9" * 5000, "1e999", "nan", "[{", "PROMPT 1", "user",
)  # fmt: skip
_PIECES = (
    b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\x1f\x8b", b"\r", b"\n", b"\r\n", b'"', b"'", b"\\", b"{", b"}",
    b"[", b"]", b",", b":", b"-----\n", b"NaN", b"1e999", b"&a [*a]", b"*a", b"!!python/name:os.system ", b"\x1b[2J",
    b"\xed\xa0\x80", b"PROMPT 1\n", b"COMPLETION 1-A", b" " * 200, b"[" * 3000, b"9" * 5000, b"PAR1", b"PK\x03\x04",
)  # fmt: skip


def changed(good: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """Contents that were good until something was cut, put in, doubled or overwritten."""

    @st.composite
    def draw_changed(draw: st.DrawFn) -> bytes:
        content = draw(st.sampled_from(good))
        for _ in range(draw(st.integers(1, 4))):
            start, end = sorted((draw(st.integers(0, len(content))), draw(st.integers(0, len(content)))))
            piece = draw(st.sampled_from(_PIECES) | st.binary(max_size=8))
            kept = draw(st.sampled_from(("", "twice", "gone", "flipped")))
            middle = {
                "": content[start:end],
                "twice": content[start:end] * 2,
                "gone": b"",
                "flipped": bytes(b ^ 0x80 for b in content[start:end][:2]) + content[start:end][2:],
            }[kept]
            content = content[:start] + piece + middle + content[end:]
        return content

    return draw_changed()


def gone_wrong(good: bytes) -> st.SearchStrategy[bytes]:
    """JSON or JSONL of the same form with a hostile value, or a hostile name, at some places."""
    rows = _parsed(good)

    @st.composite
    def draw_gone_wrong(draw: st.DrawFn) -> bytes:
        value: Any = json.loads(json.dumps(rows))
        for _ in range(draw(st.integers(1, 3))):
            value = _spoilt(draw, value)
        if good.lstrip().startswith(b"[") or not isinstance(value, list):
            return json.dumps(value).encode()
        return "".join(json.dumps(row) + "\n" for row in value).encode()

    return draw_gone_wrong()


def _parsed(good: bytes) -> Any:
    try:
        return json.loads(good)
    except ValueError:
        return [json.loads(line) for line in good.splitlines() if line.strip()]


def _spoilt(draw: st.DrawFn, value: Any) -> Any:
    """The value with one place in it taken by a hostile one, dropped, or named otherwise."""
    places = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    if not places or draw(st.integers(0, 5)) == 0:
        return draw(st.sampled_from(HOSTILE_VALUES))
    place = draw(st.sampled_from(list(places)))
    if isinstance(value, list):
        return [*value[:place], _spoilt(draw, value[place]), *value[place + 1 :]]
    how = draw(st.sampled_from(("spoil", "spoil", "drop", "rename")))
    rest = {name: inner for name, inner in value.items() if name != place}
    if how == "drop":
        return rest
    if how == "rename":
        name = draw(st.sampled_from([v for v in HOSTILE_VALUES if isinstance(v, str)]))
        return rest | {name: value[place]}
    return value | {place: _spoilt(draw, value[place])}


def is_json(content: bytes) -> bool:
    """Whether a content is JSON or JSONL."""
    try:
        _parsed(content)
    except (ValueError, UnicodeDecodeError):
        return False
    return True


def contents(good: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """All of it: noise, changed files, and JSON gone wrong where the good files are JSON."""
    found = st.binary(max_size=200) | changed(good)
    for content in good:
        if is_json(content):
            found = found | gone_wrong(content)
    return found
