#!/usr/bin/env bash
# Does an external reward make preference training robust to wrong labels? The whole path: self-critique, scores by a
# judge, refined DPO beside plain DPO with some labels swapped. Teacher and judge are replayed (see replay.py).
#
#   recipes/label_noise/noise.sh OUT PAIRS MODEL HARMFUL HARMLESS [JUDGE_ACCURACY]
#
# OUT                where everything goes; stop at any moment and call again to go on. Scores, and what is measured with
#                    them, stand in a folder for each accuracy of the judge
# PAIRS, MODEL       preference pairs and the SFT model
# HARMFUL, HARMLESS  prompts to measure on
set -euo pipefail
out=$1 pairs=$2 model=$3 harmful=$4 harmless=$5 accuracy=${6:-0.8}
bin=${BIN:-.venv/bin}
here=$(dirname "$0")
port=${PORT:-8011}

judged=$out/judge-$accuracy
mkdir -p "$judged"
"$bin/python" "$here/prompts.py" --pairs "$pairs" --out "$out/prompts.jsonl"
"$bin/python" "$here/replay.py" --pairs "$pairs" --port "$port" --judge-accuracy "$accuracy" & replay=$!
trap 'kill $replay' EXIT
for _ in $(seq 60); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break; sleep 1; done
# Where another server holds the port, this one has ended, and the other would answer in its place.
kill -0 $replay

url=http://127.0.0.1:$port/v1
"$bin/smidgen" critique --task "$here/replay.yaml" --teacher "$url" --model replay --prompts "$out/prompts.jsonl" \
  --out "$out/pairs.jsonl" || [ $? -eq 4 ]
"$bin/smidgen" score --pairs "$out/pairs.jsonl" --judge "$url" --model replay --task "$here/replay.yaml" \
  --out "$judged/scored.jsonl" || [ $? -eq 4 ]
"$bin/python" -m benchmarks.label_noise --out "$judged/noise" --pairs "$judged/scored.jsonl" --model "$model" \
  --harmful "$harmful" --harmless "$harmless" ${SEEDS:+--seeds "$SEEDS"} ${STEPS:+--steps "$STEPS"}
