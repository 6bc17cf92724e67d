"""How a study grows with workers: measured for one and two on this machine, simulated for more from its own trials.

    python benchmarks/scaling.py [--pairs N] [--prompts N] [--executors local ray] [--workers 1 2] [--json FILE]
    python benchmarks/scaling.py --study runs/mine [--serial SECONDS] [--start SECONDS]

The first form runs the demo's study, or its first `--pairs` and `--prompts` for a quicker look, by every executor and
number of workers, each in a process of its own; efficiency is the seconds of one local worker over those of n workers,
divided by n. The second takes a finished run instead. Both end in a plan: the run's trials, each as long as it took,
done by 1 to 1,000 workers. Trials wait for each other as they did in the study: what is raced next depends on what
was raced before, so a round's longest trial bounds it however many workers there are. Everything outside trials
(reference, features, writing) is taken as it was, on one machine.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from smidgen.assets import DEMO
from smidgen.errors import UsageError
from smidgen.runs import write_json

PLANNED = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
_TRIED_AT_ONCE = 2  # subsets that a round of swaps tries


@dataclass(frozen=True, slots=True)
class Row:
    """A finished trial, as the study's store has it."""

    stage: str
    arm: str
    budget: int
    seed: int
    generated: bool
    seconds: float


def finished_trials(study: Path) -> list[Row]:
    """Every trial of a run's folder, in the order they ended.

    Raises:
        UsageError: No finished study there.
    """
    path = study / "study.sqlite"
    if not path.exists():
        raise UsageError(f"expected a run with a study.sqlite at {study}, found none; give a finished run's folder.")
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        rows = connection.execute(
            "SELECT stage, arm, budget, seed, metrics, wall_seconds FROM trials ORDER BY rowid"
        ).fetchall()
    return [
        Row(stage, arm, budget, seed, json.loads(metrics)["score"] is not None, seconds)
        for stage, arm, budget, seed, metrics, seconds in rows
    ]


def rounds(trials: Sequence[Row]) -> list[list[float]]:
    """Seconds of the trials that the study asked for at once, round by round; none began before all earlier ended."""
    ladder = {row.budget for row in trials if row.stage == "search" and row.arm == "search"}
    tried = min((row.seed for row in trials if row.stage == "refine"), default=0)
    found: list[list[float]] = []
    for key, group in groupby(trials, key=lambda row: _round_of(row, tried)):
        together = list(group)
        if key != ("refine", "tried"):
            found.append([row.seconds for row in together])
            continue
        for part in _tries(together, ladder):
            found.append([row.seconds for row in part])
    return found


def _round_of(row: Row, tried: int) -> tuple[Any, ...]:
    if row.stage == "refine":
        return row.stage, "tried" if row.seed == tried else "measured"
    if row.stage == "search":
        return row.stage, row.arm, row.generated
    if row.stage == "tune":
        return row.stage, row.arm
    if row.arm.startswith("transfer_"):
        return row.stage, row.arm.split("_")[1]
    if row.arm in ("base", "aligned", "full"):
        return row.stage, "levels"
    return (row.stage, row.arm, row.budget) if row.arm == "subset" else (row.stage, "baselines")


def _tries(rows: Sequence[Row], ladder: set[int]) -> list[list[Row]]:
    """Swaps keep a size of the ladder and are tried two at a time; groups dropped in turn leave sizes alike."""
    parts: list[list[Row]] = []
    for row in rows:
        full = bool(parts) and row.budget in ladder and len(parts[-1]) == _TRIED_AT_ONCE
        if not parts or full or abs(row.budget - parts[-1][0].budget) > 1:
            parts.append([])
        parts[-1].append(row)
    return parts


def makespan(seconds: Sequence[float], workers: int) -> float:
    """Seconds until all are done, each by the worker that is free first, the longest begun first.

    >>> makespan([3.0, 2.0, 2.0], 2)
    4.0
    """
    free = [0.0] * min(workers, len(seconds))
    for length in sorted(seconds, reverse=True):
        heapq.heappush(free, heapq.heappop(free) + length)
    return max(free, default=0.0)


def plan(waves: Sequence[Sequence[float]], *, serial: float, start: float) -> list[dict[str, float]]:
    """Hours, speed-up and efficiency for every planned number of workers.

    Args:
        waves: From `rounds`.
        serial: Seconds outside trials.
        start: Seconds until workers have started, all at once.
    """
    alone = start + serial + sum(map(sum, waves))
    table = []
    for workers in PLANNED:
        seconds = start + serial + sum(makespan(wave, workers) for wave in waves)
        speed_up = alone / seconds
        table.append({"workers": workers, "seconds": seconds, "speed_up": speed_up, "efficiency": speed_up / workers})
    return table


def measure(options: Namespace, executor: str, workers: int, folder: Path) -> dict[str, Any]:
    """Run the study once; seconds on the clock, of trials, and outside of them."""
    out = folder / f"{executor}-{workers}"
    data = _data(options, folder)
    command = [sys.executable, "-m", "smidgen", "minimize", "--config", str(DEMO / "settings.yaml"), "--out", str(out)]
    command += [word for name, path in data.items() for word in (f"--{name}", str(path))]
    command += ["--model", str(DEMO / "model"), "--executor", executor, "--workers", str(workers)]
    started = time.perf_counter()
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - started
    if done.returncode not in (0, 4):
        raise SystemExit(f"{executor}, {workers} workers failed:\n{done.stderr[-3000:]}")
    trials = finished_trials(out)
    in_trials = sum(makespan(wave, workers) for wave in rounds(trials))
    return {
        "executor": executor,
        "workers": workers,
        "seconds": seconds,
        "trials": len(trials),
        "trial_seconds": sum(row.seconds for row in trials),
        "outside_seconds": max(0.0, seconds - in_trials),
    }


def _data(options: Namespace, folder: Path) -> dict[str, Path]:
    """The demo's files by their flags, or the first lines of each."""
    most = {"pairs": options.pairs, "heldout": options.pairs}
    files = ("pairs.jsonl", "heldout.jsonl", "harmful.txt", "harmless.txt")
    found: dict[str, Path] = {}
    for name in (*files, "confirm_harmful.txt", "confirm_harmless.txt"):
        flag, n_lines = Path(name).stem, most.get(Path(name).stem, options.prompts)
        lines = (DEMO / name).read_text(encoding="utf-8").splitlines(keepends=True)[:n_lines]
        (folder / name).write_text("".join(lines), encoding="utf-8")
        found[flag.replace("_", "-")] = folder / name
    return found


def print_measured(found: Sequence[dict[str, Any]]) -> None:
    alone = found[0]
    print(f"{'executor':10}{'workers':>8}{'seconds':>9}{'trials':>8}{'in trials':>11}{'efficiency':>12}")
    for row in found:
        row["efficiency"] = alone["seconds"] * alone["workers"] / row["seconds"] / row["workers"]
        head = f"{row['executor']:10}{row['workers']:>8}{row['seconds']:9.1f}{row['trials']:8}"
        print(f"{head}{row['trial_seconds']:11.1f}{row['efficiency']:12.2f}")


def print_plan(waves: Sequence[Sequence[float]], table: Sequence[dict[str, float]]) -> None:
    widest, bound = max(map(len, waves)), sum(map(max, waves))
    print(
        f"\n{sum(map(len, waves))} trials in {len(waves)} rounds, the widest of {widest}; "
        f"with a worker for every trial, the trials alone would take {bound:.0f} s"
    )
    print(f"{'workers':>8}{'seconds':>10}{'speed-up':>10}{'efficiency':>12}   simulated")
    for row in table:
        print(f"{row['workers']:>8}{row['seconds']:10.1f}{row['speed_up']:10.2f}{row['efficiency']:12.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, help="a finished run to plan from; without it, the demo's study is run")
    parser.add_argument("--serial", type=float, default=0.0, help="with --study, its seconds outside trials")
    parser.add_argument("--start", type=float, default=0.0, help="seconds until workers have started")
    parser.add_argument("--executors", nargs="+", choices=("local", "ray"), default=["local", "ray"])
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--pairs", type=int, help="of the demo's; default: all")
    parser.add_argument("--prompts", type=int, help="of each of the demo's lists; default: all")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    measured: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        study, serial = options.study, options.serial
        if study is None:
            for executor in options.executors:
                for workers in options.workers:
                    measured.append(measure(options, executor, workers, Path(temporary)))
                    print(f"  {measured[-1]}", file=sys.stderr, flush=True)
            print_measured(measured)
            first = measured[0]
            study, serial = Path(temporary) / f"{first['executor']}-{first['workers']}", first["outside_seconds"]
        waves = rounds(finished_trials(study))
    table = plan(waves, serial=serial, start=options.start)
    print_plan(waves, table)
    if options.json:
        from setting import machine  # here, so that planning from a run loads no model library

        widths = [len(wave) for wave in waves]
        found = {"measured": measured, "plan": table, "round_widths": widths, "serial_seconds": serial}
        write_json(options.json, {"machine": machine(), **found})


if __name__ == "__main__":
    main()
