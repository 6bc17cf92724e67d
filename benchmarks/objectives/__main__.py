"""What each objective does to the same model: same pairs, same steps, same learning rate, every setting at its default.

    python -m benchmarks.objectives --out runs/objectives
    python -m benchmarks.objectives --out runs/real --pairs FILE --model FOLDER --heldout FILE \\
        --harmful FILE --harmless FILE --steps 200 --objectives dpo simpo

Without --pairs, the embedded demo. Part of the pairs trains a reward model and nothing else; it is the judge of the win
rate against the model that all start from, and the external score of the objectives that take one. A table, not a
contest: another learning rate or strength would order the objectives differently, and prompts are dev prompts.

Killed and called again with the same arguments, it goes on. Writes objectives.json and objectives.md into --out.
"""

from __future__ import annotations

import argparse
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from benchmarks.objectives.measure import Ground, measured, prepared_ground
from benchmarks.objectives.table import write_table
from benchmarks.objectives.trainings import TRAININGS
from benchmarks.setting import machine

from smidgen.assets import DEMO
from smidgen.errors import UsageError
from smidgen.runs import open_run, read_json, write_json
from smidgen.training.loop import Recipe


def options() -> Namespace:
    """The command line's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--pairs", default=str(DEMO / "pairs.jsonl"))
    parser.add_argument("--heldout", default=str(DEMO / "heldout.jsonl"))
    parser.add_argument("--model", default=str(DEMO / "model"))
    parser.add_argument("--harmful", default=str(DEMO / "harmful.txt"))
    parser.add_argument("--harmless", default=str(DEMO / "harmless.txt"))
    parser.add_argument("--objectives", nargs="+", default=list(TRAININGS), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--reward-share", type=float, default=0.4, help="of the pairs, for the reward model alone")
    parser.add_argument("--max-new-tokens", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    found = parser.parse_args()
    if unknown := [name for name in found.objectives if name not in TRAININGS]:
        raise UsageError(f"unknown objective {unknown[0]!r}; expected one of: {', '.join(TRAININGS)}")
    return found


def main() -> None:
    asked = options()
    torch.set_num_threads(asked.threads)
    # More objectives or seeds may be asked of a finished run; all else makes it another.
    later = ("out", "objectives", "seeds", "threads")
    identity = {key: str(value) for key, value in vars(asked).items() if key not in later}
    open_run(asked.out, {"command": "benchmarks.objectives", **identity})
    recipe = Recipe(
        learning_rate=asked.learning_rate, batch_size=asked.batch_size, steps=asked.steps, schedule="linear"
    )
    ground: Ground | None = None
    rows: list[dict[str, Any]] = []
    for seed in range(asked.seeds):
        for name in ["none", *asked.objectives]:
            file = asked.out / "rows" / f"{name}-{seed}.json"
            if not file.exists() and not (name == "none" and seed):
                ground = ground or prepared_ground(asked, recipe)
                write_json(file, measured(ground, name, TRAININGS.get(name), seed))
                print(f"{name}, seed {seed}: {read_json(file)['train_seconds']:.0f} s of training", flush=True)
            if file.exists():
                rows.append(read_json(file))
    about = {"machine": machine(), "settings": identity, "reward_model": read_json(asked.out / "reward.json")}
    print(write_table(rows, about, asked.out))


if __name__ == "__main__":
    main()
