"""A million pairs from a file to a subset: seconds, and the most memory, of every stage that runs no model.

    python benchmarks/load.py [--pairs N] [--budget GIB] [--stages NAME ...] [--folder DIR] [--json FILE]

Pairs are made up by seed and streamed to disk: the demo's words at their own frequencies with rare ones among them,
prompts of 20 and answers of 50 words in the median, one in fifty a copy, one in twenty a near copy, one in a hundred no
usable pair. Each stage is a process of its own, one thread, stopped once it holds more than the budget. How rankings
grow is in scale.py; stages here rank by what texts and scores alone tell.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from smidgen.assets import DEMO

GIB = 2**30
KEPT = 5_000
SELECTORS = ("random", "length:measure=difference", "stratified:by=length")
_BLOCK = 10_000


def made_up_rows(n: int, seed: int) -> Iterator[dict[str, Any]]:
    """Rows of pairs; copies and near copies are of a row among the last thousand and one."""
    import numpy as np

    rng = np.random.default_rng(seed)
    counts = Counter(word for line in (DEMO / "pairs.jsonl").open() for word in json.loads(line)["chosen"].split())
    words, share = list(counts), np.array(list(counts.values())) / counts.total()
    recent: list[dict[str, Any]] = []
    for start in range(0, n, _BLOCK):
        for i, lot in enumerate(rng.random(min(_BLOCK, n - start))):
            if lot < 0.07 and recent:
                row = dict(recent[rng.integers(len(recent))])
                if lot < 0.05:
                    row["rejected"] += f" Or {words[rng.integers(len(words))]}."
            else:
                row = _new_row(rng, words, share)
                recent = [*recent[-1000:], dict(row)] if i % 10 == 0 else recent
            if lot > 0.99:
                row["rejected"] = row["chosen"] if lot > 0.995 else " "
            yield row


def _new_row(rng: Any, words: list[str], share: Any) -> dict[str, Any]:
    n_words = [max(2, int(rng.lognormal(mean, 0.7))) for mean in (3.0, 3.9, 3.9)]
    drawn = [words[i] for i in rng.choice(len(words), sum(n_words), p=share)]
    for i in rng.integers(len(drawn), size=len(drawn) // 20):
        drawn[i] = f"name{rng.integers(2 ** rng.integers(1, 21))}"  # as many rare words as Heaps' law would have
    prompt, chosen = drawn[: n_words[0]], drawn[n_words[0] : n_words[0] + n_words[1]]
    refusal = "I'm sorry, but I cannot help with that. " if rng.random() < 0.25 else ""
    return {
        "prompt": " ".join(prompt) + "?",
        "chosen": refusal + " ".join(chosen) + ".",
        "rejected": " ".join(drawn[n_words[0] + n_words[1] :]) + ".",
        "chosen_score": round(float(rng.normal(0.5)), 4),
        "rejected_score": round(float(rng.normal(0.0)), 4),
    }


def make(work: Path, options: Namespace) -> dict[str, Any]:
    """The file of pairs, a row at a time."""
    with (work / "made.jsonl").open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in made_up_rows(options.pairs, options.seed))
    return {"bytes": (work / "made.jsonl").stat().st_size}


def near_duplicates(work: Path, options: Namespace) -> dict[str, Any]:
    """Pairs whose texts together nearly repeat those of an earlier one."""
    from smidgen.data.prepare import prepare_pairs
    from smidgen.synthesis.near_duplicates import find_near_duplicates

    pairs = prepare_pairs(work / "prepared").pairs
    texts = ((f"{pair.prompt_text} {pair.chosen_text} {pair.rejected_text}",) for pair in pairs)
    twins = find_near_duplicates(texts, pairs.idxs)
    return {"pairs": len(pairs), "near": sum(twin is not None for twin in twins)}


def features(work: Path, options: Namespace) -> dict[str, Any]:
    """Tokens, and the columns of texts and external scores, as `smidgen select` measures them."""
    import numpy as np

    from smidgen.data.prepare import prepare_pairs
    from smidgen.evaluation.patterns import SHIPPED, load_pattern_lists
    from smidgen.models.load import load_tokenizer
    from smidgen.selection.feature_store import FeatureStore, pairs_hash
    from smidgen.selection.features import Features, write_features
    from smidgen.selection.groups import external_group, text_group

    prepared = prepare_pairs(work / "prepared", tokenizer=load_tokenizer(str(DEMO / "model")))
    pairs, encoded = prepared.pairs, prepared.encoded
    groups = [text_group(pairs, encoded, load_pattern_lists(SHIPPED), SHIPPED), external_group(encoded)]
    store = FeatureStore(work / "features.work", groups, n_rows=len(pairs), pairs=pairs_hash(pairs, encoded))
    write_features(Features(np.array(pairs.idxs, dtype=np.int64), store.columns), work / "features.parquet")
    n_tokens = sum(len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in encoded)
    return {"pairs": len(pairs), "tokens": n_tokens, "bytes": (work / "features.parquet").stat().st_size}


def rank(work: Path, options: Namespace) -> dict[str, Any]:
    """Cheap rankings of all pairs, and the best of the last as a table with reasons and twins."""
    import numpy as np

    from smidgen.data.prepare import prepare_pairs
    from smidgen.data.tables import write_subset
    from smidgen.selection.features import read_features
    from smidgen.selection.selectors import selector, top
    from smidgen.selection.twins import nearest_twins

    found = read_features(work / "features.parquet")
    seconds, selections = {}, []
    for spec in SELECTORS:
        started = time.perf_counter()
        selections.append(selector.bind(spec)(found, options.seed))
        seconds[spec] = round(time.perf_counter() - started, 2)
    selection = selections[-1]
    kept = top(selection, min(KEPT, len(selection.order)))
    rows = np.searchsorted(found.idx, kept)  # idx rise in a prepared file
    among = np.isin(found.idx, kept, invert=True)
    twins, likeness = nearest_twins(found.column("text_vector"), found.idx, rows, among)
    subset = prepare_pairs(work / "prepared").pairs.take(kept)
    columns = {
        "reason": [selection.reasons[row] for row in rows],
        "twin_idx": [int(found.idx[row]) if row >= 0 else None for row in twins],
        "twin_similarity": likeness,
    }
    write_subset(work / "subset", subset, columns)
    return {"seconds": seconds, "kept": len(subset)}


WORKERS: dict[str, Callable[[Path, Namespace], dict[str, Any]]] = {
    "make": make,
    "near-duplicates": near_duplicates,
    "features": features,
    "selection": rank,
}


def stages(work: Path, options: Namespace) -> dict[str, list[str]]:
    """Each stage's command: one of the program's own, or a worker of this file."""
    prompts = [f for name in ("harmful", "harmless") for f in (f"--{name}", str(DEMO / f"{name}.txt"))]
    prepared, cli = str(work / "prepared"), [sys.executable, "-m", "smidgen"]

    def worker(name: str) -> list[str]:
        own = ["--worker", name, "--folder", str(work), "--pairs", str(options.pairs), "--seed", str(options.seed)]
        return [sys.executable, __file__, *own]

    def export(format: str) -> list[str]:
        return [*cli, "export", prepared, "--format", format, "--out", str(work / f"export_{format}"), "--json"]

    return {
        "make": worker("make"),
        "prepare": [*cli, "prepare", "--pairs", str(work / "made.jsonl"), *prompts, "--out", prepared, "--json"],
        **{name: worker(name) for name in ("near-duplicates", "features", "selection")},
        **{f"export {format}": export(format) for format in ("trl", "huggingface")},
    }


def measured(command: list[str], budget: float) -> dict[str, Any]:
    """Seconds, processor seconds and most resident bytes of a process; stopped where it holds more than the budget."""
    started = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complained:
        child = subprocess.Popen(command, stdout=said, stderr=complained, env=environment)
        status = Path(f"/proc/{child.pid}/status")
        over = False
        while not (ended := os.wait4(child.pid, os.WNOHANG))[0]:
            if not over and _resident(status) > budget * GIB:
                over = True
                child.kill()
            time.sleep(0.05)
        _, code, usage = ended
        child.returncode = os.waitstatus_to_exitcode(code)
        found = {
            "seconds": round(time.perf_counter() - started, 2),
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
            "peak_bytes": usage.ru_maxrss * 1024,
        }
        if over:
            return found | {"failed": f"over {budget:g} GiB"}
        said.seek(0)
        complained.seek(0)
        if child.returncode not in (0, 4):
            last = complained.read().decode().strip().splitlines()[-3:]
            return found | {"failed": " ".join(last) or f"exit status {child.returncode}"}
        return found | {"result": json.loads(said.read())}


def _resident(status: Path) -> int:
    """Bytes; 0 where the process has just ended."""
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")), 0)


def print_table(found: dict[str, dict[str, Any]], options: Namespace) -> None:
    print(f"\n{options.pairs:,} pairs, budget {options.budget:g} GiB")
    print(f"{'stage':20} {'seconds':>9} {'cpu s':>9} {'peak GiB':>9}")
    for name, result in found.items():
        numbers = f"{result['seconds']:9.1f} {result['cpu_seconds']:9.1f} {result['peak_bytes'] / GIB:9.2f}"
        print(f"{name:20} {numbers}  {result.get('failed', '')}")


def measure_all(options: Namespace, work: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, command in stages(work, options).items():
        if not options.stages or name in options.stages:
            found[name] = measured(command, options.budget)
            print(f"  {name}: {found[name]}", file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--budget", type=float, default=8.0, help="GiB that a stage may hold")
    parser.add_argument("--stages", nargs="+", help="only these; what they read must be in --folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keeps everything there; default: a temporary folder")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", help="used by the script itself")
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(WORKERS[options.worker](options.folder, options)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        work = options.folder or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        found = measure_all(options, work)
    print_table(found, options)
    if options.json:
        from setting import machine  # here, since what a child holds is counted from what its parent does

        from smidgen.runs import write_json

        settings = {"pairs": options.pairs, "seed": options.seed, "budget_gib": options.budget}
        write_json(options.json, {"machine": machine(), "settings": settings, "stages": found})


if __name__ == "__main__":
    main()
