"""Held-out pairs for the small world: hh-rlhf rows that its 5,000 pairs do not use, cut in the same way.

    python recipes/small_world/heldout.py --hh-rlhf hh-rlhf/ --pairs pairs.jsonl --out heldout.jsonl

The last human turn is the prompt; an answer ends at the last sentence end within 300 characters.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from smidgen.data.prepare import prepare_pairs
from smidgen.pairs import random_key
from smidgen.runs import write_text

MOST_CHARACTERS = 300
_SENTENCE_END = re.compile(r"[.!?][\"”')]?(?=\s|$)")


def cut(answer: str) -> str | None:
    """The answer up to its last sentence end within the limit; None where it has none there."""
    if len(answer) <= MOST_CHARACTERS:
        return answer
    ends = [match.end() for match in _SENTENCE_END.finditer(answer[:MOST_CHARACTERS])]
    return answer[: ends[-1]] if ends else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hh-rlhf", required=True, type=Path, help="folder with hh-rlhf's .jsonl.gz files")
    parser.add_argument("--pairs", required=True, type=Path, help="the pairs to stay clear of")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--n", type=int, default=600)
    arguments = parser.parse_args()

    training = prepare_pairs([str(arguments.pairs)]).pairs
    used = {(pair.source.split("/")[0], pair.source_row) for pair in training}
    rows = []
    for file in sorted(arguments.hh_rlhf.glob("*.jsonl.gz")):
        name = file.name.removesuffix(".jsonl.gz")
        for pair in prepare_pairs([str(file)]).pairs:
            prompt = pair.prompt[-1].content
            chosen, rejected = cut(pair.chosen_text), cut(pair.rejected_text)
            if (name, pair.source_row) not in used and chosen and rejected and chosen != rejected:
                rows.append(
                    {
                        "prompt": prompt,
                        "chosen": chosen,
                        "rejected": rejected,
                        "source": name,
                        "source_row": pair.source_row,
                    }
                )
    rows.sort(key=lambda row: random_key(row["source"], row["source_row"]))
    write_text(arguments.out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows[: arguments.n]))
    print(f"{min(len(rows), arguments.n)} of {len(rows)} unused rows written to {arguments.out}")


if __name__ == "__main__":
    main()
