"""Preference pairs of completions: what a play says next is preferred to what a model made up, from the same prompt.

The play's words are cut to as many characters as the model wrote, so that length tells nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from smidgen.data.readers import read_records
from smidgen.evaluation.completions_files import read_completions
from smidgen.runs import json_lines, write_text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prefixes", type=Path, required=True, help="JSONL with prompt and continuation")
    parser.add_argument("--completions", type=Path, required=True, help="a model's, of the same prompts")
    parser.add_argument("--out", type=Path, required=True)
    settings = parser.parse_args()

    own = {row["prompt"]: row["continuation"] for _, row in read_records(settings.prefixes, columns=("prompt",))}
    rows = (
        {"prompt": row.prompt, "chosen": own[row.prompt][: len(text)], "rejected": text}
        for row in read_completions(settings.completions).rows
        for text in row.texts
        if text.strip()
    )
    write_text(settings.out, json_lines(rows))


if __name__ == "__main__":
    main()
