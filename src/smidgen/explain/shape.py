"""What an objective asks of a pair, found by probing the function: what it moves, what it ignores, how it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from torch import Tensor

from smidgen.explain.point import Pair, Point, Pull, pull, reads_reference
from smidgen.models.logprobs import PairLogps

Loss = Callable[[PairLogps], Tensor]

_FLAT = 1e-9
_GONE = 1e-6  # of a gradient where the rejected answer is all but gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """An objective at a point and along the margin.

    Attributes:
        name: Its spec.
        here: At the point.
        both_fall: Change of the loss as both answers fall by a nat from the point: above 0 the objective guards against
            that, at 0 it does not see it, below 0 it rewards it.
        far: Where the rejected answer's probability is all but 0, the chosen one's as at the point.
        target: The margin h at which the loss is least; None where there is none.
        curve: Margins, and the loss there; the policy moves both answers by half the margin from the reference.
    """

    name: str
    here: Pull
    both_fall: float
    far: Pull
    target: float | None
    curve: tuple[tuple[float, ...], tuple[float, ...]]

    @property
    def sees_only_margin(self) -> bool:
        return abs(self.both_fall) <= _FLAT

    @property
    def effect(self) -> tuple[int, int]:
        """What descent does to the chosen and to the rejected answer: 1 raises, 0 leaves, −1 lowers."""
        return _sign(-self.here.chosen, _FLAT), _sign(-self.here.rejected, _FLAT)

    @property
    def far_effect(self) -> tuple[int, int]:
        """The same where the rejected answer is all but gone; 0 and 0 where the objective has stopped."""
        return _sign(-self.far.chosen, _GONE), _sign(-self.far.rejected, _GONE)


def shape(name: str, loss: Loss, at: Point, scores: Pair, *, reach: float) -> Shape:
    """Probe a loss, its settings fixed.

    Args:
        name: Its spec.
        loss: Of pairs.
        at: The point.
        scores: External scores of the chosen and the rejected answer.
        reach: Largest margin of the curve, nats; what lies at a thousand times it is far.
    """
    here = pull(loss, at, scores)
    fallen = Point((at.policy[0] - 1, at.policy[1] - 1), at.reference)
    far = Point((at.policy[0], at.policy[1] - 1000 * reach), at.reference)
    # Only a loss that compares with a reference depends on log-ratios alone, whatever the probabilities.
    bounded = not reads_reference(loss, at, scores)
    margins = [h for h in np.linspace(-reach, reach, 81).tolist() if not bounded or _exists(at, h)]
    losses = [pull(loss, _split(at, h), scores).loss for h in margins]
    return Shape(
        name=name,
        here=here,
        both_fall=pull(loss, fallen, scores).loss - here.loss,
        far=pull(loss, far, scores),
        target=_target(loss, at, scores, reach, bounded=bounded),
        curve=(tuple(margins), tuple(losses)),
    )


def _split(at: Point, margin: float) -> Point:
    return at.moved(margin / 2, -margin / 2)


def _exists(at: Point, margin: float) -> bool:
    return max(_split(at, margin).policy) <= 0


def _target(loss: Loss, at: Point, scores: Pair, reach: float, *, bounded: bool) -> float | None:
    """Where the loss stops falling for good as the margin grows, found on a grid and then exactly."""

    def slope(margin: float) -> float:
        found = pull(loss, _split(at, margin), scores)
        return (found.chosen - found.rejected) / 2

    grid = np.r_[-np.geomspace(20 * reach, 1e-3, 60), np.geomspace(1e-3, 20 * reach, 60)].tolist()
    slopes = [(h, slope(h)) for h in grid if not bounded or _exists(at, h)]
    falling = [i for i, (_, value) in enumerate(slopes) if value < -_FLAT]
    # A loss that only flattens out, to a slope of 0, has no target but an end.
    if not falling or falling[-1] + 1 >= len(slopes) or slopes[falling[-1] + 1][1] <= _FLAT:
        return None
    (low, _), (high, _) = slopes[falling[-1]], slopes[falling[-1] + 1]
    return float(brentq(slope, low, high, xtol=1e-12))  # pyright: ignore[reportArgumentType]


def _sign(value: float, flat: float) -> int:
    return 0 if abs(value) <= flat else 1 if value > 0 else -1
