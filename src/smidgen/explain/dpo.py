"""DPO on one pair, step by step: from probabilities to the margin, the loss and the pull of its gradient."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from scipy.special import expit

from smidgen.explain.base import Explanation, Panel, Plot, Series, Table, explanation
from smidgen.explain.point import Pair, Point, check_beta, point, pull
from smidgen.explain.wording import amount, factor, rounding, share
from smidgen.training.losses import dpo as dpo_loss

_LEAST_SHARE = math.log(1e-6)


@explanation
def dpo(*, policy: Pair, reference: Pair, beta: float = 0.1, logs: bool = False) -> Explanation:
    """DPO's margin, implicit rewards, loss and gradient on one pair.

    Args:
        policy: Probabilities of the chosen and the rejected answer under the policy.
        reference: The same under the reference.
        beta: Strength of the pull to the reference. Positive.
        logs: The probabilities are log-probabilities, nats, summed over tokens.

    Raises:
        UsageError: Numbers out of range.

    Source: Rafailov et al. 2023, arXiv:2305.18290, Eq. 7 and its gradient in Section 4.
    """
    check_beta(beta)
    at = point(policy, reference, logs=logs)
    found = pull(partial(dpo_loss, beta=beta), at)
    weight = -found.chosen
    chosen, rejected = at.log_ratios
    data = {
        "policy": list(policy),
        "reference": list(reference),
        "beta": beta,
        "log_ratio": {"chosen": chosen, "rejected": rejected},
        "margin": at.margin,
        "implicit_reward": {"chosen": beta * chosen, "rejected": beta * rejected},
        "implicit_reward_margin": beta * at.margin,
        "probability": math.exp(-found.loss),
        "loss": found.loss,
        "gradient_weight": weight,
        "gradient": {"chosen": found.chosen, "rejected": found.rejected},
    }
    return Explanation(
        name="dpo",
        title=f"DPO on one pair, h = {amount(at.margin)}",
        given=given(policy, reference, logs=logs) | {"β": amount(beta, 6)},
        tables=(_steps(at, beta, found.loss, weight),),
        plots=(_plot(at, beta),),
        conclusion=_conclusion(at, beta, found.loss),
        data=data,
    )


def given(policy: Pair, reference: Pair, *, logs: bool) -> dict[str, str]:
    """The probabilities as the user gave them, by name."""
    log = "log " if logs else ""
    return {f"{log}π(w), {log}π(l)": _both(policy), f"{log}ref(w), {log}ref(l)": _both(reference)}


def _both(pair: Pair) -> str:
    return f"{amount(pair[0], 6)}, {amount(pair[1], 6)}"


def _steps(at: Point, beta: float, loss: float, weight: float) -> Table:
    chosen, rejected = at.log_ratios
    h, b = amount(at.margin), amount(beta)
    base = factor(-at.margin, 4)

    def of_logs(i: int) -> str:
        return f"{amount(at.policy[i])} − ({amount(at.reference[i])})"

    rows = (
        ("log-ratio, chosen", "ln π(w) − ln ref(w)", of_logs(0), chosen),
        ("log-ratio, rejected", "ln π(l) − ln ref(l)", of_logs(1), rejected),
        ("margin h", "their difference", f"{amount(chosen)} − ({amount(rejected)})", at.margin),
        ("reward, chosen", "β · log-ratio", f"{b} · {amount(chosen)}", beta * chosen),
        ("reward, rejected", "β · log-ratio", f"{b} · {amount(rejected)}", beta * rejected),
        ("reward margin z", "βh", f"{b} · {h}", beta * at.margin),
        ("P(w≻l)", "σ(z)", f"σ({amount(beta * at.margin)})", math.exp(-loss)),
        ("loss", "ln(1 + (e^−h)^β)", f"ln(1 + {f'({base})' if '^' in base else base}^{b})", loss),
        ("gradient weight", "β σ(−z)", f"{b} · {amount(float(expit(-beta * at.margin)))}", weight),
        ("∂ loss / ∂ ln π(w)", "−β σ(−z)", "", -weight),
        ("∂ loss / ∂ ln π(l)", "β σ(−z)", "", weight),
    )
    return Table(
        title="Step by step",
        columns=("quantity", "formula", "with the numbers", "value"),
        rows=rows,
        note=" ".join(
            (
                "Natural logarithms; log-probabilities of answers are sums over their tokens.",
                rounding(beta * at.margin),
            )
        ).strip(),
    )


def _conclusion(at: Point, beta: float, loss: float) -> tuple[str, ...]:
    z, even = beta * at.margin, math.log(2)
    if abs(at.margin) < 1e-12:
        first = (
            f"Policy and reference stand equally far apart on both answers: the margin is 0, the loss ln 2 = "
            f"{amount(even)}, the same as before any training."
        )
    else:
        right = at.margin > 0
        first = (
            f"DPO’s implicit reward puts the {'chosen' if right else 'rejected'} answer {amount(abs(z))} above the "
            f"other{'' if right else ', against the label'}: the label has a probability of "
            f"{factor(-loss, 4)} and the loss is {amount(loss)}, {'below' if right else 'above'} the "
            f"{amount(even)} of an untrained policy."
        )
    # ln σ(−z), which stays finite where σ(−z) itself is too small for a double.
    log_part = -float(np.logaddexp(0.0, z))
    part = share(math.exp(log_part)) if log_part > _LEAST_SHARE else factor(log_part)
    steps = (
        f"The next step of descent raises ln π(w) and lowers ln π(l), each with the weight β σ(−βh) = "
        f"{factor(math.log(beta) + log_part, 4)}: {part} of the most it can be, β, against 50 % before any training."
    )
    return first, _movement(at), steps


def _movement(at: Point) -> str:
    """Where the margin comes from, and whether the policy's own order of the answers agrees with it."""
    moves = [
        f"the {name} answer {_moved(ratio)}" for name, ratio in zip(("chosen", "rejected"), at.log_ratios, strict=True)
    ]
    text = f"Since the reference, {moves[0]} and {moves[1]}."
    likelier = at.policy[0] - at.policy[1]
    if at.margin > 0 > likelier:
        text += (
            f" The policy itself still writes the rejected answer {factor(-likelier)} times as often as "
            "the chosen one; the loss does not see that, only the change from the reference."
        )
    elif at.margin < 0 < likelier:
        text += (
            f" The policy itself writes the chosen answer {factor(likelier)} times as often as the "
            "rejected one; the loss does not see that, only that the reference did so even more."
        )
    return text


def _moved(ratio: float) -> str:
    if abs(ratio) < 1e-12:
        return "kept its probability"
    return f"{'rose' if ratio > 0 else 'fell'} by a factor of {factor(abs(ratio))}"


def _plot(at: Point, beta: float) -> Plot:
    reach = max(4 / beta, 1.3 * abs(at.margin))
    margins = np.linspace(-reach, reach, 121).tolist()
    found = [pull(partial(dpo_loss, beta=beta), at.moved(0.0, -h)) for h in margins]
    here = pull(partial(dpo_loss, beta=beta), at)

    def panel(title: str, unit: str, ys: list[float], y: float, level: tuple[float, str]) -> Panel:
        line = Series(label="", role="accent", xs=tuple(margins), ys=tuple(ys))
        dot = Series(label="", role="ink", xs=(at.margin,), ys=(y,), style="dots")
        return Panel(title=title, unit=unit, x_label="margin h, nats", series=(line, dot), levels=(level,))

    return Plot(
        name="dpo",
        title="Loss and gradient weight against the margin",
        caption=f"At β = {amount(beta)}. Left of 0 the implicit reward orders the pair against its label: there the "
        "gradient weight nears β. The dot is the given pair.",
        panels=(
            panel("loss", "nats", [p.loss for p in found], here.loss, (math.log(2), "ln 2")),
            panel("gradient weight", "", [-p.chosen for p in found], -here.chosen, (beta, "β")),
        ),
    )
