"""What each reward asks of a policy, and what both groups think of it: one model for all against max-min.

    python recipes/maxmin/compare.py --world world --run maxmin --out comparison.json

Every prompt of candidates.jsonl has eight answers; the reference draws one of them at random. A policy is found exactly
(reward less β·KL), or by taking the best of all eight. Its win rate with a group is how often that group, by its true
utilities, prefers its answer to the reference's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from scipy.special import expit

from smidgen.evaluation.statistics import mean_over_seeds
from smidgen.models.group_rewards import load_group_rewards, load_reward
from smidgen.models.rewards import Reward, best_of, fit_scale, group_rewards, minimum, normalised
from smidgen.pairs import Messages, messages_from
from smidgen.runs import write_json
from smidgen.training.softmax_policy import best_policy, maxmin_policy

GROUPS = ("plain", "flowery")
TEMPLATE = "plain"


def win_rates(policy: np.ndarray, utilities: np.ndarray) -> np.ndarray:
    """How often a group prefers a policy's answer to the reference's, prompt by prompt.

    Args:
        policy: Probabilities [prompts, answers]; the reference is uniform.
        utilities: The group's, nats, [prompts, answers].
    """
    beats_reference = expit(utilities[:, :, None] - utilities[:, None, :]).mean(-1)
    return (policy * beats_reference).sum(-1)


def policies(
    single: Reward, groups: Sequence[Reward], prompts: Sequence[Messages], answers: Sequence[Sequence[str]], beta: float
) -> dict[str, np.ndarray]:
    """Probabilities [prompts, answers] of every policy, by name."""
    asked = [prompt for prompt, several in zip(prompts, answers, strict=True) for _ in several]
    flat = [answer for several in answers for answer in several]
    shape = (len(prompts), len(answers[0]))
    single = normalised(single, fit_scale(single(asked, flat)))
    reference = np.full(shape, -np.log(shape[1]))

    def exact(reward: Reward) -> np.ndarray:
        return np.exp(best_policy(reference, reward(asked, flat).reshape(shape), beta=beta))

    def best(reward: Reward) -> np.ndarray:
        return np.eye(shape[1])[best_of(reward, prompts, answers)]

    found = maxmin_policy(reference, group_rewards(groups, asked, flat).reshape(len(groups), *shape), beta=beta)
    return {
        "reference": np.exp(reference),
        "one reward": exact(single),
        "max-min of groups": np.exp(found.log_policy),
        "minimum per answer": exact(minimum(groups)),
        "one reward, best of 8": best(single),
        "minimum per answer, best of 8": best(minimum(groups)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", required=True, type=Path, help="the folder that world.py wrote")
    parser.add_argument("--run", required=True, type=Path, help="the --out of smidgen train maxmin")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--beta", type=float, default=0.5, help="price of a nat of KL; rewards have deviation 1")
    arguments = parser.parse_args()

    lines = (arguments.world / "candidates.jsonl").read_text(encoding="utf-8").splitlines()
    by_prompt = [list(rows) for _, rows in groupby(map(json.loads, lines), key=lambda row: row["prompt"])]
    prompts = [messages_from(rows[0]["prompt"], "user") for rows in by_prompt]
    answers = [[row["answer"] for row in rows] for rows in by_prompt]
    single = load_reward(str(arguments.run / "single"), template=TEMPLATE)
    found = policies(single, load_group_rewards(arguments.run), prompts, answers, arguments.beta)

    utilities = {group: np.array([[row[group] for row in rows] for rows in by_prompt]) for group in GROUPS}
    results = {}
    print(f"{'win rate with':32}{''.join(f'{group:>24}' for group in GROUPS)}")
    for name, policy in found.items():
        rates = {group: win_rates(policy, utilities[group]) for group in GROUPS}
        results[name] = {group: mean_over_seeds(rates[group]).interval.as_dict() for group in GROUPS}
        cells = (
            f"{100 * r['mean']:.1f} ({100 * r['low']:.1f} to {100 * r['high']:.1f})" for r in results[name].values()
        )
        print(f"{name:32}{''.join(f'{cell:>24}' for cell in cells)}")
    write_json(arguments.out, {"beta": arguments.beta, "prompts": len(prompts), "win_rates": results})


if __name__ == "__main__":
    main()
