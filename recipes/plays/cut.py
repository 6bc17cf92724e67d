"""Cut a file of plays into what is read, what is preferred, and what is asked: parts that share no line.

Every prompt is a speaker's name and the first two lines of a long speech; what the play says next is its own
continuation.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from smidgen.data.readers import read_utf8
from smidgen.runs import json_lines, write_text

OPENING_LINES = 2
LEAST_LINES = 4
CONTINUATION_WORDS = 70
# Of the plays, by length: for supervised reading, for preference pairs, for the judge's own pairs, for the comparison.
PARTS = {"reading": 0.5, "pairs": 0.25, "judge": 0.15, "asked": 0.1}


@dataclass(frozen=True)
class Prefix:
    """The opening of a speech, and what follows it in the play."""

    prompt: str
    continuation: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plays", type=Path, help="plays as plain text: a speaker's name, lines, a blank line")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--asked", type=int, default=40, help="prompts to compare on")
    settings = parser.parse_args()

    parts = dict(zip(PARTS, cut(read_utf8(settings.plays)), strict=True))
    write_text(settings.out / "reading.txt", "\n\n".join(parts["reading"]) + "\n")
    for name in ("pairs", "judge"):
        rows = ({"prompt": p.prompt, "continuation": p.continuation} for p in prefixes(parts[name]))
        write_text(settings.out / f"prefixes_{name}.jsonl", json_lines(rows))
    asked = list(prefixes(parts["asked"]))
    asked = random.Random(0).sample(asked, min(settings.asked, len(asked)))
    write_text(settings.out / "input_shakespeare_prefixes.txt", "\n\n".join(p.prompt for p in asked) + "\n")


def cut(plays: str) -> Iterator[list[str]]:
    """The speeches of each part, in the order of `PARTS`."""
    speeches = [speech.strip("\n") for speech in plays.replace("\r\n", "\n").split("\n\n") if speech.strip()]
    start, end = 0, 0.0
    for share in PARTS.values():
        end += share * len(speeches)
        yield speeches[start : round(end)]
        start = round(end)


def prefixes(speeches: list[str]) -> Iterator[Prefix]:
    """The openings of the long speeches, each with the play's own next words."""
    for position, speech in enumerate(speeches):
        name, *lines = speech.split("\n")
        if name.endswith(":") and len(lines) >= LEAST_LINES:
            rest = "\n" + "\n".join(lines[OPENING_LINES:])
            for following in speeches[position + 1 :]:
                if len(rest.split()) >= CONTINUATION_WORDS:
                    break
                rest += f"\n\n{following}"
            yield Prefix("\n".join([name, *lines[:OPENING_LINES]]), rest)


if __name__ == "__main__":
    main()
