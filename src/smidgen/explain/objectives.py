"""What every registered objective does to a chosen and a rejected answer at a point: the real functions, autograd."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from smidgen.errors import UsageError
from smidgen.explain.base import Explanation, Panel, Plot, Series, Table, explanation
from smidgen.explain.dpo import given
from smidgen.explain.objectives_conclusion import conclusion
from smidgen.explain.point import Pair, Point, check_beta, point
from smidgen.explain.shape import Shape, shape
from smidgen.explain.wording import amount
from smidgen.models.logprobs import MarkedLogps, TokenLogps
from smidgen.settings import parse_spec, settings_model
from smidgen.training.losses import loss
from smidgen.training.losses.marked import UnpairedLoss, apo_zero_unpaired, bco_unpaired, kto_unpaired
from smidgen.training.losses.reference_free import log_odds

_VERBS = {1: "raises", 0: "leaves", -1: "lowers"}
_UNPAIRED = {"kto": kto_unpaired, "apo_zero": apo_zero_unpaired, "bco": bco_unpaired}


@explanation
def objectives(
    *,
    policy: Pair,
    reference: Pair,
    beta: float | None = None,
    losses: tuple[str, ...] = (),
    scores: Pair = (1.0, 0.0),
    logs: bool = False,
) -> Explanation:
    """Value and pull of every objective at a point, and their shapes along the margin.

    Every answer counts as one token, so that sums and averages over tokens are the same.

    Args:
        policy: Probabilities of the chosen and the rejected answer under the policy.
        reference: The same under the reference.
        beta: For every objective that takes one and is given none in `losses`; without it, each has its own default.
        losses: Registered losses with settings, such as simpo:gamma=0.8, or weighted sums; all registered without.
        scores: External scores of both answers, for objectives that learn from them.
        logs: The probabilities are log-probabilities, nats.

    Raises:
        UsageError: Numbers out of range, an unknown loss or setting.
        InvalidData: Scores that an objective cannot take.
    """
    at = point(policy, reference, logs=logs)
    if beta is not None:
        check_beta(beta)
    if not all(math.isfinite(score) for score in scores):
        raise UsageError(f"expected finite scores, got {scores[0]:g}, {scores[1]:g}; give numbers such as 1,0.")
    reach = max(6 / beta if beta else 6.0, 1.2 * abs(at.margin))
    bound = {name: _bound(name, beta) for name in dict.fromkeys(losses or loss.names())}
    shapes = [shape(name, function, at, scores, reach=reach) for name, function in bound.items()]
    single = [] if losses else _single(at, beta)
    return Explanation(
        name="objectives",
        title="What each objective does to chosen and rejected",
        given=given(policy, reference, logs=logs)
        | {"β": "each objective’s own default" if beta is None else amount(beta, 6)}
        | {"scores s(w), s(l)": f"{amount(scores[0])}, {amount(scores[1])}"},
        tables=(_pulls(shapes), _ends(shapes), *_single_table(single)),
        plots=(_plot(shapes, at),),
        conclusion=conclusion(shapes),
        data=_data(shapes, single, at),
    )


def _bound(spec: str, beta: float | None) -> Callable[..., Any]:
    if beta is None or "*" in spec or " + " in spec:
        return loss.bind(spec)
    name, settings = parse_spec(spec)
    takes = "beta" in settings_model(loss.get(name)).model_fields and "beta" not in settings
    return loss.bind(spec, {"beta": beta} if takes else {})


def _pulls(shapes: list[Shape]) -> Table:
    rows = tuple(
        (
            found.name,
            found.here.loss,
            found.here.chosen,
            found.here.rejected,
            _arrows(found.effect) or "no pull",
        )
        for found in shapes
    )
    return Table(
        title="At the point",
        columns=("objective", "loss", "∂ / ∂ ln π(w)", "∂ / ∂ ln π(l)", "descent"),
        rows=rows,
        note="Derivatives by the policy’s log-probabilities; w is the chosen answer, l the rejected one. Descent: "
        "which way a step against the derivatives moves them.",
    )


def _ends(shapes: list[Shape]) -> Table:
    rows = tuple(
        (found.name, _both_fall(found), _far(found), "none" if found.target is None else amount(found.target))
        for found in shapes
    )
    return Table(
        title="Where it leads",
        columns=("objective", "both fall together", "once l is gone", "target of h"),
        rows=rows,
        note="Both fall together, by a nat: what that does to the loss. Once l is gone: where π(l) is all but 0 and "
        "π(w) as here. Target: the margin at which the loss is least, with both answers moved by half of it.",
    )


def _both_fall(found: Shape) -> str:
    if found.sees_only_margin:
        return "unseen"
    return "punished" if found.both_fall > 0 else "rewarded"


def _far(found: Shape) -> str:
    return _arrows(found.far_effect) or "stops"


def _arrows(effect: tuple[int, int]) -> str:
    """Which way the answers move; those that do not are not named."""
    return " ".join(f"{name}{'↑' if way > 0 else '↓'}" for name, way in zip("wl", effect, strict=True) if way)


def _single(at: Point, beta: float | None) -> list[tuple[str, float, float]]:
    """Losses on single answers: the chosen one marked good and the rejected one marked bad, reference point 0."""

    def answer(values: Pair) -> TokenLogps:
        return TokenLogps(torch.tensor(values, dtype=torch.float64)[:, None], torch.ones(2, 1, dtype=torch.bool))

    zero = torch.tensor(0.0, dtype=torch.float64)
    marked = MarkedLogps(
        policy=answer(at.policy),
        ref=answer(at.reference),
        desirable=torch.tensor([True, False]),
        mismatched_log_ratio=zero,
    )

    def values(function: UnpairedLoss) -> Pair:
        good, bad = function(marked, **({} if beta is None else {"beta": beta})).tolist()
        return good, bad

    return [(name, *values(function)) for name, function in _UNPAIRED.items()]


def _single_table(found: list[tuple[str, float, float]]) -> tuple[Table, ...]:
    if not found:
        return ()
    return (
        Table(
            title="On single answers",
            columns=("objective", "w marked good", "l marked bad"),
            rows=tuple(found),
            note="The reference point z0 is 0.",
        ),
    )


def _plot(shapes: list[Shape], at: Point) -> Plot:
    panels = tuple(
        Panel(
            title=found.name,
            x_label="h",
            series=(
                Series(label="", role="accent", xs=found.curve[0], ys=found.curve[1]),
                Series(label="", role="ink", xs=(at.margin,), ys=(found.here.loss,), style="dots"),
            ),
            at=() if found.target is None or abs(found.target) > max(found.curve[0]) else ((found.target, ""),),
        )
        for found in shapes
    )
    return Plot(
        name="objectives",
        title="Loss against the margin h",
        caption="Both answers move by half the margin from the reference. A line ends where a probability would pass "
        "1, for objectives without a reference. Upright: the target. The dot lies off the line where an objective sees "
        "more than the margin.",
        panels=panels,
        columns=min(5, len(panels)),
    )


def _data(shapes: list[Shape], single: list[tuple[str, float, float]], at: Point) -> dict[str, Any]:
    odds = [float(log_odds(torch.tensor(value, dtype=torch.float64))) for value in at.policy]
    return {
        "margin": at.margin,
        "log_odds_ratio": odds[0] - odds[1],
        "objectives": {
            found.name: {
                "loss": found.here.loss,
                "gradient": {"chosen": found.here.chosen, "rejected": found.here.rejected},
                "chosen": _VERBS[found.effect[0]],
                "rejected": _VERBS[found.effect[1]],
                "both_fall_together": _both_fall(found),
                "once_rejected_is_gone": _far(found),
                "target_margin": found.target,
            }
            for found in shapes
        },
        "single_answers": {name: {"chosen": good, "rejected": bad} for name, good, bad in single},
    }
