"""Whether the probabilities that a reward model gives preferences come true. Pure functions of arrays.

On a pair, the model says that the preferred answer wins with probability σ(r_w − r_l). Asked that way the answer is
always yes, and a model that is right is told apart from one that is sure only by asking about either answer: so each
pair is turned at random by a hash of its idx, and the question becomes "does the first answer win?".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.special import expit

from smidgen.evaluation.statistics import Interval, wilson
from smidgen.pairs import random_key

_RESAMPLES = 200


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Pairs to which the model gave like probabilities.

    Attributes:
        n: How many.
        probability: Mean of what the model said.
        won: Share in which the first answer was preferred, with its 95 % interval.
    """

    n: int
    probability: float
    won: Interval


@dataclass(frozen=True, slots=True)
class Calibration:
    """How a reward model does on held-out pairs.

    Attributes:
        n: Pairs.
        accuracy: Share of pairs whose preferred answer has the higher reward, ties counting half; 95 % interval.
        log_loss: Mean −log of the probability given to what people preferred, nats; ln 2 for a coin.
        brier: Mean squared distance of probability and outcome; .25 for a coin.
        calibration_error: Expected calibration error over the bins.
        chance_error: What that error would be, on average, were every probability right: bins are noisy.
        bins: Of the reliability table, by rising probability.
    """

    n: int
    accuracy: Interval
    log_loss: float
    brier: float
    calibration_error: float
    chance_error: float
    bins: tuple[ReliabilityBin, ...]

    def numbers(self) -> dict[str, float]:
        """The numbers without the table, named for a log."""
        return {
            "heldout_pairs": self.n,
            "heldout_accuracy": self.accuracy.mean,
            "heldout_accuracy_low": self.accuracy.low,
            "heldout_accuracy_high": self.accuracy.high,
            "heldout_log_loss": self.log_loss,
            "heldout_brier": self.brier,
            "heldout_calibration_error": self.calibration_error,
            "heldout_calibration_chance_error": self.chance_error,
        }

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def markdown(self) -> str:
        """What a model card says: one sentence, and the reliability table."""
        a = self.accuracy
        lines = [
            f"Accuracy on {self.n} held-out pairs: {a.mean:.3f} (95 % interval {a.low:.3f} to {a.high:.3f}); log loss "
            f"{self.log_loss:.3f} (a coin: 0.693), Brier score {self.brier:.3f} (a coin: 0.250), calibration error "
            f"{self.calibration_error:.3f} ({self.chance_error:.3f} expected of right probabilities on so many pairs).",
            "",
            "| pairs | said to win | won | 95 % interval |",
            "|---|---|---|---|",
            *(
                f"| {b.n} | {b.probability:.3f} | {b.won.mean:.3f} | {b.won.low:.3f} to {b.won.high:.3f} |"
                for b in self.bins
            ),
        ]
        return "\n".join(lines) + "\n"


def calibration(
    chosen_rewards: ArrayLike, rejected_rewards: ArrayLike, idxs: Sequence[int], *, n_bins: int = 10
) -> Calibration:
    """Accuracy and calibration of rewards on held-out pairs.

    Args:
        chosen_rewards: r_w, nats, [pairs]; at least one.
        rejected_rewards: r_l, [pairs].
        idxs: Of the pairs, which decide how each is turned.
        n_bins: Of the reliability table, each with as many pairs as the next; fewer where there are fewer pairs.

    Raises:
        ValueError: No pairs, lengths that differ, or rewards that are not finite.
    """
    chosen, rejected = np.asarray(chosen_rewards, np.float64), np.asarray(rejected_rewards, np.float64)
    if chosen.shape != (len(idxs),) or rejected.shape != chosen.shape or not len(idxs):
        raise ValueError(f"expected rewards of {len(idxs)} > 0 pairs, got {chosen.shape} and {rejected.shape}")
    if not (np.isfinite(chosen).all() and np.isfinite(rejected).all()):
        raise ValueError("expected finite rewards, got others; score the pairs again in float32")
    gaps = chosen - rejected
    probabilities, outcomes = turned(gaps, idxs)
    bins = equal_mass_bins(probabilities, n_bins)
    return Calibration(
        n=len(idxs),
        accuracy=wilson(float((gaps > 0).sum() + (gaps == 0).sum() / 2), len(idxs)),
        log_loss=float(np.logaddexp(0, -gaps).mean()),
        brier=brier(probabilities, outcomes),
        calibration_error=calibration_error(probabilities, outcomes, bins),
        chance_error=_chance_error(probabilities, bins),
        bins=reliability(probabilities, outcomes, bins),
    )


def turned(
    gaps: Float[np.ndarray, " pairs"], idxs: Sequence[int]
) -> tuple[Float[np.ndarray, " pairs"], Float[np.ndarray, " pairs"]]:
    """Pairs turned by a hash of their idx: the probability that the first answer wins, and whether it did (1 or 0).

    Args:
        gaps: r_w − r_l, nats.
        idxs: Of the pairs.
    """
    first_won = np.array([random_key("calibration", idx) % 2 for idx in idxs], np.float64)
    return expit(np.where(first_won == 1, gaps, -gaps)), first_won


def equal_mass_bins(probabilities: Float[np.ndarray, " n"], n_bins: int) -> list[np.ndarray]:
    """Positions in bins of as many items each (or one more), by rising probability; none is empty.

    Raises:
        ValueError: Fewer than one bin.
    """
    if n_bins < 1:
        raise ValueError(f"expected at least one bin, got {n_bins}")
    order = np.argsort(probabilities, kind="stable")
    return [part for part in np.array_split(order, n_bins) if len(part)]


def brier(probabilities: Float[np.ndarray, " n"], outcomes: Float[np.ndarray, " n"]) -> float:
    """Mean squared distance of probability and outcome.

    Source: Brier 1950, Monthly Weather Review 78:1, for two classes with half its scale.
    """
    return float(((probabilities - outcomes) ** 2).mean())


def calibration_error(
    probabilities: Float[np.ndarray, " n"], outcomes: Float[np.ndarray, " n"], bins: Sequence[np.ndarray]
) -> float:
    """Expected calibration error: mean distance of what was said and what came, bins weighing by their items.

    Source: Naeini et al. 2015, AAAI, with bins of equal mass (Nixon et al. 2019, arXiv:1904.01685).
    """
    distances = [abs(probabilities[part].mean() - outcomes[part].mean()) * len(part) for part in bins]
    return float(sum(distances) / len(probabilities))


def reliability(
    probabilities: Float[np.ndarray, " n"], outcomes: Float[np.ndarray, " n"], bins: Sequence[np.ndarray]
) -> tuple[ReliabilityBin, ...]:
    """Of each bin, what was said and what came."""
    return tuple(
        ReliabilityBin(len(part), float(probabilities[part].mean()), wilson(int(outcomes[part].sum()), len(part)))
        for part in bins
    )


def _chance_error(probabilities: np.ndarray, bins: Sequence[np.ndarray]) -> float:
    """Mean calibration error of outcomes drawn with exactly these probabilities, bins as they are."""
    rng = np.random.default_rng(0)
    draws = rng.random((_RESAMPLES, len(probabilities))) < probabilities
    return float(np.mean([calibration_error(probabilities, draw.astype(np.float64), bins) for draw in draws]))
