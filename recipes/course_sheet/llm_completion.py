"""Completions 1-A, 1-B, 1-C, 2-A … of the course's prefixes by MODEL_NAME; run it once for either model.

Reads input_shakespeare_prefixes.txt, writes output_shakespeare_completions_{last part of MODEL_NAME}.txt.
"""

from __future__ import annotations

import os
import sys

from generating import generate

MODEL_NAME = os.environ.get("MODEL_NAME", "course-genai-w24/week5-phi-1.5-pref-shakespeare")
# The other one: "course-genai-w24/week4-phi-1.5-sft-shakespeare"

if __name__ == "__main__":
    sys.exit(
        generate(
            None,
            about=__doc__,
            model=MODEL_NAME,
            prompts="input_shakespeare_prefixes.txt",
            output="output_shakespeare_completions",
            flags=("--completions=3", "--max-new-tokens=64", "--seed=0"),
        )
    )
