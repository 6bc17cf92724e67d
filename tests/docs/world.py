"""What every reader of a page has: a folder with pairs, prompts and a model, made small from the demo's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.docs.running import Shell
from tests.synthesis.scripted_teacher import Turns, teaching, well_behaved

from smidgen.assets import DEMO

# What a page calls the endpoint of its teacher; the test's own takes its place.
TEACHER = "http://localhost:8000/v1"

# How many rows of each file of the demo: few, so that whatever a page does with them is quick.
ROWS = {
    "pairs.jsonl": 260,
    "heldout.jsonl": 24,
    "harmful.txt": 24,
    "harmless.txt": 24,
    "confirm_harmful.txt": 16,
    "confirm_harmless.txt": 16,
}


def make_world(folder: Path) -> Path:
    """Fill an empty folder with what every reader has; the folder."""
    for name, n_rows in ROWS.items():
        lines = (DEMO / name).read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / name).write_text("".join(lines[:n_rows]), encoding="utf-8")
    (folder / "my-sft-model").mkdir()
    for file in (DEMO / "model").iterdir():
        (folder / "my-sft-model" / file.name).write_bytes(file.read_bytes())
    return folder


@contextmanager
def open_world(folder: Path, environment: dict[str, str]) -> Iterator[Shell]:
    """A page's folder, and a teacher at the address that pages give theirs."""
    with teaching(_reply) as teacher:
        yield Shell(make_world(folder), environment, lambda text: text.replace(TEACHER, teacher.url))


def _reply(turns: Turns) -> str:
    """What it is asked for: a score, a verdict, or in a critique an answer, what is wrong with it, a refusal."""
    text = turns[0]["content"]
    if "Score: N" in text:
        return "It is good.\nScore: 1"
    if "Verdict: 1" in text:
        return "The first.\nVerdict: 1"
    return well_behaved(turns)
