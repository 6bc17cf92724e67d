"""Summaries of the course's posts by MODEL_NAME, greedily; run it once for either model.

Reads input_reddit_posts.txt, writes output_reddit_summaries_week5-ppo-tldr.txt for the one model of the sheet,
output_reddit_summaries_week5-sft-tldr.txt for the other, and {last part of MODEL_NAME} for a model of your own.
"""

from __future__ import annotations

import os
import sys

from generating import generate

MODEL_NAME = os.environ.get("MODEL_NAME", "CarperAI/openai_summarize_tldr_ppo")
# The other one: "CarperAI/openai_summarize_tldr_sft"

if __name__ == "__main__":
    sys.exit(
        generate(
            None,
            about=__doc__,
            model=MODEL_NAME,
            prompts="input_reddit_posts.txt",
            output="output_reddit_summaries",
            flags=("--label=SUMMARY", "--temperature=0", "--max-new-tokens=64", "--batch-size=1"),
        )
    )
