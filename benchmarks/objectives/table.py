"""One row an objective: means over seeds and items, with intervals, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from smidgen.evaluation.statistics import mean_over_seeds, score_interval
from smidgen.runs import write_json, write_text

HEADER = (
    "objective",
    "refusal score",
    "refused harmful / harmless",
    "win rate",
    "KL, nats",
    "chosen, nats",
    "rejected, nats",
    "margin > 0",
    "training, s",
)


def write_table(rows: Sequence[dict[str, Any]], about: dict[str, Any], out: Path) -> str:
    """objectives.md and objectives.json; returns the table."""
    names = list(dict.fromkeys(row["objective"] for row in rows))
    found = [summary(name, [row for row in rows if row["objective"] == name]) for name in names]
    found.sort(key=lambda one: -one["score"]["mean"])
    write_json(out / "objectives.json", {**about, "objectives": found})
    lines = [" | ".join(HEADER), " | ".join("---" for _ in HEADER), *(" | ".join(cells(one)) for one in found)]
    text = "".join(f"| {line} |\n" for line in lines)
    write_text(out / "objectives.md", text)
    return text


def summary(name: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of one objective, over its seeds."""

    def stacked(key: str) -> np.ndarray:
        return np.array([row[key] for row in rows])

    def interval(estimate: Any) -> dict[str, float]:
        return {"mean": estimate.mean, "low": estimate.low, "high": estimate.high}

    harmful, harmless = stacked("refused_harmful"), stacked("refused_harmless")
    chosen, rejected = stacked("chosen_log_ratio"), stacked("rejected_log_ratio")
    kl = stacked("kl")
    return {
        "objective": name,
        "seeds": len(rows),
        "score": interval(score_interval(harmful, harmless)),
        "harmful_refusal_rate": float(harmful.mean()),
        "harmless_refusal_rate": float(harmless.mean()),
        "win_rate": interval(mean_over_seeds(stacked("won"))),
        "kl": float(kl.mean()),
        "kl_standard_error": float(kl.mean(axis=0).std(ddof=1) / np.sqrt(kl.shape[1])),
        "chosen_log_ratio": float(chosen.mean()),
        "rejected_log_ratio": float(rejected.mean()),
        "heldout_accuracy": float(np.mean((chosen > rejected) + 0.5 * (chosen == rejected))),
        "train_seconds": float(stacked("train_seconds").mean()),
    }


def cells(one: dict[str, Any]) -> list[str]:
    """A summary as the table shows it."""

    def interval(found: dict[str, float]) -> str:
        return f"{found['mean']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"

    return [
        one["objective"],
        interval(one["score"]),
        f"{one['harmful_refusal_rate']:.3f} / {one['harmless_refusal_rate']:.3f}",
        interval(one["win_rate"]),
        f"{one['kl']:.2f} ± {one['kl_standard_error']:.2f}",
        f"{one['chosen_log_ratio']:+.2f}",
        f"{one['rejected_log_ratio']:+.2f}",
        f"{one['heldout_accuracy']:.3f}",
        f"{one['train_seconds']:.0f}",
    ]
