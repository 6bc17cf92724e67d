"""Pairs per second of DPO training: this project against TRL, on the same pairs and model, in one process in turn.

    python benchmarks/dpo_speed.py [--shape mini] [--pairs 128] [--dtype bfloat16] [--threads 2] [--json FILE]

Each side's time holds its reference pass. Every round times both; the table gives each side's median and the ratio's
range over rounds. The mean loss of the first ten steps stands beside it; the two draw their batches in other orders.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from datasets import Dataset
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from smidgen.assets import DEMO
from smidgen.data.prepare import prepare_pairs
from smidgen.models.load import LanguageModel, load_language_model, save_language_model
from smidgen.models.reference_store import ReferenceStore
from smidgen.pairs import PairTable
from smidgen.runs import write_json
from smidgen.training.loop import Recipe
from smidgen.training.preference import reference_logps, train_preference
from smidgen.training.sft import SHAPES, new_language_model

BATCH = 8


@dataclass(frozen=True)
class Round:
    """Seconds of both sides, and the mean loss of their first ten steps."""

    smidgen_seconds: float
    trl_seconds: float
    smidgen_loss: float
    trl_loss: float


def time_smidgen(folder: Path, recipe: Recipe, work: Path) -> tuple[float, float]:
    lm = load_language_model(folder)
    encoded = prepare_pairs([str(work / "pairs.jsonl")], tokenizer=lm.tokenizer).encoded
    started = time.perf_counter()
    reference = reference_logps(lm, encoded, ReferenceStore(Path(tempfile.mkdtemp(dir=work)) / "reference.sqlite"))
    log = train_preference(lm, encoded, reference, objective="dpo:beta=0.1", recipe=recipe, seed=0)
    return time.perf_counter() - started, log.rows[0]["loss"]


def time_trl(folder: Path, pairs: PairTable, recipe: Recipe, work: Path) -> tuple[float, float]:
    lm = load_language_model(folder)
    end = lm.tokenizer.eos_token
    rows = [
        {
            "prompt": f"user: {p.prompt_text} assistant:",
            "chosen": f" {p.chosen_text}{end}",
            "rejected": f" {p.rejected_text}{end}",
        }
        for p in pairs
    ]
    arguments = DPOConfig(
        output_dir=str(work / "trl"),
        beta=0.1,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        lr_scheduler_type="constant",
        per_device_train_batch_size=BATCH,
        num_train_epochs=1,
        max_length=None,
        bf16=recipe.dtype == "bfloat16",
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=False,
        disable_dropout=True,
        logging_steps=10,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    trainer = DPOTrainer(
        model=lm.model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=lm.tokenizer
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    started = time.perf_counter()
    trainer.train()
    return time.perf_counter() - started, trainer.state.log_history[0]["loss"]


def new_model(shape: str, pairs: PairTable) -> LanguageModel:
    texts = [f"{p.prompt_text} {p.chosen_text} {p.rejected_text}" for p in pairs]
    return new_language_model(texts, shape=shape, vocabulary=4096, positions=512)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="mini")
    parser.add_argument("--source", default=str(DEMO / "pairs.jsonl"), help="preference pairs")
    parser.add_argument("--pairs", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    pairs = prepare_pairs([options.source]).pairs[: options.pairs]
    recipe = Recipe(learning_rate=5e-5, batch_size=BATCH, epochs=1, dtype=options.dtype)
    rounds = []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        save_language_model(new_model(options.shape, pairs), work / "model", card="")
        lines = (
            json.dumps({"prompt": p.prompt_text, "chosen": p.chosen_text, "rejected": p.rejected_text}) for p in pairs
        )
        (work / "pairs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        for _ in range(options.rounds):
            ours, our_loss = time_smidgen(work / "model", recipe, work)
            theirs, their_loss = time_trl(work / "model", pairs, recipe, work)
            rounds.append(Round(ours, theirs, our_loss, their_loss))
    ratios = sorted(r.trl_seconds / r.smidgen_seconds for r in rounds)
    speeds = {
        "smidgen": len(pairs) / statistics.median(r.smidgen_seconds for r in rounds),
        "trl": len(pairs) / statistics.median(r.trl_seconds for r in rounds),
    }
    print(f"{options.shape}, {len(pairs)} pairs, batch {BATCH}, {options.dtype}, {options.threads} threads")
    for side, speed in speeds.items():
        print(f"{side:>8}  {speed:8.2f} pairs/s   first loss {getattr(rounds[0], f'{side}_loss'):.4f}")
    print(f"   ratio  {statistics.median(ratios):8.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}] over {len(rounds)} rounds")
    if options.json:
        write_json(
            options.json,
            {
                "machine": platform.processor() or platform.machine(),
                "settings": {**vars(options), "json": None},
                "pairs_per_second": speeds,
                "ratios": ratios,
                "rounds": [asdict(r) for r in rounds],
            },
        )


if __name__ == "__main__":
    main()
