"""Preference tuning of the Shakespeare model by ORPO on pref_data_completion.jsonl, as `smidgen train orpo` does it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from smidgen.cli import main as smidgen

MODEL_NAME = os.environ.get("MODEL_NAME", "course-genai-w24/week4-phi-1.5-sft-shakespeare")
# What fits a T4: adapters of low rank, layers computed again in the backward pass.
FLAGS = ("--learning-rate=5e-5", "--epochs=1", "--batch-size=8", "--lora-rank=16", "--gradient-checkpointing")

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=__doc__,
        epilog="Further flags, such as --lora-rank 0 to train all weights, go to smidgen.",
    )
    parser.add_argument("--model", default=MODEL_NAME, help="where to start: a folder or a hub name (%(default)s)")
    parser.add_argument("--pairs", type=Path, default=Path("pref_data_completion.jsonl"))
    parser.add_argument("--out", type=Path, default=Path("runs/week5-phi-1.5-pref-shakespeare"))
    own, further = parser.parse_known_args()
    given = {word.partition("=")[0] for word in further}
    sys.exit(
        smidgen([
            "train", "orpo", "--pairs", str(own.pairs), "--model", own.model, "--out", str(own.out),
            *(flag for flag in (*FLAGS, "--template=verbatim") if flag.partition("=")[0] not in given), *further,
        ])
    )  # fmt: skip
