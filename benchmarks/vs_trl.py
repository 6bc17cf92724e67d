"""Pairs per second of DPO training: this project against TRL, the same pairs and weights, in alternation.

    python benchmarks/vs_trl.py [--source FILE ...] [--tokenizer FOLDER] [--shape 14m small] [--rounds 3]

Batch 8, at most 512 tokens, one epoch, bfloat16, no dropout, random weights. Every measurement has a process of its own
and starts cold. The first trial's time holds its reference pass; the second trial has the same pairs in another order,
on weights set back to the start, and finds its reference values stored. TRL runs without gradient checkpointing, once
with the reference computed in every step, once precomputed, its pass counted and not (its padding-free and
length-grouped batches are out of order in 1.16).
Non-pad tokens are those of both sequences of a pair on either side. The share of the machine's matrix rate counts the
least work there is (each prompt once, logits at answers only, nothing computed again), on either side.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from setting import (
    BATCH,
    MAX_LENGTH,
    add_arguments,
    drawn_pairs,
    machine,
    matrix_flops,
    matrix_rate,
    peak_memory,
    row_tokens,
    run_worker,
    save_model,
    spread,
)

from smidgen.data.tokens import EncodedPair
from smidgen.models.load import load_language_model, load_tokenizer
from smidgen.models.logprobs import find_layout
from smidgen.models.reference_store import ReferenceStore
from smidgen.runs import write_json
from smidgen.training.loop import Recipe
from smidgen.training.preference import reference_logps, train_preference

BETA, LEARNING_RATE = 0.1, 5e-5
RECIPE = Recipe(learning_rate=LEARNING_RATE, weight_decay=0.01, batch_size=BATCH, epochs=1, dtype="bfloat16")


def time_smidgen(options: Namespace, worker: dict[str, Any]) -> dict[str, Any]:
    """Two trials in one process, the second on weights set back to the start."""
    rate = matrix_rate(options.device)
    lm = load_language_model(worker["model"], device=options.device)
    pairs = drawn_pairs(options, worker["shape"], lm.tokenizer)
    base = {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}
    # Looked for once a process, as in a study.
    started = time.perf_counter()
    layout = find_layout(lm.model)
    result: dict[str, Any] = {"rate": rate, "layout": layout, "layout_seconds": time.perf_counter() - started}
    with tempfile.TemporaryDirectory() as folder:
        store = ReferenceStore(Path(folder) / "reference.sqlite")
        for trial in ("first", "second"):
            started = time.perf_counter()
            lm.model.load_state_dict(base)
            ready = time.perf_counter() - started
            reference = reference_logps(lm, pairs, store, dtype=RECIPE.dtype, layout=layout)
            scored = time.perf_counter() - started
            log = train_preference(
                lm, pairs, reference, objective=f"dpo:beta={BETA}", recipe=RECIPE, seed=len(trial), layout=layout
            )
            result[trial] = {
                "seconds": time.perf_counter() - started,
                "reset_seconds": ready,
                "reference_seconds": scored - ready,
                "loss": log.rows[0]["loss"],
                "flops": matrix_flops(lm.model, pairs, reference=trial == "first"),
            }
    return result | {"tokens": row_tokens(pairs), "pairs": len(pairs), "peak_memory_bytes": peak_memory(options.device)}


def time_trl(options: Namespace, worker: dict[str, Any]) -> dict[str, Any]:
    from transformers import AutoModelForCausalLM
    from transformers.trainer_callback import PrinterCallback, ProgressCallback
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    rate = matrix_rate(options.device)
    # Loaded as a user of TRL would, so that nothing of ours speeds it up.
    tokenizer = load_tokenizer(worker["model"])
    model = AutoModelForCausalLM.from_pretrained(worker["model"], dtype=torch.float32)
    pairs = drawn_pairs(options, worker["shape"], tokenizer)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    with tempfile.TemporaryDirectory() as folder:
        arguments = DPOConfig(
            output_dir=folder,
            beta=BETA,
            learning_rate=LEARNING_RATE,
            weight_decay=RECIPE.weight_decay,
            lr_scheduler_type="constant",
            per_device_train_batch_size=BATCH,
            num_train_epochs=1,
            max_length=MAX_LENGTH,
            bf16=True,
            use_cpu=options.device == "cpu",
            gradient_checkpointing=False,
            disable_dropout=True,
            precompute_ref_log_probs=worker["side"] == "trl precomputed",
            logging_steps=max(1, min(10, len(pairs) // BATCH)),
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        started = time.perf_counter()
        trainer = DPOTrainer(
            model=model, args=arguments, train_dataset=_dataset(pairs, tokenizer), processing_class=tokenizer
        )
        setup = time.perf_counter() - started
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
    return {
        "rate": rate,
        "seconds": seconds,
        "setup_seconds": setup,
        "loss": trainer.state.log_history[0]["loss"],
        "flops": matrix_flops(model, pairs, reference=True),
        "tokens": row_tokens(pairs),
        "pairs": len(pairs),
        "peak_memory_bytes": peak_memory(options.device),
    }


def _dataset(pairs: list[EncodedPair], tokenizer: Any) -> Any:
    from datasets import Dataset

    def text(ids: tuple[int, ...]) -> str:
        return tokenizer.decode(ids, clean_up_tokenization_spaces=False)

    # TRL adds the end of text itself where an answer lacks it.
    return Dataset.from_list(
        [{"prompt": text(p.prompt), "chosen": text(p.chosen), "rejected": text(p.rejected)} for p in pairs]
    )


SIDES: dict[str, Callable[[Namespace, dict[str, Any]], dict[str, Any]]] = {
    "smidgen": time_smidgen,
    "trl live": time_trl,
    "trl precomputed": time_trl,
}


def compare(name: str, options: Namespace, folder: Path) -> dict[str, Any]:
    """Every side once a round, in turn; the JSON of one shape."""
    model = str(save_model(name, options, folder))
    rounds = []
    for number in range(options.rounds):
        found = {}
        for side in ("smidgen", *(f"trl {way}" for way in options.trl)):
            found[side] = run_worker(__file__, {"side": side, "shape": name, "model": model}, options)
            print(f"  {name}, round {number + 1}: {side} done", file=sys.stderr, flush=True)
        rounds.append(found)
    lines = _lines(rounds)
    ratios = {
        f"{trial} trial / {line}": [
            ours / theirs
            for ours, theirs in zip(
                lines[f"smidgen, {trial} trial"]["pairs_per_second"], lines[line]["pairs_per_second"], strict=True
            )
        ]
        for trial, line in (
            ("first", "trl, reference in every step"),
            ("second", "trl, reference in every step"),
            ("first", "trl, precomputed"),
            ("second", "trl, precomputed, its pass not counted"),
        )
        if line in lines
    }
    starts = [r["smidgen"]["second"]["reset_seconds"] + r["smidgen"]["second"]["reference_seconds"] for r in rounds]
    _print(name, rounds, lines, ratios, starts)
    return {"rounds": rounds, "lines": lines, "ratios": ratios, "second_trial_start_seconds": starts}


def _lines(rounds: list[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """One line of the table each: its figures round by round."""
    lines: dict[str, dict[str, list[float]]] = {}

    def add(line: str, whole: dict[str, Any], seconds: float, flops: float) -> None:
        figures = lines.setdefault(line, {})
        for key, value in (
            ("pairs_per_second", whole["pairs"] / seconds),
            ("tokens_per_second", whole["tokens"] / seconds),
            ("peak_memory_gib", whole["peak_memory_bytes"] / 2**30),
            ("share_of_matrix_rate", flops / seconds / whole["rate"]),
        ):
            figures.setdefault(key, []).append(value)

    for found in rounds:
        for trial in ("first", "second"):
            part = found["smidgen"][trial]
            add(f"smidgen, {trial} trial", found["smidgen"], part["seconds"], part["flops"])
        if live := found.get("trl live"):
            add("trl, reference in every step", live, live["seconds"], live["flops"])
        if stored := found.get("trl precomputed"):
            add("trl, precomputed", stored, stored["seconds"] + stored["setup_seconds"], stored["flops"])
            add("trl, precomputed, its pass not counted", stored, stored["seconds"], 6 / 8 * stored["flops"])
    return lines


def _print(
    name: str,
    rounds: list[dict[str, Any]],
    lines: dict[str, dict[str, list[float]]],
    ratios: dict[str, list[float]],
    starts: list[float],
) -> None:
    first = rounds[0]
    rate = max(found[side]["rate"] for found in rounds for side in found)
    print(f"\n{name}: {first['smidgen']['pairs']} pairs, batch {BATCH}, bfloat16; matrix rate {rate / 1e9:.0f} GFLOP/s")
    print(f"{'':42} {'pairs/s':>20} {'tokens/s':>9} {'peak GiB':>9} {'of rate':>8}")
    for line, figures in lines.items():
        middle = {key: statistics.median(values) for key, values in figures.items()}
        print(
            f"{line:42} {spread(figures['pairs_per_second']):>20} {middle['tokens_per_second']:9.0f} "
            f"{middle['peak_memory_gib']:9.1f} {middle['share_of_matrix_rate']:8.0%}"
        )
    for ratio, values in ratios.items():
        print(f"{ratio:58} {spread(values)}")
    print(f"{'second trial: seconds until its first step':58} {spread(starts)}")
    losses = {side: found["first"]["loss"] if side == "smidgen" else found["loss"] for side, found in first.items()}
    print("mean loss of the first steps: " + ", ".join(f"{side} {loss:.3f}" for side, loss in losses.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, rounds=3)
    ways = ("live", "precomputed")
    parser.add_argument("--trl", nargs="+", choices=ways, default=ways, help="how TRL comes by its reference values")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.worker:
        worker = json.loads(options.worker)
        print(json.dumps(SIDES[worker["side"]](options, worker)))
        return
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.shape:
            results[name] = compare(name, options, Path(folder))
    if options.json:
        settings = {**vars(options), "json": None}
        write_json(options.json, {"machine": machine(), "settings": settings, "results": results})


if __name__ == "__main__":
    main()
