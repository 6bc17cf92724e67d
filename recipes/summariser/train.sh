#!/usr/bin/env bash
# A summariser from human preferences: supervised first, then a reward model, then PPO against it.
#
#   recipes/summariser/train.sh OUT           GPT-J on the comparisons of Stiennon et al. 2020, arXiv:2009.01325
#   recipes/summariser/train.sh --smoke OUT   the same steps on made-up posts and a model made here: offline, minutes
#
# OUT gets sft/, reward/, ppo/ (kl.png there shows reward and KL), and the summaries of five posts before and after PPO,
# in summaries_sft/output_reddit_summaries_sft.txt and summaries_ppo/output_reddit_summaries_ppo.txt.
# The real run takes GPUs that hold 6 B parameters four times: policy, optimiser, reference and reward model. Its
# settings have not been tried here. To see what others reached, give CarperAI/openai_summarize_tldr_sft and
# CarperAI/openai_summarize_tldr_ppo to `smidgen generate`; weights that are not safetensors need to be converted first.
set -euo pipefail
here=$(dirname "$0")
python=${PYTHON:-.venv/bin/python}
# Exit code 4 is "done, with rows left out", which are listed in quarantine.jsonl.
smidgen() { "$python" -m smidgen "$@" || [ $? = 4 ]; }

if [ "$1" = --smoke ]; then
  out=$2 base=$out/base/model pairs=$out/posts/comparisons.jsonl posts=$out/posts/input_reddit_posts.jsonl
  "$python" "$here/stand_in.py" --out "$out/posts"
  # A model that has read posts, and nothing else in its life.
  smidgen train sft --text "$out/posts/reading.txt" --shape nano --vocabulary 600 --positions 128 --out "$out/base" \
    --learning-rate 3e-3 --batch-size 16 --epochs 12
  supervised="--learning-rate 1e-3 --epochs 2" judged="--learning-rate 5e-4 --epochs 1"
  rewarded="--learning-rate 1e-4 --rollout-size 64 --batch-size 16 --steps 160 --max-new-tokens 24"
else
  # The course's five posts, as a prompt file (text with a blank line between them, or JSONL), each ending in "TL;DR:".
  out=$1 base=EleutherAI/gpt-j-6b pairs=CarperAI/openai_summarize_comparisons posts=${POSTS:?set POSTS to a prompt file}
  supervised="--learning-rate 1e-5 --epochs 1" judged="--learning-rate 1e-5 --epochs 1"
  rewarded="--learning-rate 5e-6 --rollout-size 512 --batch-size 64 --epochs 1 --max-new-tokens 48"
fi

# Checked comparisons, in which every prompt ends where its summary begins; the posts stand as they are, in no template.
smidgen prepare --pairs "$pairs" --template verbatim --out "$out/data"
data=$out/data/pairs.jsonl

# Learn to summarise as the preferred summaries do, and which summary people prefer.
smidgen train sft --pairs "$data" --template verbatim --model "$base" --out "$out/sft" $supervised
smidgen train reward --pairs "$data" --template verbatim --model "$out/sft/model" --out "$out/reward" $judged

# Be rewarded for what is preferred, and pay for every nat away from the supervised model.
smidgen train ppo --prompts "$data" --template verbatim --model "$out/sft/model" --reward "$out/reward/model" \
  --out "$out/ppo" --normalise-scores --kl-coef 0.2 --set weight_decay=0 $rewarded

for stage in sft ppo; do
  smidgen generate --model "$out/$stage/model" --prompts "$posts" --prompt-format blocks --template verbatim \
    --label SUMMARY --name reddit --temperature 0 --max-new-tokens 48 --out "$out/summaries_$stage"
done

# Which summaries are better, from the two files alone: as the reward model sees it, which PPO was paid by, and which say
# more. A judge that read the posts: --judge chat --rubric "more comprehensive, more context" --teacher URL --model NAME
smidgen compare "$out"/summaries_sft/*.txt "$out"/summaries_ppo/*.txt \
  --judge "reward:model=$out/reward/model,template=verbatim" --judge longer --out "$out/comparison"
