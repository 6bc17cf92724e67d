"""How often a study claims what is not so, and how often it claims what is: the whole procedure, simulated.

    python benchmarks/false_claims.py --replications 4000 --json false_claims.json

Prints a table for every kind of world; docs/certificate.md explains them. Each cell holds the share of studies with its
95 % Wilson interval, in percent: false claims in worlds where a false one can be made, all claims elsewhere.
"""

from __future__ import annotations

import json
import zlib
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from smidgen.evaluation.statistics import wilson
from smidgen.study.plan import StudySettings
from smidgen.study.simulation import World, play, worlds

COLUMNS = {
    "false": "false claims",
    "claimed": "claims",
    "bound_missed": "loss bound too low",
    "sequence_bound_missed": "loss bound of the sequence too low",
}


_CHUNK = 100  # studies between two writes of --json, so that a run that is stopped early leaves what it has


def main() -> None:
    arguments = parse()
    cells = [(n, sd) for n in arguments.prompts for sd in arguments.seed_sd]
    names = [name for name in worlds(_world(*cells[0], arguments)) if name in (arguments.world or [name])]
    kinds = [(name, cell) for name in names for cell in cells]
    counts: Counter[tuple[str, tuple[int, float], str]] = Counter()
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(arguments.workers) as pool:
        for chunk in range(-(-arguments.replications // _CHUNK)):
            jobs = [(*kind, chunk, arguments) for kind in kinds]
            for kind, found in zip(kinds, pool.map(simulate, *zip(*jobs, strict=True)), strict=True):
                for column, k in found.items():
                    counts[*kind, column] += k
            rows = [summary(name, cell, counts, arguments) for name, cell in kinds]
            if arguments.json:
                arguments.json.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{rows[0]['studies']} studies a cell, {arguments.seeds} seeds, δ = {arguments.delta}\n")
    for column, title in COLUMNS.items():
        print(f"{title}, %\n\n{table(rows, column, cells)}\n")


def parse() -> Namespace:
    parser = ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--replications", type=int, default=2000)
    parser.add_argument("--prompts", type=int, nargs="+", default=[160, 200, 400], help="of each class, each set")
    parser.add_argument("--seed-sd", type=float, nargs="+", default=[0.04, 0.08, 0.12])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--delta", type=float, default=0.1)
    parser.add_argument("--world", nargs="+", help="only these kinds")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def simulate(name: str, cell: tuple[int, float], chunk: int, arguments: Namespace) -> dict[str, int]:
    """How many of a chunk's studies ended how; the draws depend on the name and the numbers alone."""
    world = worlds(_world(*cell, arguments))[name]
    rng = np.random.default_rng(zlib.crc32(f"{name} {cell} {arguments.seeds} {chunk}".encode()))
    played = [play(world, rng) for _ in range(_CHUNK)]
    sequence = [o.sequence_bound is not None and o.loss > o.sequence_bound + 1e-9 for o in played]
    return {
        "studies": len(played),
        "false": sum(o.false for o in played),
        "claimed": sum(o.claimed for o in played),
        "bound_missed": sum(o.loss > o.loss_bound + 1e-9 for o in played),
        "sequence_bound_missed": sum(sequence),
    }


def summary(name: str, cell: tuple[int, float], counts: Counter[Any], arguments: Namespace) -> dict[str, Any]:
    """Shares of studies, each with its interval."""
    studies = counts[name, cell, "studies"]
    shares = {column: wilson(counts[name, cell, column], studies).as_dict() for column in COLUMNS}
    return {
        "world": name,
        "prompts": cell[0],
        "seed_sd": cell[1],
        "seeds": arguments.seeds,
        "studies": studies,
    } | shares


def table(found: Sequence[dict[str, Any]], column: str, cells: Sequence[tuple[int, float]]) -> str:
    """Markdown: a row a world, a column for each number of prompts and seed spread."""
    by_cell = {(f["world"], f["prompts"], f["seed_sd"]): f[column] for f in found}
    lines = [
        "| world | " + " | ".join(f"{n}+{n}, sd {sd:g}" for n, sd in cells) + " |",
        "|---" * (len(cells) + 1) + "|",
    ]
    for world in dict.fromkeys(f["world"] for f in found):
        shown = [by_cell[world, *cell] for cell in cells]
        texts = [f"{100 * s['mean']:.1f} [{100 * s['low']:.1f}, {100 * s['high']:.1f}]" for s in shown]
        lines.append(f"| {world} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def _world(n: int, seed_sd: float, arguments: Namespace) -> World:
    settings = replace(StudySettings(delta=arguments.delta, sizes=(400, 200, 100)), confirm_seeds=arguments.seeds)
    return World(settings=settings, n_dev=n, n_confirm=n, seed_sd=seed_sd)


if __name__ == "__main__":
    main()
