"""Writes the corpus: small files made to hurt, one idea each, in a folder for each reader.

    python -m tests.hostile.make_corpus

What a fuzzer found is added by hand, as READER/found-WHAT.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tests.hostile.readers import OTHER, PAIR, READERS

CORPUS = Path(__file__).parent / "corpus"
_ROW = json.dumps(PAIR).encode()


def entries() -> Iterator[tuple[str, str, bytes]]:
    """Reader, what the file is about, and its content."""
    yield from _pairs()
    yield from _tables()
    yield from _yaml()
    yield from _texts()


def _pairs() -> Iterator[tuple[str, str, bytes]]:
    packed = gzip.compress(_ROW * 50, mtime=0)
    for reader in ("pairs_jsonl", "pairs_json"):
        yield reader, "nested-deeply", b'{"prompt": ' + b"[" * 20_000
        yield reader, "nested-in-a-list", b"[" * 20_000
        yield reader, "number-of-5000-digits", _ROW[:-1] + b', "n": ' + b"9" * 5000 + b"}"
        yield reader, "number-beyond-floats", _ROW[:-1] + b', "n": 1e999, "idx": 1e400}'
        yield reader, "half-a-surrogate-pair", rb'{"prompt": "\ud800", "chosen": "a", "rejected": "b"}'
        yield reader, "nul", rb'{"prompt": "a\u0000", "chosen": "a", "rejected": "b"}'
        yield reader, "utf-16", json.dumps(PAIR).encode("utf-16")
        yield reader, "not-an-object", b'null\n1\n"x"\n[]\ntrue\n'
        yield reader, "nothing-but-blank-lines", b"\n" * 1000
        yield reader, "key-twice", b'{"prompt": "a", "prompt": "b", "chosen": "a", "rejected": "b"}'
        yield reader, "terminal-escapes", json.dumps(PAIR | {"\x1b]0;owned\x07": 1, "prompt": 3}).encode()
        yield reader, "no-gzip-behind-its-mark", b"\x1f\x8b" + b"\xff" * 30
        yield reader, "gzip-cut", packed[: len(packed) // 2]
        yield reader, "gzip-wrong-sum", packed[:-8] + b"\0" * 8
        yield reader, "gzip-of-gzip", gzip.compress(packed, mtime=0)
        yield reader, "gzip-with-a-tail", packed + b"tail"
        yield reader, "zlib", zlib.compress(_ROW)
    yield "pairs_json", "list-never-closed", b"[" + _ROW + b","
    yield "pairs_json", "commas-alone", b"[" + b"," * 5000
    yield "pairs_json", "braces-without-end", b"[{" + b"},{" * 3000
    yield "ratings_json", "number-beyond-floats", b'[{"a": 1' + b"0" * 400 + b', "b": 0}]'
    for reader in ("matches", "verdicts", "samples_jsonl", "completions_jsonl", "answers"):
        yield reader, "not-an-object", b'null\n1\n"judge number letter"\n[]\n'
        yield reader, "objects-of-lists", json.dumps({name: [[]] for name in (*PAIR, "number", "judge")}).encode()


def _tables() -> Iterator[tuple[str, str, bytes]]:
    for reader in ("pairs_csv", "prompts_csv", "ratings_csv"):
        yield reader, "quote-never-closed", b'prompt,chosen,rejected\n"a,b\n' * 200
        yield reader, "header-of-escapes", b"\x1b[2J,\x1b]0;owned\x07\n1,2\n"
        yield reader, "header-twice", b"prompt,chosen,rejected,prompt\na,b,c,d\n"
        yield reader, "nul-in-header", b"prompt,cho\0sen,rejected\na,b,c\n"
        yield reader, "lone-carriage-returns", b"prompt,chosen,rejected\ra,b\rc,d\r"
    yield "pairs_csv", "list-of-numbers-in-a-cell", b'prompt,chosen,rejected\n"[{}, 1]",a,b\n"[{",c,d\n'
    whole = _parquet(pa.Table.from_pylist([PAIR, OTHER]))
    for reader in ("pairs_parquet", "completions_parquet", "verdicts_parquet"):
        yield reader, "cut", whole[: len(whole) // 2] + whole[-8:]
        yield reader, "no-thrift-where-pages-are", b"PAR1" + b"\xff" * 40 + whole[44:]
        yield reader, "foot-longer-than-the-file", whole[:-8] + b"\xff\xff\xff\x7fPAR1"
        yield reader, "column-not-utf-8", whole.replace(b"rejected", b"reject\xf4d")
        yield reader, "marks-alone", b"PAR1PAR1"
        yield reader, "no-columns", _parquet(pa.table({"x": [1]}).select([]))
    years = pa.array([2**60], pa.timestamp("us"))
    bytes_ = {"prompt": [b"\xff"], "chosen": [b"a"], "rejected": [b"b"]}
    yield "pairs_parquet", "year-of-no-calendar", _parquet(pa.table({**_columns(PAIR), "when": years}))
    yield "pairs_parquet", "bytes-for-texts", _parquet(pa.table(bytes_))
    yield (
        "completions_parquet",
        "bytes-for-texts",
        _parquet(
            pa.table({"number": [1], "model": ["m"], "label": ["L"], "prompt": ["p"], "completions": [[b"\xff"]]})
        ),
    )


def _yaml() -> Iterator[tuple[str, str, bytes]]:
    laughs = "a0: &a0 [ha]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    merges = "m0: &m0 {a: 1}\n" + "".join(
        f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 9)}]}}\n" for i in range(1, 9)
    )
    for reader in ("settings", "task"):
        yield reader, "a-billion-laughs", laughs.encode()
        yield reader, "a-billion-merges", merges.encode()
        yield reader, "a-list-within-itself", b"a: &a [*a]\n"
        yield reader, "a-billion-laughs-for-the-file", laughs.replace("a11: &a11 ", "").encode() + b"\n"
        yield reader, "base-60", b"a: 1" + b":59" * 2_000
        yield reader, "digits", b"a: " + b"9" * 5000
        yield reader, "nested-deeply", b"a: " + b"[" * 5000
        yield reader, "code", b"a: !!python/object/apply:os.system [id]\n"
        yield reader, "no-such-date", b"a: 2001-99-99\n"
        yield reader, "twice", b"seed: 1\nseed: 2\n"
        yield reader, "list-for-a-name", b"? [a]\n: 1\n"
        yield reader, "two-documents", b"a: 1\n---\nb: 2\n"
        yield reader, "nul", b"a: \0\n"
        yield reader, "binary", b"a: !!binary " + b"=" * 50


def _texts() -> Iterator[tuple[str, str, bytes]]:
    yield "prompts_python", "code", b"import os\nos.system('id')\nharmful = [x for x in open('/etc/passwd')]\n"
    yield "prompts_python", "sum-of-many", b"harmful = " + b" + ".join([b'["a"]'] * 5000)
    yield "prompts_python", "brackets", b"harmful = " + b"[" * 5000
    yield "prompts_python", "nul", b"harmful = ['a']\0"
    for reader in (name for name in READERS if name.startswith(("completions_", "samples_text", "prompts_lines"))):
        yield reader, "not-utf-8", b"PROMPT 1\n\xff\xfe\n"
        yield reader, "headings-alone", b"COMPLETION 1-A\n" * 500
        yield reader, "numbers-out-of-order", b"PROMPT 999999999\nCOMPLETION 7-ZZZ\n"
        yield reader, "rules-alone", b"-----\n" * 2000 + b"SUMMARY 1\n" + b"=" * 20_000
    spaces = b" " * 3000
    yield (
        "samples_text",
        "spaces-in-a-heading",
        spaces + b"#" * 3000 + spaces + b"prompt" + spaces + b"1" + spaces + b"x",
    )
    yield "patterns", "nothing-but-marks", b"\xef\xbb\xbf# a\n\n#b\n"


def _columns(row: dict[str, object]) -> dict[str, list[object]]:
    return {name: [value] for name, value in row.items()}


def _parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


if __name__ == "__main__":
    for reader, what, content in entries():
        file = CORPUS / reader / what
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
