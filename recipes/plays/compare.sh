#!/usr/bin/env bash
# Which of two models writes better plays? One is tuned on plays, the other also prefers what a play says next to what
# the first made up. Both go on from the same openings, three times each, and every judge says which it prefers.
#
#   recipes/plays/compare.sh PLAYS MODEL OUT
#
# PLAYS  plays as plain text: a speaker's name, lines, a blank line; about 1 MB
# MODEL  where to start: a folder in Hugging Face format, or a hub name such as microsoft/phi-1.5
# OUT    gets both models, their completions to read, and the comparisons
#
# A model of 5.8 M parameters takes about ten minutes on two cores.
set -euo pipefail
plays=$1 base=$2 out=$3
here=$(dirname "$0")
python=${PYTHON:-.venv/bin/python}
# Exit code 4 is "done, with rows left out", which are listed in quarantine.jsonl.
smidgen() { "$python" -m smidgen "$@" || [ $? = 4 ]; }
complete() { smidgen generate --template verbatim --max-new-tokens 64 "$@"; }

# Half of the plays to read, then openings of speeches: for pairs, for the judge, and 40 to be asked.
"$python" "$here/cut.py" "$plays" --out "$out/data"

# Read plays.
smidgen train sft --text "$out/data/reading.txt" --model "$base" --out "$out/sft-shakespeare" \
  --learning-rate 5e-4 --batch-size 16 --epochs 3 --set schedule=cosine

# Pairs: what the play says next is preferred to what the model made up. The judge gets pairs of its own.
for part in pairs judge; do
  complete --model "$out/sft-shakespeare/model" --prompts "$out/data/prefixes_$part.jsonl" --seed 1 --out "$out/written_$part"
  "$python" "$here/pairs.py" --prefixes "$out/data/prefixes_$part.jsonl" --completions "$out/written_$part" \
    --out "$out/data/pref_data_$part.jsonl"
done

# Prefer by ORPO. Answers are cut alike, without end of text, so that neither length nor an ending tells them apart.
smidgen train orpo --pairs "$out/data/pref_data_pairs.jsonl" --template verbatim --max-length 92 --answer-head 48 \
  --model "$out/sft-shakespeare/model" --out "$out/pref-shakespeare" \
  --learning-rate 2e-4 --batch-size 16 --epochs 1 --set schedule=cosine

# A reward model that never saw the pairs above: how often is it right on pairs it never saw either?
smidgen train reward --pairs "$out/data/pref_data_judge.jsonl" --template verbatim --max-length 200 \
  --model "$out/sft-shakespeare/model" --out "$out/reward" --learning-rate 1e-4 --batch-size 16 --epochs 2

# Completions A, B and C of the same openings by both.
for model in sft-shakespeare pref-shakespeare; do
  complete --model "$out/$model/model" --prompts "$out/data/input_shakespeare_prefixes.txt" --prompt-format blocks \
    --completions 3 --seed 7 --out "$out/completions_$model"
done

# Who wins, prompt by prompt and letter by letter, and how sure that is.
smidgen compare "$out/completions_sft-shakespeare" "$out/completions_pref-shakespeare" \
  --judge "reward:model=$out/reward/model,template=verbatim" --judge longer --judge less_repetitive \
  --out "$out/comparison"

echo "To judge for yourself, blind: smidgen compare … --judge human --out $out/by_eye, then smidgen view $out/by_eye"
