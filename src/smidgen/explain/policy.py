"""How RLHF and DPO move a policy that stands at a given point, and why: one follows a learned reward, one the label."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float
from scipy.special import expit

from smidgen.errors import UsageError
from smidgen.explain.base import Explanation, Panel, Plot, Series, Table, explanation
from smidgen.explain.dpo import given
from smidgen.explain.point import Pair, check_beta, point
from smidgen.explain.policy_conclusion import conclusion
from smidgen.explain.policy_gradient import Regularised, descent, velocity, walk
from smidgen.explain.wording import amount
from smidgen.training.losses import dpo as dpo_loss
from smidgen.training.softmax_policy import best_policy

ANSWERS = ("chosen", "rejected", "all others")
_NO_REST = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """A policy over the answers, and where two ways of training take it; probabilities and speeds by answer.

    Attributes:
        log_optimum: Log-probabilities of RLHF's: the reference times exp(r / β), normalised.
        rlhf: Speed of the probabilities along RLHF's gradient; `dpo` the same along DPO's.
        rlhf_steps: Probabilities from the start through each step.
        log_dpo_steps: Log-probabilities along DPO's, the same.
        weights: DPO's gradient weight at the start and at the end.
    """

    answers: tuple[str, ...]
    objective: Regularised
    log_policy: Float[np.ndarray, " answers"]
    log_optimum: Float[np.ndarray, " answers"]
    rlhf: Float[np.ndarray, " answers"]
    dpo: Float[np.ndarray, " answers"]
    rlhf_steps: Float[np.ndarray, "steps answers"]
    log_dpo_steps: Float[np.ndarray, "steps answers"]
    weights: Pair

    @property
    def optimum(self) -> Float[np.ndarray, " answers"]:
        """RLHF's, as probabilities."""
        return np.exp(self.log_optimum)

    @property
    def dpo_steps(self) -> Float[np.ndarray, "steps answers"]:
        """Probabilities along DPO's steps."""
        return np.exp(self.log_dpo_steps)


@explanation
def policy(
    *,
    policy: Pair,
    reference: Pair,
    rewards: Pair,
    beta: float = 0.1,
    rest_reward: float | None = None,
    steps: int = 100,
    learning_rate: float | None = None,
) -> Explanation:
    """How RLHF and DPO move the policy from here.

    The policy is a softmax over the chosen answer, the rejected one and all others taken together, so that optimum and
    gradients are exact.

    Args:
        policy: Probabilities of the chosen and the rejected answer under the policy.
        reference: The same under the reference.
        rewards: Learned rewards of both, which RLHF follows and DPO never sees.
        beta: Price of a nat of KL for RLHF, and DPO's β. Positive.
        rest_reward: Reward of all other answers; without it, the reference's mean over the two.
        steps: Of gradient ascent to follow; at least 1.
        learning_rate: Of these, on the logits. Positive; without it, 1 over β or over the rewards' range, whichever is
            larger, so that steps neither crawl nor leap.

    Raises:
        UsageError: Numbers out of range.

    Source: Rafailov et al. 2023, arXiv:2305.18290, Eq. 3–5 and 7; the policy gradient of a softmax is
        π(y) (A(y) − mean A).
    """
    check_beta(beta)
    rate = 1 / max(beta, abs(rewards[0] - rewards[1])) if learning_rate is None else learning_rate
    _check(rewards, rest_reward, steps, rate)
    found = _movement(policy, reference, (*rewards, rest_reward), beta, steps=steps, rate=rate)
    return Explanation(
        name="policy",
        title="Where RLHF and DPO take the policy",
        given=given(policy, reference, logs=False)
        | {"learned rewards r(w), r(l)": f"{amount(rewards[0], 6)}, {amount(rewards[1], 6)}", "β": amount(beta, 6)},
        tables=_tables(found, rest_reward),
        plots=(_plot(found),),
        conclusion=conclusion(found),
        data=_data(found),
    )


def _movement(
    policy: Pair, reference: Pair, rewards: tuple[float, float, float | None], beta: float, *, steps: int, rate: float
) -> Movement:
    margin = point(policy, reference).margin
    log_policy, log_reference = _with_rest(policy, reference)
    chosen, rejected, rest = rewards
    if rest is None:
        rest = (reference[0] * chosen + reference[1] * rejected) / sum(reference)
    r = np.array([chosen, rejected, rest])[: len(log_policy)]
    objective = Regularised(r, log_reference, beta)
    by_dpo = descent(partial(dpo_loss, beta=beta), log_reference)
    rlhf_steps = walk(log_policy, objective.gradient, steps=steps, learning_rate=rate)
    dpo_steps = walk(log_policy, by_dpo, steps=steps, learning_rate=rate)
    return Movement(
        answers=ANSWERS[: len(r)],
        objective=objective,
        log_policy=log_policy,
        log_optimum=best_policy(log_reference[None], r[None], beta=beta)[0],
        rlhf=velocity(log_policy, objective.gradient(log_policy)),
        dpo=velocity(log_policy, by_dpo(log_policy)),
        rlhf_steps=np.exp(rlhf_steps),
        log_dpo_steps=dpo_steps,
        weights=(_weight(margin, beta), _weight(_margin(dpo_steps[-1], log_reference), beta)),
    )


def _check(rewards: Pair, rest_reward: float | None, steps: int, learning_rate: float) -> None:
    for value in (*rewards, 0.0 if rest_reward is None else rest_reward):
        if not math.isfinite(value):
            raise UsageError(f"expected finite rewards, got {value:g}; give numbers such as 0.5.")
    if steps < 1 or not 0 < learning_rate < math.inf:
        raise UsageError(
            f"expected at least one step and a learning rate above 0, got {steps} and {learning_rate:g}; 100 and 0.5 "
            "show the way."
        )


def _with_rest(policy: Pair, reference: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities of both answers and of all others, where there are others."""
    rests = 1 - sum(policy), 1 - sum(reference)
    has_rest = [rest > _NO_REST for rest in rests]
    if has_rest[0] != has_rest[1]:
        raise UsageError(
            f"expected policy and reference both to leave something to other answers, or neither; got {rests[0]:g} and "
            f"{rests[1]:g}. With only one, the KL between the two is infinite or the policy cannot move there."
        )
    pairs = (policy, reference)
    both = [[*pair, rest] if has_rest[0] else [*pair] for pair, rest in zip(pairs, rests, strict=True)]
    return np.log(both[0]), np.log(both[1])


def _margin(log_policy: np.ndarray, log_reference: np.ndarray) -> float:
    ratios = log_policy - log_reference
    return float(ratios[0] - ratios[1])


def _weight(margin: float, beta: float) -> float:
    return beta * float(expit(-beta * margin))


def _tables(found: Movement, rest_reward: float | None) -> tuple[Table, ...]:
    objective = found.objective
    reward, kl = objective.advantages(found.log_policy)
    columns = (np.exp(objective.log_reference), np.exp(found.log_policy), objective.rewards, found.optimum)
    stand = tuple((name, *(float(column[i]) for column in columns)) for i, name in enumerate(found.answers))
    ends = (found.rlhf, found.rlhf_steps[-1], found.dpo, found.dpo_steps[-1])
    moves = tuple((name, *(float(column[i]) for column in ends)) for i, name in enumerate(found.answers))
    n_steps = len(found.rlhf_steps) - 1
    note = "All other answers are taken together" + (
        ", with the reference’s mean reward of the two." if rest_reward is None else "."
    )
    return (
        Table(
            title="Where everything stands",
            columns=("answer", "reference", "policy", "learned reward", "RLHF’s optimum"),
            rows=stand,
            digits=4,
            note="RLHF’s optimum is the reference times exp(r / β), normalised. "
            + (note if len(found.answers) == 3 else "")
            + (" 0 and 1 are what double precision rounds to them." if {0.0, 1.0} & {*found.optimum.tolist()} else ""),
        ),
        Table(
            title="What RLHF weighs up here",
            columns=("answer", "reward above the mean", "KL below the mean", "advantage"),
            rows=tuple(
                (name, float(reward[i]), float(kl[i]), float(reward[i] + kl[i])) for i, name in enumerate(found.answers)
            ),
            digits=4,
            note="The policy gradient moves each answer’s logit by its probability times its advantage: reward above "
            "the policy’s mean, and β times how far its log-ratio to the reference lies below the mean.",
        ),
        Table(
            title=f"Speed of the probabilities now, and where they are after {n_steps} steps",
            columns=("answer", "RLHF: now", f"after {n_steps}", "DPO: now", f"after {n_steps} "),
            rows=moves,
            digits=4,
            note="Speeds along the gradient in the logits; they sum to 0.",
        ),
    )


def _plot(found: Movement) -> Plot:
    xs = tuple(float(i) for i in range(len(found.rlhf_steps)))

    def panel(title: str, unit: str, rows: np.ndarray, optimum: bool) -> Panel:
        series = [Series(label=name, xs=xs, ys=tuple(rows[:, i].tolist())) for i, name in enumerate(found.answers)]
        if optimum:
            series += [
                Series(label=name, xs=(xs[0], xs[-1]), ys=(float(found.optimum[i]),) * 2, style="dashed")
                for i, name in enumerate(found.answers)
            ]
        return Panel(title=title, unit=unit, x_label="steps", series=tuple(series))

    return Plot(
        name="policy",
        title="Probabilities along gradient steps",
        caption="A softmax policy over these answers, from the given point. Dashed: RLHF’s optimum, the reference "
        "times exp(r / β). DPO on a single pair has no such end.",
        panels=(
            panel("RLHF", "probability", found.rlhf_steps, True),
            panel("DPO", "probability", found.dpo_steps, False),
        ),
        same_scale=True,
    )


def _data(found: Movement) -> dict[str, object]:
    def named(values: np.ndarray) -> dict[str, float]:
        return dict(zip(found.answers, values.tolist(), strict=True))

    objective = found.objective
    reward, kl = objective.advantages(found.log_policy)
    return {
        "policy": named(np.exp(found.log_policy)),
        "reference": named(np.exp(objective.log_reference)),
        "rewards": named(objective.rewards),
        "beta": objective.beta,
        "rlhf": {
            "optimum": named(found.optimum),
            "advantage": {"reward": named(reward), "kl": named(kl)},
            "speed": named(found.rlhf),
            "after_steps": named(found.rlhf_steps[-1]),
        },
        "dpo": {
            "speed": named(found.dpo),
            "after_steps": named(found.dpo_steps[-1]),
            "gradient_weight": {"now": found.weights[0], "after_steps": found.weights[1]},
        },
        "steps": len(found.rlhf_steps) - 1,
    }
