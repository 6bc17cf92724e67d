"""What the speed benchmarks share: shapes, pairs, the machine's own rate, and workers in processes of their own."""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPTNeoXConfig, PreTrainedConfig

from smidgen.assets import DEMO
from smidgen.data.prepare import prepare_pairs
from smidgen.data.tokens import EncodedPair
from smidgen.models.load import LanguageModel, language_model, load_tokenizer, save_language_model
from smidgen.pairs import random_key

BATCH = 8
MAX_LENGTH = 512


def shape(name: str, vocabulary: int, end: int) -> PreTrainedConfig:
    """`small`: GPT-2 small, 124 M parameters. `14m`: Pythia 14M's, 14 M parameters, most of them in the vocabulary."""
    ends: dict[str, Any] = {"bos_token_id": end, "eos_token_id": end}
    if name == "small":
        return GPT2Config(vocab_size=vocabulary, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **ends)
    return GPTNeoXConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        num_hidden_layers=6,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        **ends,
    )


def add_arguments(parser: ArgumentParser, *, rounds: int) -> None:
    parser.add_argument("--source", nargs="+", default=[str(DEMO / "pairs.jsonl")], help="preference pairs")
    parser.add_argument("--tokenizer", default=str(DEMO / "model"), help="folder of the tokenizer")
    parser.add_argument("--shape", nargs="+", choices=("small", "14m"), default=["14m", "small"])
    parser.add_argument("--pairs", type=int, help="default: 64 for small, 256 for 14m")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", help="used by the script itself")


def new_model(name: str, tokenizer: str) -> LanguageModel:
    """Random weights of the shape, seed 0."""
    loaded = load_tokenizer(tokenizer)
    torch.manual_seed(0)
    end = int(loaded.eos_token_id)  # pyright: ignore[reportArgumentType]
    return language_model(AutoModelForCausalLM.from_config(shape(name, len(loaded), end)), loaded)


def drawn_pairs(options: Namespace, name: str, tokenizer: Any) -> list[EncodedPair]:
    """Pairs from all sources in an order drawn by a fixed key, none above `MAX_LENGTH` tokens."""
    encoded = prepare_pairs(options.source, tokenizer=tokenizer, max_length=MAX_LENGTH).encoded
    n_pairs = options.pairs or {"small": 64, "14m": 256}[name]
    return sorted(encoded, key=lambda pair: random_key("speed", pair.idx))[:n_pairs]


def save_model(name: str, options: Namespace, folder: Path) -> Path:
    lm = new_model(name, options.tokenizer)
    save_language_model(lm, folder / name, card="Random weights, for measuring speed.\n")
    return folder / name


def shared_tokens(pairs: list[EncodedPair]) -> int:
    """With each prompt once."""
    return sum(len(p.prompt) + len(p.chosen) + len(p.rejected) for p in pairs)


def row_tokens(pairs: list[EncodedPair]) -> int:
    """Of both sequences of every pair, padding not counted."""
    return shared_tokens(pairs) + sum(len(p.prompt) for p in pairs)


def matrix_flops(model: Any, pairs: list[EncodedPair], *, reference: bool) -> float:
    """Least floating-point operations in weight matrices: each prompt once, logits at answers only, nothing again.

    Training takes a product forward and two backward; the reference pass one.
    """
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    head = model.get_output_embeddings().weight
    others = embeddings | {id(head)}
    inner = sum(p.numel() for p in model.parameters() if p.ndim == 2 and id(p) not in others)
    answers = sum(len(p.chosen) + len(p.rejected) for p in pairs)
    return (8 if reference else 6) * (inner * shared_tokens(pairs) + head.numel() * answers)


def matrix_rate(device: str, dtype: torch.dtype = torch.bfloat16) -> float:
    """Floating-point operations a second of a large matrix product, the best of half a second's."""
    size = 8192 if device == "cuda" else 3072
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best, until = float("inf"), time.perf_counter() + 1.0
    while time.perf_counter() < until:
        started = time.perf_counter()
        torch.mm(left, right)
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def peak_memory(device: str) -> int:
    """Bytes."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run_worker(script: str, worker: dict[str, Any], options: Namespace) -> dict[str, Any]:
    """The same script in a fresh process, so that each measurement has its own memory and caches; returns its JSON."""
    command = [sys.executable, script, "--worker", json.dumps(worker), "--tokenizer", options.tokenizer]
    command += ["--source", *options.source, "--threads", str(options.threads), "--device", options.device]
    command += ["--pairs", str(options.pairs)] if options.pairs else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{worker} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def machine() -> dict[str, Any]:
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), name)
    capability = torch.backends.cpu.get_cpu_capability()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cpu": name, "capability": capability, "cores": os.cpu_count(), "gpu": gpu, "torch": torch.__version__}


def spread(values: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"
