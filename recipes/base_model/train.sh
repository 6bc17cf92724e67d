#!/usr/bin/env bash
# A small model from scratch, ready to be aligned: reads your text, then learns to answer from your exchanges.
#
#   recipes/base_model/train.sh TEXT PAIRS OUT
#
# TEXT   running text in UTF-8, the more chat-like the better; a few MB make a model that writes sentences
# PAIRS  preference pairs; only their chosen answers are learned here
# OUT    gets OUT/base and OUT/sft, both in Hugging Face format
#
# With 10 M tokens of text the mini shape takes about two hours on two cores.
set -euo pipefail
text=$1 pairs=$2 out=$3
smidgen=${SMIDGEN:-.venv/bin/smidgen}

# 5.8 M parameters: 6 layers, 256 wide, a byte-level BPE of 4,096 tokens trained on the same text, 256 positions.
"$smidgen" train sft --text "$text" --shape mini --out "$out/base" \
  --learning-rate 1e-3 --batch-size 32 --epochs 1 --set warmup_steps=100 --set schedule=cosine

# One pass over the answers, loss on the answer alone; more passes make it repeat its training data.
"$smidgen" train sft --pairs "$pairs" --model "$out/base/model" --out "$out/sft" \
  --learning-rate 3e-4 --batch-size 32 --epochs 1 --set schedule=cosine

"$smidgen" bench --model "$out/sft/model"
