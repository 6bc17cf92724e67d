"""Runs to look at, made of texts that try to break out of a page; and the real program serving them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from tests.foreground import COMMAND
from tests.report.conftest import _pairs, build_run  # pyright: ignore[reportPrivateUsage]

from smidgen.data.prepare import prepare_pairs
from smidgen.evaluation.matches import Match, write_matches
from smidgen.runs import content_hash, write_json, write_text

HOSTILE = (
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "</textarea></div></main><style>*{display:none}</style>",
    "\"><a href=javascript:document.title='owned' hx-get=/compare/finish hx-trigger=load>x</a>",
    "{{ 7*7 }} {% raw %} \u202eright to left\u202c עברית\n\n\tindented",
)
MODELS = ("sft-baseline", "orpo-tuned")


T = TypeVar("T")


def some(value: T | None) -> T:
    """A value that must be there."""
    assert value is not None
    return value


def build_comparison(folder: Path, *, n_prompts: int = 3) -> Path:
    """A comparison's folder: two letters for every prompt, and answers that name nobody."""
    write_matches(
        folder / "matches.jsonl",
        [
            Match(
                number=number,
                letter=letter,
                prompt=f"Prompt {number}. {HOSTILE[number % 5]}",
                model_a=MODELS[0],
                model_b=MODELS[1],
                a=f"alpha {number}{letter} {HOSTILE[(number + 1) % 5]}",
                b=f"beta {number}{letter} {HOSTILE[(number + 2) % 5]}",
            )
            for number in range(1, n_prompts + 1)
            for letter in "AB"
        ],
    )
    return folder


def build_study(folder: Path) -> Path:
    """A finished study of hostile texts, with the file its pairs came from beside it."""
    build_run(folder, hostile=True)
    rows = [
        {"idx": p.idx, "prompt": p.prompt_text, "chosen": p.chosen_text, "rejected": p.rejected_text}
        for p in _pairs(True)
    ]
    # NUL is the one thing in them that no pair may hold.
    source = folder.parent / "pairs.jsonl"
    write_text(source, "".join(json.dumps(row).replace("\\u0000", "") + "\n" for row in rows))
    pairs = prepare_pairs(str(source), max_bad_fraction=1.0).pairs
    hashed = content_hash([(p.idx, p.prompt_text, p.chosen_text, p.rejected_text) for p in pairs])
    write_json(folder / "inputs.json", {"pairs": hashed})
    return folder


@pytest.fixture
def comparison(tmp_path: Path) -> Path:
    return build_comparison(tmp_path / "sft-baseline-against-orpo-tuned")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study to look at, made once: nothing that looks at it changes it."""
    return build_study(tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def study(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, to break."""
    shutil.copytree(finished.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / "run"


@dataclass(frozen=True, slots=True)
class Served:
    """`smidgen view`, running."""

    process: subprocess.Popen[str]
    address: str

    @property
    def base(self) -> str:
        return self.address.partition("?")[0]

    @property
    def port(self) -> int:
        return int(self.base.rstrip("/").rpartition(":")[2])


@contextmanager
def served(run: Path, *flags: str, browser: str = "") -> Iterator[Served]:
    """The program itself in a process of its own; killed at the end if it has not ended.

    Args:
        run: What it shows.
        flags: Of its command line.
        browser: The command that it opens as the user's browser; none where empty.
    """
    process = subprocess.Popen(
        [*COMMAND, "view", str(run), *([] if browser else ["--no-browser"]), *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "BROWSER": browser},
    )
    try:
        assert process.stderr is not None
        address = next((line.strip() for line in process.stderr if "?token=" in line), "")
        assert address, "the program ended without an address"
        yield Served(process, address)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate()
