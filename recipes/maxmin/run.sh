#!/usr/bin/env bash
# Two groups that want opposite things, ten users to one: what one reward model does to the few, and what max-min does.
#
#   recipes/maxmin/run.sh OUT
#
# OUT gets the world, a tiny model from nothing, the reward models, and comparison.json.
set -euo pipefail
out=$1
here=$(dirname "$0")
bin=${BIN:-.venv/bin}

# 110 users with 8 pairs each; what they want is planted, and drawn with noise.
"$bin/python" "$here/world.py" --out "$out/world"

# A model of two layers that has read the chosen answers once: the reward models start from it.
"$bin/smidgen" train sft --pairs "$out/world/pairs.jsonl" --shape nano --vocabulary 600 --positions 96 \
  --out "$out/base" --learning-rate 1e-3 --epochs 1

# One reward model for everybody, and two that share out the users between them, told nothing of who belongs where.
"$bin/smidgen" train maxmin --pairs "$out/world/pairs.jsonl" --heldout "$out/world/heldout.jsonl" \
  --model "$out/base/model" --user user --group group --n-models 2 --out "$out/maxmin" \
  --learning-rate 1e-3 --epochs 2 --batch-size 16

# The policies that these rewards ask for, found exactly over listed answers, and both groups' verdict on them.
"$bin/python" "$here/compare.py" --world "$out/world" --run "$out/maxmin" --out "$out/comparison.json"

# A policy that writes its own answers takes the same rewards: `smidgen train ppo --reward OUT/maxmin`.
