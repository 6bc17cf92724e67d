#!/usr/bin/env bash
# The smallest sufficient subset of 5,000 real pairs, for a 5.85 M parameter model.
#
#   recipes/small_world/study.sh DATA MODEL OUT
#
# DATA   a folder with small-world/pairs.jsonl, hh-rlhf/*.jsonl.gz and prompts/{harmful,harmless}_{dev,confirm}.json
# MODEL  the SFT model, in Hugging Face format
# OUT    the run's folder; stop at any moment and call again to go on
set -euo pipefail
data=$1 model=$2 out=$3
here=$(dirname "$0")
bin=${BIN:-.venv/bin}

# Held-out pairs, from hh-rlhf rows that the 5,000 do not use: a refusal score alone is not "aligned as well".
heldout=$(dirname "$out")/heldout.jsonl
[ -f "$heldout" ] || "$bin/python" "$here/heldout.py" \
  --hh-rlhf "$data/hh-rlhf" --pairs "$data/small-world/pairs.jsonl" --n 500 --out "$heldout"

"$bin/smidgen" minimize --config "$here/study.yaml" --out "$out" \
  --pairs "$data/small-world/pairs.jsonl" --model "$model" --heldout "$heldout" \
  --harmful "$data/prompts/harmful_dev.json" --harmless "$data/prompts/harmless_dev.json" \
  --confirm-harmful "$data/prompts/harmful_confirm.json" --confirm-harmless "$data/prompts/harmless_confirm.json"
