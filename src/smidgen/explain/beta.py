"""What β does to DPO: loss and gradient weight over β, where the margin is right and where it is wrong."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from scipy.optimize import brentq

from smidgen.errors import UsageError
from smidgen.explain.base import Explanation, Panel, Plot, Series, Table, explanation
from smidgen.explain.dpo import given
from smidgen.explain.point import Pair, Point, check_beta, point, pull
from smidgen.explain.wording import amount, factor, share
from smidgen.training.losses import dpo as dpo_loss

_NONE = 1e-12
BETAS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)
_SURE = math.log(0.9 / 0.1)
# Where x σ(−x), the gradient weight times the margin, is greatest: x σ(x) = 1.
_PEAK = float(brentq(lambda x: x / (1 + math.exp(-x)) - 1, 1.0, 2.0))  # pyright: ignore[reportArgumentType]


@explanation
def beta(
    *, policy: Pair, references: tuple[Pair, ...], betas: tuple[float, ...] = BETAS, logs: bool = False
) -> Explanation:
    """Loss and gradient weight of DPO over β.

    Args:
        policy: Probabilities of the chosen and the rejected answer under the policy.
        references: The same under one reference, or under several to compare. Where all margins have one sign, the
            first pair is also shown with its label turned round.
        betas: To tabulate. Positive.
        logs: The probabilities are log-probabilities, nats, summed over tokens.

    Raises:
        UsageError: Numbers out of range.

    Source: Rafailov et al. 2023, arXiv:2305.18290, Section 4.
    """
    if not references or not betas:
        raise UsageError("expected at least one reference and one beta, got none; give --reference and --betas.")
    check_beta(*betas)
    betas = tuple(sorted(set(betas)))
    points = _points(policy, references, logs=logs)
    found = {name: [_at(at, b) for b in betas] for name, at in points.items()}
    return Explanation(
        name="beta",
        title="What β does",
        given=_given(policy, references, logs=logs),
        tables=_tables(betas, points, found),
        plots=(_plot(betas, points),),
        conclusion=_conclusion(betas, points, found),
        data={
            "policy": list(policy),
            "references": [list(reference) for reference in references],
            "betas": list(betas),
            "cases": [
                {
                    "name": name,
                    "margin": at.margin,
                    "loss": [loss for loss, _ in found[name]],
                    "gradient_weight": [weight for _, weight in found[name]],
                    "beta_of_greatest_weight": _PEAK / at.margin if at.margin > 0 else None,
                }
                for name, at in points.items()
            ],
            "margin_for_probability_0.9": [_SURE / b for b in betas],
        },
    )


def _points(policy: Pair, references: tuple[Pair, ...], *, logs: bool) -> dict[str, Point]:
    """Points by what DPO sees of them, their margin."""
    points = [point(policy, reference, logs=logs) for reference in references]
    margins = [at.margin for at in points]
    if abs(margins[0]) > _NONE and not min(margins) < 0 < max(margins):
        points.append(points[0].swapped)
    return {_name(at): at for at in points}


def _name(at: Point) -> str:
    kind = "none" if abs(at.margin) <= _NONE else "right" if at.margin > 0 else "wrong"
    return f"h = {amount(at.margin)}, {kind}"


def _given(policy: Pair, references: tuple[Pair, ...], *, logs: bool) -> dict[str, str]:
    found: dict[str, str] = {}
    for reference in references:
        names = given(policy, reference, logs=logs)
        h = amount(point(policy, reference, logs=logs).margin)
        found |= {f"{name}: h = {h}" if "ref" in name else name: text for name, text in names.items()}
    return found


def _at(at: Point, value: float) -> tuple[float, float]:
    found = pull(partial(dpo_loss, beta=value), at)
    return found.loss, -found.chosen


def _tables(
    betas: tuple[float, ...], points: dict[str, Point], found: dict[str, list[tuple[float, float]]]
) -> tuple[Table, ...]:
    headings = tuple(amount(b) for b in betas)

    def table(title: str, which: int, note: str) -> Table:
        rows = tuple((name, *(pair[which] for pair in found[name])) for name in points)
        return Table(title=title, columns=("β", *headings), rows=rows, note=note)

    return (
        table("Loss", 0, f"Without any margin it is ln 2 = {amount(math.log(2), 6)} at every β."),
        table("Gradient weight β σ(−βh)", 1, "What a step of descent pulls ln π(w) up and ln π(l) down with."),
        Table(
            title="Margin at which the label has a probability of 0.9",
            columns=("β", *headings),
            rows=(("h, nats", *(_SURE / b for b in betas)),),
            digits=3,
            note="How far the policy has to leave the reference before a pair is nearly learnt: ln 9 / β.",
        ),
    )


def _conclusion(
    betas: tuple[float, ...], points: dict[str, Point], found: dict[str, list[tuple[float, float]]]
) -> tuple[str, ...]:
    sentences = [_case(at, betas, found[name]) for name, at in points.items()]
    low, high = betas[0], betas[-1]
    if low == high:
        why = f"At β = {amount(low)}, a probability of 0.9 takes a margin of {amount(_SURE / low)} nats."
    else:
        why = (
            f"Why: β is the price of leaving the reference, and turns the margin into a reward. At β = {amount(low)} a "
            f"probability of 0.9 takes a margin of {amount(_SURE / low, 2)} nats, so a pair goes on pulling the policy "
            f"far from the reference, with a weight of at most {amount(low)}; at β = {amount(high)}, "
            f"{amount(_SURE / high, 2)} nats are enough: the odds of the two answers have to leave the reference’s by "
            f"a factor of {factor(_SURE / high)}, against {factor(_SURE / low)}."
        )
        wrong = [(at.margin, found[name][-1][1] / high) for name, at in points.items() if at.margin < 0]
        if wrong:
            margin, part = min(wrong)
            why += f" The wrong order of h = {amount(margin)} is pulled at there with {share(part)} of β."
    return (*sentences, why)


def _case(at: Point, betas: tuple[float, ...], found: list[tuple[float, float]]) -> str:
    (first_loss, first_weight), (last_loss, last_weight) = found[0], found[-1]
    losses = f"from {amount(first_loss)} at β = {amount(betas[0])} to {amount(last_loss)} at β = {amount(betas[-1])}"
    if abs(at.margin) <= _NONE:
        return "Without a margin the loss is ln 2 at every β, and the gradient weight half of β."
    side = f"With the {'right' if at.margin > 0 else 'wrong'} margin h = {amount(at.margin)} the loss"
    if len(betas) == 1:
        return (
            f"{side} is {amount(first_loss)} at β = {amount(betas[0])}, and the gradient weight {amount(first_weight)}."
        )
    if at.margin < 0:
        times = amount(last_weight / first_weight, 1)
        return (
            f"{side} rises {losses}, ever nearer to {amount(-at.margin)} for each unit of β, and the gradient weight "
            f"from {amount(first_weight)} to {amount(last_weight)}: {times} times, the dearer the larger β."
        )
    peak = _PEAK / at.margin
    if peak >= betas[-1]:
        turn = f"would be greatest at β = {amount(peak, 2)}, beyond this table, and still grows here"
    elif peak <= betas[0]:
        turn = f"was greatest at β = {amount(peak, 2)}, before this table, and falls throughout"
    else:
        turn = f"grows up to β = {amount(peak, 2)} (βh = {amount(_PEAK)}) and falls beyond: the pair counts as learnt"
    return f"{side} falls {losses}; the gradient weight {turn}."


def _plot(betas: tuple[float, ...], points: dict[str, Point]) -> Plot:
    low, high = betas[0], betas[-1]
    if low == high:
        low, high = low / 10, high * 10
    grid = np.geomspace(low, high, 81).tolist()
    curves = {name: [_at(at, b) for b in grid] for name, at in points.items()}
    marks = {name: [_at(at, b) for b in betas] for name, at in points.items()}

    def panel(title: str, unit: str, which: int, levels: tuple[tuple[float, str], ...] = ()) -> Panel:
        series = [
            part
            for name in points
            for part in (
                Series(label=name, xs=tuple(grid), ys=tuple(pair[which] for pair in curves[name])),
                Series(label=name, xs=betas, ys=tuple(pair[which] for pair in marks[name]), style="dots"),
            )
        ]
        return Panel(title=title, unit=unit, x_label="β", series=tuple(series), levels=levels, log_x=True)

    return Plot(
        name="beta",
        title="Loss and gradient weight over β",
        caption="β on a logarithmic axis; dots are the tabulated values.",
        panels=(panel("loss", "nats", 0, ((math.log(2), "ln 2"),)), panel("gradient weight", "", 1)),
    )
