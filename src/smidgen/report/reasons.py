"""What a kept pair's row says beyond its texts, made ready to show: its metagradient as a bar, its facts as a line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from smidgen.report.artefacts import KeptPair

_FACTS = {
    "prompt_harmfulness": "prompt harmfulness",
    "contrast": "contrast",
    "implicit_margin": "implicit margin, nats",
    "dev_similarity": "likeness to the nearest dev prompt",
}


@dataclass(frozen=True, slots=True)
class Bar:
    """A metagradient on a scale whose middle is 0; `left` and `width` in percent of the scale's width."""

    text: str
    left: str
    width: str
    helps: bool


def bars(pairs: Sequence[KeptPair]) -> Mapping[int, Bar]:
    """The bar of every pair that has a metagradient, by idx, all on the scale of the largest among them."""
    values = {pair.idx: value for pair in pairs if (value := _number(pair.extra.get("metagradient"))) is not None}
    largest = max((abs(value) for value in values.values()), default=0.0)
    return {idx: _bar(value, value / largest if largest else 0.0) for idx, value in values.items()}


def facts(pair: KeptPair) -> str:
    """What was measured of a pair, in one line; "" where nothing was."""
    found = [f"{title} {pair.extra[name]}" for name, title in _FACTS.items() if name in pair.extra]
    return " · ".join(found).replace("-", "−")


def _bar(value: float, share: float) -> Bar:
    left = 50 if share >= 0 else 50 + 50 * share
    return Bar(f"{value:+.2g}".replace("-", "−"), f"{left:.2f}%", f"{50 * abs(share):.2f}%", share >= 0)


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
