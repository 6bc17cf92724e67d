"""How selectors grow: seconds and memory of a whole ranking, from ten thousand made-up rows to a million.

    python benchmarks/scale.py [--selectors NAME[:SETTINGS] ...] [--rows 10000 30000] [--limit SECONDS] [--folder DIR]

Features are drawn by seed and written to memory-mapped files block by block, 3.7 GB for a million rows. Every
measurement is one ranking, its best rows and their reasons, in a process of its own. The table gives seconds; at the
largest size processor seconds of all threads, the most memory resident at any time (mapped pages among it, which the
system may take back) and how much of it is the process's own; and the exponent of processor seconds over rows, fitted
by least squares through all sizes.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import threading
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from smidgen.runs import write_json
from smidgen.selection.features import Features
from smidgen.selection.selectors import selector, top

DEFAULT_ROWS = (3_000, 10_000, 30_000)
BUDGET_SHARE = 0.05
TOPICS = 512
DEV_PROMPTS = 400
_BLOCK = 16_384
_WIDTHS = {"text_vector": 384, "hidden_vector": 256, "prompt_vector": 256}


def blocks_of_columns(rows: int, seed: int) -> Iterator[dict[str, np.ndarray]]:
    """The columns that `smidgen select` measures and a reward model's margin, block by block.

    A quarter of the pairs each teaches refusing and answering, one in twenty the opposite. Topics have Zipf's sizes;
    a pair's vectors are its topic's plus noise of its own, and every tenth is a copy of the one before it.
    """
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, TOPICS + 1)
    centres = {name: _topic_centres(rng, name) for name in _WIDTHS}
    for start in range(0, rows, _BLOCK):
        n = min(_BLOCK, rows - start)
        topic = rng.choice(TOPICS, n, p=share / share.sum())
        topic[9::10] = topic[8 : n - 1 : 10][: len(topic[9::10])]
        yield {**_scalars(rng, topic), **{name: _vectors(rng, centres[name][topic], name) for name in _WIDTHS}}


def _topic_centres(rng: np.random.Generator, name: str) -> np.ndarray:
    """Texts share a few words, all weights positive; hidden states are dense."""
    centres = rng.standard_normal((TOPICS, _WIDTHS[name]))
    return np.where(rng.random(centres.shape) < 0.05, np.abs(centres), 0) if name == "text_vector" else centres


def _vectors(rng: np.random.Generator, centres: np.ndarray, name: str) -> np.ndarray:
    """Unit vectors around centres, float32 [n, width]; every tenth is a copy of the one before it."""
    noise = rng.standard_normal(centres.shape, dtype=np.float32)
    if name == "text_vector":
        noise = np.where(rng.random(centres.shape, dtype=np.float32) < 0.08, np.abs(noise), 0)
    vectors = centres + noise
    vectors[9::10] = vectors[8 : len(vectors) - 1 : 10][: len(vectors[9::10])]
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def _scalars(rng: np.random.Generator, topic: np.ndarray) -> dict[str, np.ndarray]:
    n = len(topic)
    harmful = topic % 2 == 0
    lesson = rng.choice(4, n, p=[0.5, 0.05, 0.4, 0.05])  # what the prompt asks for, the opposite, neither, both refuse
    columns: dict[str, np.ndarray] = {
        "prompt_harmfulness": np.where(harmful, rng.beta(8, 2, n) / 2 + 0.5, rng.beta(2, 8, n) / 2),
        "n_turns": rng.geometric(0.5, n),
        "ches": rng.normal(-1, 3, n),
        "external_margin": rng.normal(0.5, 2, n),
    }
    for side, refusing in (("chosen", 0), ("rejected", 1)):
        refuses = (lesson == 3) | (harmful & (lesson == refusing)) | (~harmful & (lesson == 1 - refusing))
        for patterns, missed in (("common", 0.0), ("narrow", 0.2), ("broad", 0.05)):
            columns[f"{side}_refuses_{patterns}"] = refuses & (rng.random(n) >= missed)
        columns[f"{side}_refuses"] = columns[f"{side}_refuses_common"]
        columns[f"{side}_tokens"] = np.maximum(2, rng.lognormal(4, 0.8, n)).astype(np.int64)
        columns[f"ref_{side}_logps"] = -columns[f"{side}_tokens"] * rng.gamma(9, 0.3, n)
        columns[f"aligned_{side}_logps"] = columns[f"ref_{side}_logps"] + rng.normal(0, 8, n)
    columns["prompt_tokens"] = np.maximum(2, rng.lognormal(3.5, 0.7, n)).astype(np.int64)
    for name in ("harmful", "harmless"):
        columns[f"similarity_{name}"] = rng.beta(5, 3, n)
        columns[f"nearest_{name}"] = (topic * 7 + rng.integers(0, 20, n)) % DEV_PROMPTS
    return columns


def write_columns(folder: Path, rows: int, seed: int) -> None:
    """One .npy file a column; no more than one block is in memory."""
    folder.mkdir(parents=True)
    files: dict[str, np.memmap] = {}
    start = 0
    for block in blocks_of_columns(rows, seed):
        for name, values in block.items():
            if name not in files:
                shape = (rows, *values.shape[1:])
                files[name] = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype=values.dtype, shape=shape)
            files[name][start : start + len(values)] = values
        start += len(block["ches"])


def mapped_features(folder: Path) -> Features:
    columns = {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}
    return Features(np.arange(len(columns["ches"]), dtype=np.int64), columns)


class Memory(threading.Thread):
    """The most memory of its own that this process has had, looked up twenty times a second; bytes, Linux only."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most_anonymous = 0

    def run(self) -> None:
        while True:
            self.most_anonymous = max(self.most_anonymous, status("RssAnon"))
            time.sleep(0.05)


def status(name: str) -> int:
    """A line of /proc/self/status, bytes; 0 where there is none."""
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)


def rank(spec: str, folder: Path) -> dict[str, Any]:
    function, features, memory = selector.bind(spec), mapped_features(folder), Memory()
    memory.start()
    started, cpu_started = time.perf_counter(), time.process_time()
    selection = function(features, 0)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    budget = min(round(BUDGET_SHARE * len(features)), len(selection.order))
    kept = top(selection, budget)
    lines = [selection.reasons[row] for row in kept]  # idx are the rows here
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "seconds_with_reasons": time.perf_counter() - started,
        "ranked": len(selection.order),
        "budget": len(lines),
        "peak_bytes": status("VmHWM"),
        "peak_anonymous_bytes": memory.most_anonymous,
    }


def measured(spec: str, folder: Path, limit: float) -> dict[str, Any]:
    """What `rank` finds, in a fresh process; or why there is nothing."""
    command = [sys.executable, __file__, "--worker", spec, "--folder", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"failed": f"over {limit:.0f} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def exponent(found: dict[int, dict[str, Any]]) -> float:
    """The slope of log processor seconds over log rows; NaN from fewer than two sizes."""
    points = [(rows, result["cpu_seconds"]) for rows, result in found.items() if "cpu_seconds" in result]
    rows, seconds = np.log(np.array(points).reshape(-1, 2)).T
    return float(np.polyfit(rows, seconds, 1)[0]) if len(points) > 1 else math.nan


def print_table(results: dict[str, dict[int, dict[str, Any]]], sizes: list[int]) -> None:
    heads = "".join(f"{f'{rows:,}':>11}" for rows in sizes)
    print(f"\n{'seconds at rows':36}{heads} {'cpu s':>8} {'ranked':>9} {'peak GiB':>9} {'own GiB':>8} {'exponent':>9}")
    for spec, found in results.items():
        times = "".join(
            f"{found[rows]['seconds']:11.2f}" if "seconds" in found[rows] else f"{'-':>11}" for rows in sizes
        )
        last = found[sizes[-1]]
        peak, own = (last.get(name, math.nan) / 2**30 for name in ("peak_bytes", "peak_anonymous_bytes"))
        cpu = last.get("cpu_seconds", math.nan)
        print(f"{spec:36}{times} {cpu:8.2f} {last.get('ranked', '-'):>9} {peak:9.2f} {own:8.2f} {exponent(found):9.2f}")
        for rows in sizes:
            if "failed" in found[rows]:
                print(f"    {rows:,} rows: {found[rows]['failed']}")


def measure_all(options: Namespace, folder: Path) -> dict[str, dict[int, dict[str, Any]]]:
    results: dict[str, dict[int, dict[str, Any]]] = {spec: {} for spec in options.selectors}
    for rows in sorted(options.rows):
        columns = folder / str(rows)
        if not columns.exists():
            write_columns(columns, rows, options.seed)
        for spec in options.selectors:
            results[spec][rows] = measured(spec, columns, options.limit)
            print(f"  {spec}, {rows:,} rows: {results[spec][rows]}", file=sys.stderr, flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    everything = [*selector.names(), "facility_location:pools=all", "d_optimal:pools=all"]
    parser.add_argument("--selectors", nargs="+", default=everything)
    parser.add_argument("--rows", nargs="+", type=int, default=list(DEFAULT_ROWS))
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for one measurement")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keeps the columns there; default: a temporary folder")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", help="used by the script itself")
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(rank(options.worker, options.folder)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        results = measure_all(options, options.folder or Path(temporary))
    print_table(results, sorted(options.rows))
    if options.json:
        from setting import machine  # here, so that workers load no more than they need

        settings = {"rows": sorted(options.rows), "seed": options.seed, "limit": options.limit}
        write_json(options.json, {"machine": machine(), "settings": settings, "results": results})


if __name__ == "__main__":
    main()
