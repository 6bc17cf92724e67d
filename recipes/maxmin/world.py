"""Two groups that want opposite things of the same answers: made-up pairs of a planted 10:1 majority.

    python recipes/maxmin/world.py --out world --seed 0

An answer helps or does not, and has none to three flourishes. Everybody wants help; the majority wants answers plain,
the minority flowery, each as much as the other. Preferences are drawn from these utilities by Bradley–Terry, so people
err. Writes pairs.jsonl and heldout.jsonl (other prompts, same users), with columns `user` and `group`, and
candidates.jsonl: for further prompts every answer there is, with both groups' utilities.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np

from smidgen.runs import write_text

FACTS = {
    "an oak": "a tree that bears acorns",
    "a pine": "a tree that keeps its needles",
    "an elm": "a tree with rough leaves",
    "a willow": "a tree that grows by water",
    "a fox": "an animal that hunts mice",
    "a hare": "an animal with long ears",
    "an otter": "an animal that swims for fish",
    "a badger": "an animal that digs",
    "a heron": "a bird that stands in water",
    "an owl": "a bird that hunts at night",
    "a robin": "a bird with a red breast",
    "a swift": "a bird that sleeps in flight",
    "a flute": "an instrument that is blown",
    "a drum": "an instrument that is struck",
    "a harp": "an instrument with strings",
    "an organ": "an instrument with pipes",
    "a saw": "a tool that cuts wood",
    "a hammer": "a tool that drives nails",
    "a plane": "a tool that smooths wood",
    "a chisel": "a tool that carves",
    "rye": "a grain for dark bread",
    "rice": "a grain that grows in water",
    "oats": "a grain for porridge",
    "barley": "a grain for beer",
    "a canoe": "a boat for one paddle",
    "a ferry": "a boat that carries people",
    "a barge": "a boat that carries goods",
    "a sloop": "a boat with one mast",
    "tin": "a metal that melts early",
    "iron": "a metal that rusts",
}
FORMS = ["What is {}?", "Tell me of {}.", "I never saw {}; explain.", "Describe {} to a child.", "And {}?"]
EVASIONS = ["I do not know.", "Ask somebody else.", "That is hard to say."]
FLOURISHES = [
    "O wondrous thing!",
    "How the heart sings of it!",
    "Golden as the dawn it shines!",
    "Behold its splendour!",
]
# Utility of help and of one flourish, nats; the minority's flourishes count the other way.
HELP, FLOURISH = 2.0, 1.2
SIGN = {"plain": -1.0, "flowery": 1.0}


def answer(topic: str, helps: bool, n_flourishes: int, rng: np.random.Generator) -> str:
    said = f"It is {FACTS[topic]}." if helps else str(rng.choice(EVASIONS))
    return " ".join([said, *rng.permutation(FLOURISHES)[:n_flourishes]])


def utility(group: str, helps: bool, n_flourishes: int) -> float:
    """What an answer is worth to a group, nats."""
    return HELP * helps + SIGN[group] * FLOURISH * n_flourishes


def drawn_pairs(
    users: Sequence[tuple[str, str]], prompts: Sequence[tuple[str, str]], n_each: int, rng: np.random.Generator
) -> Iterator[dict[str, str]]:
    """`n_each` pairs of every user, two answers that differ in help or flourishes."""
    kinds: list[tuple[bool, int]] = list(product((True, False), range(4)))
    seen: set[tuple[str, str, str]] = set()
    for user, group in users:
        n_found = 0
        while n_found < n_each:
            topic, prompt = prompts[int(rng.integers(len(prompts)))]
            one, other = (kinds[int(i)] for i in rng.choice(len(kinds), 2, replace=False))
            gap = utility(group, *one) - utility(group, *other)
            better, worse = (one, other) if rng.random() < 1 / (1 + np.exp(-gap)) else (other, one)
            texts = (prompt, answer(topic, *better, rng), answer(topic, *worse, rng))
            # A pair that two users share would be taken for a repeated row.
            if texts not in seen:
                seen.add(texts)
                n_found += 1
                yield dict(zip(("prompt", "chosen", "rejected"), texts, strict=True)) | {"user": user, "group": group}


def candidate_rows(prompts: Sequence[tuple[str, str]], rng: np.random.Generator) -> Iterator[dict[str, object]]:
    for topic, prompt in prompts:
        for kind in product((True, False), range(4)):
            utilities = {group: utility(group, *kind) for group in SIGN}
            yield {"prompt": prompt, "answer": answer(topic, *kind, rng), **utilities}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--majority", type=int, default=100, help="users who want answers plain")
    parser.add_argument("--minority", type=int, default=10, help="users who want them flowery")
    parser.add_argument("--pairs-each", type=int, default=8)
    parser.add_argument("--heldout-each", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    rng = np.random.default_rng(arguments.seed)
    groups = ["plain"] * arguments.majority + ["flowery"] * arguments.minority
    users = [(f"user {i:03d}", group) for i, group in enumerate(rng.permutation(groups).tolist())]
    prompts = [(topic, form.format(topic)) for topic, form in product(FACTS, FORMS)]
    prompts = [prompts[i] for i in rng.permutation(len(prompts))]
    third = len(prompts) // 3
    tables = {
        "pairs": drawn_pairs(users, prompts[:third], arguments.pairs_each, rng),
        "heldout": drawn_pairs(users, prompts[third : 2 * third], arguments.heldout_each, rng),
        "candidates": candidate_rows(prompts[2 * third :], rng),
    }
    for name, rows in tables.items():
        write_text(arguments.out / f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
