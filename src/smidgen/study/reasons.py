"""Why each pair of a study's answer is in it: by the ranking or for which other, and what more weight on it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smidgen.selection.why import Why

if TYPE_CHECKING:  # so that telling reasons does not load torch
    from smidgen.study.minimality import Reduction
    from smidgen.study.swap import Pairs

RANKED, SWAPPED = "ranking", "swap"
# Of each kind; what stands further down did not nearly make it.
_RUNNERS_UP = 10


@dataclass(frozen=True, slots=True)
class Descent:
    """The way from a ranking to an answer.

    Attributes:
        ranked: The ranking's prefix that it began with.
        swapped: After swaps; each newcomer stands where the pair stood that it replaced.
        answer: What delta debugging left of that, in the same order.
    """

    ranked: Pairs
    swapped: Pairs
    answer: Pairs

    @property
    def replaced(self) -> dict[int, int]:
        """Of every pair of the answer that was swapped in, the one that it replaced."""
        both = zip(self.swapped, self.ranked, strict=True)
        kept = set(self.answer)
        return {new: old for new, old in both if new != old and new in kept}

    def why_kept(self, selector: Why) -> Why:
        """Why a pair of the answer is in it; `selector` gives the ranking's own reason."""
        replaced = self.replaced
        return lambda idx: (
            f"swapped in for pair {replaced[idx]} by metagradient on dev; {selector(idx)}"
            if idx in replaced
            else selector(idx)
        )

    def why_dropped(self, selector: Why) -> Why:
        """Why any other pair is not; `selector` says what the ranking has against it."""
        newcomer = {old: new for new, old in zip(self.swapped, self.ranked, strict=True) if new != old}
        removed = set(self.swapped) - set(self.answer)

        def why(idx: int) -> str:
            if idx in removed:
                return "removed by delta debugging: on dev the rest did as well without its group"
            if idx in newcomer:
                return f"ranked, then swapped out for pair {newcomer[idx]} by metagradient on dev"
            return selector(idx)

        return why


def descent(answer: Pairs, reduction: Reduction, swaps: Mapping[Pairs, Pairs]) -> Descent:
    """Trace an answer back.

    Args:
        answer: The confirmed subset.
        reduction: What delta debugging found; it began with the pairs of its first round.
        swaps: Of every subset that rounds of swaps led to, the ranking's prefix that they began with.
    """
    swapped = reduction.rounds[0].pairs if answer in reduction.shrunk else answer
    return Descent(swaps.get(swapped, swapped), swapped, answer)


def descent_columns(way: Descent, metagradients: Mapping[int, float]) -> dict[str, Sequence[Any]]:
    """How each pair of the answer came in, and its metagradient where that was asked for.

    Args:
        way: To the answer.
        metagradients: By idx, from `MetagradientOracle.ask` for the answer; empty where it was not asked.
    """
    replaced = way.replaced
    columns: dict[str, Sequence[Any]] = {
        "came_by": [SWAPPED if idx in replaced else RANKED for idx in way.answer],
        "replaced_idx": [replaced.get(idx) for idx in way.answer],
    }
    if metagradients:
        columns["metagradient"] = [_rounded(metagradients[idx]) for idx in way.answer]
    return columns


def runners_up(
    answer: Pairs, metagradients: Mapping[int, float], kinds: Mapping[int, str], *, most: int = _RUNNERS_UP
) -> tuple[Pairs, dict[str, Sequence[Any]]]:
    """The pairs left out that promise most, best first, at most so many of each kind, and what is known of them.

    Args:
        answer: The confirmed subset.
        metagradients: Of its pairs and of others of their kinds, by idx.
        kinds: What each pair teaches: a runner-up could take the place of a pair of its own kind.
        most: Of each kind.

    Returns:
        Their idx, and columns for a table; `lowest_kept` is the lowest metagradient of a kept pair of the same kind.
    """
    inside = {idx for idx in answer if idx in metagradients}
    found: list[int] = []
    for kind in sorted({kinds[idx] for idx in inside}):
        others = (idx for idx in metagradients if idx not in inside and kinds[idx] == kind)
        found += sorted(others, key=lambda idx: (-metagradients[idx], idx))[:most]
    found.sort(key=lambda idx: (-metagradients[idx], idx))
    lowest: dict[str, float] = {}
    for idx in inside:
        lowest[kinds[idx]] = min(metagradients[idx], lowest.get(kinds[idx], metagradients[idx]))
    columns = {
        "kind": [kinds[idx] for idx in found],
        "metagradient": [_rounded(metagradients[idx]) for idx in found],
        "lowest_kept": [_rounded(lowest[kinds[idx]]) for idx in found],
    }
    return tuple(found), columns


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
