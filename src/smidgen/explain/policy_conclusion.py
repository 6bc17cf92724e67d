"""What follows for a policy that RLHF or DPO goes on training, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from smidgen.explain.wording import amount, factor, joined

if TYPE_CHECKING:
    from smidgen.explain.policy import Movement

_STILL = 1e-9


def conclusion(found: Movement) -> tuple[str, ...]:
    """A paragraph each on RLHF's end, its next step and why, on DPO, and on whether the two agree."""
    return _rlhf_end(found), _rlhf_now(found), _dpo(found), _together(found)


def _rlhf_end(found: Movement) -> str:
    chosen, rejected = found.objective.rewards[:2]
    now, end = np.exp(found.log_policy), [factor(log, 4) for log in found.log_optimum.tolist()]
    if chosen == rejected:
        liked = f"gives both answers {amount(chosen)}"
        so = "RLHF keeps them as far apart as the reference has them"
    else:
        better, worse = ("chosen", "rejected") if chosen > rejected else ("rejected", "chosen")
        liked = f"prefers the {better} answer, {amount(max(chosen, rejected))} against {amount(min(chosen, rejected))}"
        times = factor(abs(chosen - rejected) / found.objective.beta)
        so = (
            f"RLHF follows it, as far as the KL allows: it wants the odds of the {better} answer against the {worse} "
            f"one {times} times what they are in the reference"
        )
    return (
        f"The learned reward {liked}, and {so}. At its optimum the chosen answer has a probability of {end[0]} "
        f"({amount(now[0])} now) and the rejected one {end[1]} ({amount(now[1])} now)."
    )


def _rlhf_now(found: Movement) -> str:
    if np.abs(found.rlhf).max() < _STILL:
        return "The policy stands at RLHF’s optimum already: its gradient is 0."
    reward, kl = found.objective.advantages(found.log_policy)
    why = [
        f"{_the(name)} {_signed(reward[i] + kl[i])} ({_signed(reward[i])} by its reward, {_signed(kl[i])} by its place "
        "against the reference)"
        for i, name in enumerate(found.answers)
    ]
    text = (
        f"From here RLHF {_moves(found, found.rlhf)}. The advantages over the policy’s mean that make it do so: "
        f"{joined(why)}."
    )
    against = [_the(name) for i, name in enumerate(found.answers) if found.rlhf[i] * (reward[i] + kl[i]) < -(_STILL**2)]
    if against:
        text += (
            f" That {joined(against)} moves against its advantage is the softmax: what the others give or take faster "
            "is shared out."
        )
    return text


def _signed(value: float) -> str:
    return f"+{amount(value)}" if value > 0 else amount(value)


def _dpo(found: Movement) -> str:
    n_steps = len(found.log_dpo_steps) - 1
    start, end = found.weights
    after = [factor(log, 4) for log in found.log_dpo_steps[-1].tolist()]
    return (
        f"DPO does not look at the reward. It raises the chosen answer relative to the rejected one: from here it "
        f"{_moves(found, found.dpo)}. After {n_steps} steps the chosen answer has {after[0]} and "
        f"the rejected one {after[1]}; the gradient weight has gone from {amount(start)} to "
        f"{amount(end)}, but on one pair alone it never reaches 0."
    )


def _moves(found: Movement, speed: np.ndarray) -> str:
    def those(kept: np.ndarray) -> str:
        return joined([_the(name) for name, is_kept in zip(found.answers, kept, strict=True) if is_kept])

    up, down, still = (those(kept) for kept in (speed > _STILL, speed < -_STILL, np.abs(speed) <= _STILL))
    parts = [f"{verb} {names}" for verb, names in (("raises", up), ("lowers", down), ("leaves", still)) if names]
    return joined(parts)


def _the(name: str) -> str:
    return name if name.startswith("all") else f"the {name} answer"


def _together(found: Movement) -> str:
    policy = np.exp(found.log_policy)
    rlhf, dpo = (float(speed[0] / policy[0] - speed[1] / policy[1]) for speed in (found.rlhf, found.dpo))
    if abs(rlhf) < _STILL:
        now = "RLHF leaves the odds of chosen against rejected as they are, DPO raises them"
    elif rlhf * dpo > 0:
        now = "Both raise the odds of chosen against rejected"
    else:
        now = "They disagree: RLHF lowers the odds of chosen against rejected, DPO raises them"
    odds = [float(row[0] - row[1]) for row in (found.log_policy, found.log_optimum, found.log_dpo_steps[-1])]
    return (
        f"{now}. Chosen to rejected stands at {_odds(odds[0])} now, {_odds(odds[1])} at RLHF’s optimum and "
        f"{_odds(odds[2])} after {len(found.log_dpo_steps) - 1} steps of DPO. With a language model, whose answers "
        "share their weights, DPO may also lower both, as long as their difference grows."
    )


def _odds(log: float) -> str:
    return f"{factor(log, 3)} to 1" if log >= 0 else f"1 to {factor(-log, 3)}"
