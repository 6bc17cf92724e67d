"""What each idea of the engine brings: DPO training with one of them taken out at a time.

    python benchmarks/ablation.py [--source FILE ...] [--tokenizer FOLDER] [--shape 14m small] [--rounds 3]

Every measurement is one epoch at batch 8 in bfloat16 after a warm-up epoch on eight pairs, in a process of its own,
reference values at hand but for the line that computes them. The table gives pairs per second, and how much longer the
run takes than the whole engine's of the same round.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from setting import BATCH, add_arguments, drawn_pairs, machine, peak_memory, run_worker, save_model, spread
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers.activations import NewGELUActivation

import smidgen.models.attention as attention
import smidgen.models.head as head
import smidgen.models.load as load
from smidgen.models.logprobs import score_answers
from smidgen.models.rows import Layout
from smidgen.runs import write_json
from smidgen.training.loop import Recipe
from smidgen.training.preference import train_preference

RECIPE = Recipe(learning_rate=5e-5, batch_size=BATCH, epochs=1, dtype="bfloat16")


class TorchAttention:
    """PyTorch's fused kernel, block by block, in place of the engine's own."""

    @staticmethod
    def apply(query: Tensor, key: Tensor, value: Tensor, packing: Any, scaling: float, window: int | None) -> Tensor:
        out = [
            scaled_dot_product_attention(
                query[None, :, block.start : block.start + block.length],
                block.keys(key)[None],
                block.keys(value)[None],
                attn_mask=packing.mask(block, query, window),
                scale=scaling,
            )[0]
            for block in packing.blocks()
        ]
        return torch.cat(out, dim=1).transpose(0, 1)


def give_memory_back() -> None:
    load.keep_freed_memory = lambda: None  # type: ignore[assignment]


def whole_logits() -> None:
    head._BLOCK_ELEMENTS.clear()
    head._BLOCK_ELEMENTS_ELSEWHERE = 1 << 62
    head._KEPT_BYTES = 1 << 62


def nothing_kept() -> None:
    head._KEPT_BYTES = 0


def torch_attention() -> None:
    attention._Blocks = TorchAttention  # type: ignore[assignment]


def small_blocks() -> None:
    attention._WHOLE_SPAN_TOKENS = 0


def nothing() -> None:
    pass


# What to do before the model is loaded; then what else differs.
CHANGES: dict[str, tuple[Callable[[], None], dict[str, Any]]] = {
    "the whole engine": (nothing, {}),
    "padded rows, a prompt's answers together": (nothing, {"layout": "shared"}),
    "padded rows, one an answer": (nothing, {"layout": "separate"}),
    "logits at every position": (nothing, {"layout": "model"}),
    "logits of all answers at once": (whole_logits, {}),
    "no logits kept for the backward pass": (nothing_kept, {}),
    "PyTorch's fused attention": (torch_attention, {}),
    "prompts and answers as blocks of their own": (small_blocks, {}),
    "memory given back to the system": (give_memory_back, {}),
    "GELU of seven operations": (nothing, {"gelu": True}),
    "reference computed in every trial": (nothing, {"reference": True}),
    "float32": (nothing, {"dtype": "float32"}),
}


def time_change(options: Namespace, worker: dict[str, Any]) -> dict[str, Any]:
    before, change = CHANGES[worker["change"]]
    before()
    lm = load.load_language_model(worker["model"], device=options.device)
    if change.get("gelu"):
        _unfuse(lm.model)
    layout: Layout = change.get("layout", "packed")
    pairs = drawn_pairs(options, worker["shape"], lm.tokenizer)
    prompts, answers = [p.prompt for p in pairs], [(p.chosen, p.rejected) for p in pairs]
    recipe = replace(RECIPE, dtype=change.get("dtype", RECIPE.dtype))
    reference = [(np.zeros(len(p.chosen), np.float32), np.zeros(len(p.rejected), np.float32)) for p in pairs]
    train_preference(lm, pairs[:BATCH], reference[:BATCH], recipe=recipe, seed=0, layout=layout)
    started = time.perf_counter()
    if change.get("reference"):
        reference = [
            (chosen, rejected)
            for chosen, rejected in score_answers(lm, prompts, answers, layout=layout, dtype=recipe.dtype)
        ]
    train_preference(lm, pairs, reference, recipe=recipe, seed=0, layout=layout)
    seconds = time.perf_counter() - started
    return {"pairs": len(pairs), "seconds": seconds, "peak_memory_bytes": peak_memory(options.device)}


def _unfuse(model: nn.Module) -> None:
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.GELU):
                setattr(module, name, NewGELUActivation())


def ablate(name: str, options: Namespace, folder: Path) -> list[dict[str, Any]]:
    model = str(save_model(name, options, folder))
    rounds = []
    for number in range(options.rounds):
        found = {}
        for change in CHANGES:
            found[change] = run_worker(__file__, {"change": change, "shape": name, "model": model}, options)
        rounds.append(found)
        print(f"  {name}, round {number + 1} done", file=sys.stderr, flush=True)
    print(f"\n{name}: {rounds[0]['the whole engine']['pairs']} pairs, batch {BATCH}")
    print(f"{'':44} {'pairs/s':>22} {'time':>20} {'peak GiB':>9}")
    for change in CHANGES:
        speeds = [r[change]["pairs"] / r[change]["seconds"] for r in rounds]
        longer = [r[change]["seconds"] / r["the whole engine"]["seconds"] for r in rounds]
        memory = max(r[change]["peak_memory_bytes"] for r in rounds) / 2**30
        print(f"{change:44} {spread(speeds):>22} {spread(longer):>20} {memory:9.1f}")
    return rounds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, rounds=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.worker:
        print(json.dumps(time_change(options, json.loads(options.worker))))
        return
    with tempfile.TemporaryDirectory() as folder:
        results = {name: ablate(name, options, Path(folder)) for name in options.shape}
    if options.json:
        settings = {**vars(options), "json": None}
        write_json(options.json, {"machine": machine(), "settings": settings, "results": results})


if __name__ == "__main__":
    main()
