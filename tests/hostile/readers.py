"""Every reader of bytes from outside, by name, each with files that are good: what fuzzers and the corpus are tried on.

The law: whatever bytes it is given, a reader gives data or raises a SmidgenError that says something.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from smidgen.data.answers import answer_from_row
from smidgen.data.checks import BadRow
from smidgen.data.literals import read_literals
from smidgen.data.prepare import prepare_pairs
from smidgen.data.prompts import load_prompts
from smidgen.data.sources import load_rows
from smidgen.errors import SmidgenError
from smidgen.evaluation.completions_files import read_completions
from smidgen.evaluation.matches import read_matches
from smidgen.evaluation.patterns import load_patterns
from smidgen.evaluation.samples import read_samples
from smidgen.evaluation.verdicts import read_verdicts
from smidgen.explain.ratings import ratings
from smidgen.settings import read_settings, settings_yaml
from smidgen.synthesis.task import load_task


@dataclass(frozen=True, slots=True)
class Reader:
    """A reader of one file.

    Attributes:
        file: What the file is called.
        read: From the file to its data, all of it looked at.
        good: Contents that it takes.
    """

    file: str
    read: Callable[[Path], Any]
    good: tuple[bytes, ...]


def obeys(read: Callable[[Path], Any], path: Path) -> bool:
    """Whether a reader took a file; it must not fail but by a SmidgenError with words in it."""
    try:
        read(path)
    except SmidgenError as error:
        assert len(str(error)) > 20, f"an error that says nothing: {error!r}"
        return False
    return True


def _pairs(path: Path) -> None:
    for pair in prepare_pairs(str(path), max_bad_fraction=1.0).pairs:
        assert pair.prompt_text.strip() and pair.chosen_text != pair.rejected_text


def _answers(path: Path) -> None:
    for row in load_rows(str(path), columns=("prompt", "label")).rows:
        try:
            answer_from_row(row.columns, idx=row.idx, source=row.source, source_row=row.row)
        except BadRow:
            continue


def _groups(path: Path) -> None:
    from smidgen.cli.ratings_file import read_groups

    ratings(**read_groups(path))


def _settings(path: Path) -> None:
    settings_yaml(read_settings(path))


def _lines(*rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _parquet(*rows: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([*rows]), out)
    return out.getvalue()


PAIR = {"prompt": "Name a tree.", "chosen": "The oak.", "rejected": "No.", "source": "a", "source_row": 3, "w": 0.5}
OTHER = {"prompt": "Name a fish.", "chosen": "The eel.", "rejected": "Why?", "source": "b", "source_row": 4, "w": 1.5}
_USER = [{"role": "user", "content": "Name a tree."}]
_BOTH = {"chosen": [*_USER, {"role": "assistant", "content": "The oak."}],
         "rejected": [*_USER, {"role": "assistant", "content": "No."}]}  # fmt: skip
_HH = {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello.", "rejected": "\n\nHuman: Hi\n\nAssistant: Go."}
_ALPACA = {"instruction": "Add.", "input": "1 2", "history": [["a", "b"]], "system": "Be.", "chosen": "3",
           "rejected": "4"}  # fmt: skip
_SHAREGPT = {"conversations": [{"from": "human", "value": "Hi"}], "chosen": {"from": "gpt", "value": "Hello."},
             "rejected": {"from": "gpt", "value": "Go."}}  # fmt: skip
_RATED = {"prompt": "Hi", "generations": ["a", "b", "c"], "ratings": [1.0, None, 2.0]}
_SHAPES = (PAIR, _BOTH, _HH, _ALPACA, _SHAREGPT, _RATED)
_MATCH = {"number": 1, "letter": "A", "prompt": "p", "model_a": "x", "model_b": "y", "a": "1", "b": "2"}
_VERDICT = {"judge": "j", "number": 1, "letter": "A", "model_a": "x", "model_b": "y", "outcome": 1.0, "why": "w"}
_WRITTEN = {"number": 1, "model": "m", "label": "COMPLETION", "prompt": "p", "completions": ["a", "b"],
            "cut": [False, True], "settings": {"seed": 1}}  # fmt: skip
_BLOCKS = b"PROMPT 1\n\nFirst:\n\nCOMPLETION 1-A\n\nWe.\n\nCOMPLETION 1-B\n\nYou.\n\nPROMPT 2\n\nLast:\n\nCOMPLETION 2-A\n\n\\PROMPT 1\n\nCOMPLETION 2-B\n\nx\n"  # noqa: E501
_LOOSE = b"a post\n-----\nSUMMARY 1: short\n-----\nanother post\n-----\nSUMMARY 2: shorter\n"
_TASK = b"""about: x
frames: {train: [{name: a, text: "Say {prompt}", marks: ["a+"]}]}
critique: c
revise: r
rubric: {text: t, low: 0, high: 5, step: 1}
"""

READERS = {
    "pairs_jsonl": Reader("pairs.jsonl", _pairs, (_lines(*_SHAPES), _lines(PAIR, OTHER))),
    "pairs_gz": Reader("pairs.jsonl.gz", _pairs, (gzip.compress(_lines(*_SHAPES), mtime=0),)),
    "pairs_json": Reader("pairs.json", _pairs, (json.dumps(_SHAPES).encode(), json.dumps([PAIR], indent=1).encode())),
    "pairs_csv": Reader(
        "pairs.csv",
        _pairs,
        (b'prompt,chosen,rejected,idx\nHi,a,b,1\n"[{""role"": ""user"", ""content"": ""x""}]",c,d,2',),
    ),
    "pairs_parquet": Reader("pairs.parquet", _pairs, (_parquet(PAIR, OTHER), _parquet(_BOTH))),
    "answers": Reader(
        "answers.jsonl", _answers, (_lines({"prompt": "p", "completion": "c", "label": True, "weight": 2}),)
    ),
    "prompts_lines": Reader("prompts.txt", load_prompts, (b"How?\n\nWhy?\nWhen?\n",)),
    "prompts_blocks": Reader("blocks.txt", lambda p: load_prompts(p, form="blocks"), (b"How?\nAnd?\n\nWhy?\n",)),
    "prompts_undecided": Reader("either.txt", lambda p: load_prompts(p, form=None), (b"How?\nWhy?\n",)),
    "prompts_json": Reader("prompts.json", load_prompts, (b'["How?", {"prompt": "Why?"}]', b'[\n"a",\n"b"\n]')),
    "prompts_csv": Reader("prompts.csv", load_prompts, (b"prompt,x\nHow?,1\n",)),
    "prompts_python": Reader(
        "data.py", lambda p: read_literals(p, "harmful"), (b'harmful = ["a" + "b", "c"] + ("d",)\nx = 1\n',)
    ),
    "patterns": Reader("mine.txt", load_patterns, (b"# mine\nI can't\nsorry\n",)),
    "completions_text": Reader("output.txt", read_completions, (_BLOCKS,)),
    "completions_loose": Reader("loose.txt", read_completions, (_LOOSE,)),
    "completions_asked": Reader(
        "asked.txt", lambda p: read_completions(p, prompts=["a post", "another post"]), (_LOOSE,)
    ),
    "completions_jsonl": Reader("output.jsonl", read_completions, (_lines(_WRITTEN, _WRITTEN | {"number": 2}),)),
    "completions_parquet": Reader("output.parquet", read_completions, (_parquet(_WRITTEN),)),
    "matches": Reader("matches.jsonl", read_matches, (_lines(_MATCH, _MATCH | {"number": 2}),)),
    "verdicts": Reader("verdicts.jsonl", read_verdicts, (_lines(_VERDICT, _VERDICT | {"number": 2}),)),
    "verdicts_parquet": Reader("verdicts.parquet", read_verdicts, (_parquet(_VERDICT),)),
    "samples_text": Reader("samples.txt", read_samples, (b"PROMPT 1\na\nCHOSEN: b\n## REJECTED --\nc\n",)),
    "samples_jsonl": Reader("samples.jsonl", read_samples, (_lines(PAIR),)),
    "settings": Reader("settings.yaml", _settings, (b"seed: 1\nrecipe: {steps: 2, lr: 1e-4}\npairs: [a, b]\n",)),
    "task": Reader("task.yaml", load_task, (_TASK,)),
    "ratings_csv": Reader("ratings.csv", _groups, (b"group,weight,a,b,c\nx,1,1,0,2\ny,2,0,1,1\n",)),
    "ratings_json": Reader("ratings.json", _groups, (b'[{"group": "x", "weight": 1, "a": 1, "b": 0.5}]',)),
}


def seeds() -> Iterator[tuple[str, bytes]]:
    """Every good content, with its reader's name."""
    for name, reader in READERS.items():
        for content in reader.good:
            yield name, content
