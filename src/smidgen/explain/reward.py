"""What a reward model says of one pair: its probability, its loss, and where training pulls."""

from __future__ import annotations

import math

import numpy as np
import torch

from smidgen.errors import UsageError
from smidgen.explain.base import Explanation, Panel, Plot, Series, Table, explanation
from smidgen.explain.wording import amount, factor, rounding, share
from smidgen.training.reward import bradley_terry

_SURE = 0.9


@explanation
def reward(*, chosen: float, rejected: float) -> Explanation:
    """A reward model's loss, probability and gradient on one pair.

    Args:
        chosen: Reward r_w of the answer that people chose; on the logit scale, any zero.
        rejected: Reward r_l of the answer that they rejected.

    Raises:
        UsageError: Rewards that are not finite.

    Source: Bradley & Terry 1952, Biometrika 39:324; Ouyang et al. 2022, arXiv:2203.02155, Eq. 1.
    """
    for name, value in (("chosen", chosen), ("rejected", rejected)):
        if not math.isfinite(value):
            raise UsageError(f"expected a finite reward for {name}, got {value:g}; give a number such as 0.5.")
    loss, at_chosen, at_rejected = _loss(chosen, rejected)
    gap = chosen - rejected
    probability = math.exp(-loss)
    rows = (
        ("difference", "r_w − r_l", gap),
        ("probability of the label", "P(w≻l) = σ(r_w − r_l)", probability),
        ("loss", "−ln P(w≻l)", loss),
        ("gradient at r_w", "−(1 − P)", at_chosen),
        ("gradient at r_l", "1 − P", at_rejected),
    )
    return Explanation(
        name="reward",
        title="A reward model on one pair",
        given={"r_w (chosen)": amount(chosen, 6), "r_l (rejected)": amount(rejected, 6)},
        tables=(
            Table(
                title="The reward model’s view", columns=("quantity", "formula", "value"), rows=rows, note=rounding(gap)
            ),
        ),
        plots=(_plot(gap),),
        conclusion=_conclusion(chosen, rejected, loss),
        data={
            "chosen": chosen,
            "rejected": rejected,
            "difference": gap,
            "probability": probability,
            "loss": loss,
            "gradient": {"chosen": at_chosen, "rejected": at_rejected},
        },
    )


def _loss(chosen: float, rejected: float) -> tuple[float, float, float]:
    rewards = [torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in (chosen, rejected)]
    value = bradley_terry(rewards[0], rewards[1])[0]
    at_chosen, at_rejected = torch.autograd.grad(value, rewards)
    return float(value.detach()), float(at_chosen), float(at_rejected)


def _conclusion(chosen: float, rejected: float, loss: float) -> tuple[str, ...]:
    gap = chosen - rejected
    if gap == 0:
        verdict = "gives both answers the same reward: it cannot tell, and its loss is ln 2"
    else:
        side = "the chosen" if gap > 0 else "the rejected"
        verdict = f"puts {side} answer {amount(abs(gap))} above the other" + (
            ", as people did" if gap > 0 else ", against what people chose"
        )
    against = "above" if loss > math.log(2) else "below" if loss < math.log(2) else "equal to"
    # ln (1 − P), which stays finite where 1 − P itself is too small for a double.
    log_wrong = -float(np.logaddexp(0.0, gap))
    needed = math.log(_SURE / (1 - _SURE))
    missing = needed - gap
    rest = (
        f"to be {share(_SURE)} sure of the label, the difference would have to be {amount(needed)}, "
        f"{amount(missing)} more than it is"
        if missing > 0
        else f"it is already more than {share(_SURE)} sure, and hardly learns from this pair any more"
    )
    return (
        f"The reward model {verdict}. It gives the label a probability of {factor(-loss, 4)}, so the loss is "
        f"{amount(loss)}, {against} the {amount(math.log(2))} of a model that cannot tell.",
        f"A step of descent raises r_w and lowers r_l equally, each at {factor(log_wrong, 4)} of the step size, the "
        f"probability that the model still gives to the wrong order; {rest}.",
    )


def _plot(gap: float) -> Plot:
    reach = max(4.0, 1.3 * abs(gap))
    gaps = np.linspace(-reach, reach, 161).tolist()
    losses = [_loss(x, 0.0)[0] for x in gaps]
    here = _loss(gap, 0.0)[0]

    def panel(title: str, unit: str, ys: list[float], y: float, level: tuple[float, str]) -> Panel:
        line = Series(label="", role="accent", xs=tuple(gaps), ys=tuple(ys))
        dot = Series(label="", role="ink", xs=(gap,), ys=(y,), style="dots")
        return Panel(title=title, unit=unit, x_label="r_w − r_l", series=(line, dot), levels=(level,))

    return Plot(
        name="reward",
        title="Loss and probability against the difference of the rewards",
        caption="Left of 0 the reward model orders the pair against its label. The dot is the given pair.",
        panels=(
            panel("loss", "nats", losses, here, (math.log(2), "ln 2")),
            panel("probability of the label", "", [math.exp(-x) for x in losses], math.exp(-here), (0.5, "½")),
        ),
    )
