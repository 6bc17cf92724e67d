#!/usr/bin/env bash
# What every objective does to the same model: a table for the demo world, and one for real pairs.
#
#   recipes/objectives.sh OUT [DATA MODEL]
#
# OUT    where the tables go; stop at any moment and call again to go on
# DATA   a folder with small-world/pairs.jsonl, hh-rlhf/*.jsonl.gz and prompts/{harmful,harmless}_dev.json
# MODEL  the SFT model, in Hugging Face format
set -euo pipefail
out=$1
bin=${BIN:-.venv/bin}

"$bin/python" -m benchmarks.objectives --out "$out/demo"

if [ $# -ge 3 ]; then
  data=$2 model=$3
  [ -f "$out/heldout.jsonl" ] || "$bin/python" recipes/small_world/heldout.py \
    --hh-rlhf "$data/hh-rlhf" --pairs "$data/small-world/pairs.jsonl" --n 500 --out "$out/heldout.jsonl"
  "$bin/python" -m benchmarks.objectives --out "$out/real" --seeds 1 --steps 200 --batch-size 8 --max-new-tokens 32 \
    --pairs "$data/small-world/pairs.jsonl" --model "$model" --heldout "$out/heldout.jsonl" \
    --harmful "$data/prompts/harmful_dev.json" --harmless "$data/prompts/harmless_dev.json"
fi
