"""Made-up posts with two summaries each, for trying the summariser's steps without a network or a large model."""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from smidgen.runs import write_text

PEOPLE = ("sister", "neighbour", "flatmate", "cousin", "boss", "uncle", "teacher", "friend")
DEEDS = ("sold my bike", "broke my lamp", "lost my keys", "ate my lunch", "painted my door", "borrowed my coat")
TIMES = ("last week", "on Monday", "this spring", "two days ago", "at the party")
FEELINGS = ("I am angry", "I feel sad", "I find it funny", "I want it back", "I do not know what to do")
FILLERS = ("It was raining that day.", "We had pasta before.", "The bus was late again.", "Nobody else was there.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, default=400)
    settings = parser.parse_args()
    draw = random.Random(0)

    rows = [comparison(draw) for _ in range(settings.n)]
    held_out = [{"prompt": comparison(draw)["prompt"]} for _ in range(5)]
    write_text(settings.out / "comparisons.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write_text(settings.out / "input_reddit_posts.jsonl", "".join(json.dumps(row) + "\n" for row in held_out))
    reading = (row["prompt"] + draw.choice((row["chosen"], row["rejected"])) for row in rows)
    write_text(settings.out / "reading.txt", "\n".join(reading) + "\n")


def comparison(draw: random.Random) -> dict[str, str]:
    """A post; the preferred summary says who did what and how it feels, the other one only when, or less."""
    who, deed, when, feeling = (draw.choice(words) for words in (PEOPLE, DEEDS, TIMES, FEELINGS))
    filler = draw.choice(FILLERS)
    worse = (f" Something happened {when}.", f" {filler}", f" My {who} did something.")
    return {
        "prompt": f"POST: {filler} My {who} {deed} {when}. Now {feeling}. TL;DR:",
        "chosen": f" My {who} {deed}, {feeling}.",
        "rejected": draw.choice(worse),
    }


if __name__ == "__main__":
    main()
