"""What proximal policy optimisation did: reward, KL to the reference and its price, against steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from smidgen.report.svg import LIGHT, drawing, write_png

_NORMAL_95 = 1.96


def ppo_png(rows: Sequence[Mapping[str, float]], path: Path | str, *, kl_target: float = 0.0) -> Path:
    """Write the picture of a run's log.

    Args:
        rows: One a rollout, with step, reward, reward_standard_error, kl, kl_k3 and kl_coef, as `train_ppo` logs them.
            What a row says was measured on answers sampled before its steps.
        kl_target: Drawn as a line; 0 for none.
    """
    # A row is logged after the steps on its rollout; the answers are those of the policy before them.
    steps = [0.0, *(row["step"] for row in rows[:-1])]

    def column(name: str) -> list[float]:
        return [row[name] for row in rows]

    with drawing("ppo"):
        figure = Figure(figsize=(1040 / 72, 340 / 72), layout="constrained")
        figure.set_facecolor(LIGHT["paper"])
        reward, kl, price = figure.subplots(1, 3)
        for axes in (reward, kl, price):
            _plain(axes)
        means, halves = column("reward"), [_NORMAL_95 * x for x in column("reward_standard_error")]
        lows, highs = ([m + sign * h for m, h in zip(means, halves, strict=True)] for sign in (-1, 1))
        reward.fill_between(steps, lows, highs, color=LIGHT["accent"], alpha=0.12, linewidth=0)
        reward.plot(steps, means, color=LIGHT["accent"], marker="o", markersize=3.5, linewidth=1.4)
        _title(reward, "Reward", "mean of a rollout, 95 %")
        kl.plot(steps, column("kl"), color=LIGHT["series-4"], marker="o", markersize=3.5, linewidth=1.4, label="k1")
        kl.plot(steps, column("kl_k3"), color=LIGHT["series-2"], linewidth=1.1, dashes=(4, 2), label="k3")
        if kl_target:
            kl.axhline(kl_target, color=LIGHT["fail"], linewidth=1, dashes=(1, 2), label=f"target {kl_target:g}")
        kl.set_ylim(bottom=min(0.0, *column("kl")))
        kl.legend(frameon=False, labelcolor=LIGHT["ink"], fontsize=11, loc="best")
        _title(kl, "KL to the reference", "nats an answer")
        price.plot(steps, column("kl_coef"), color=LIGHT["series-5"], marker="o", markersize=3.5, linewidth=1.4)
        price.set_ylim(bottom=0)
        _title(price, "β", "price of a nat")
        return write_png(figure, path)


def _plain(axes: Axes) -> None:
    axes.set_facecolor("none")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(LIGHT["muted"])
    axes.tick_params(colors=LIGHT["muted"], labelsize=11, length=3, width=0.8)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color=LIGHT["rule"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel("optimiser steps", color=LIGHT["muted"], fontsize=11)


def _title(axes: Axes, name: str, rest: str) -> None:
    axes.set_title(name, loc="left", color=LIGHT["ink"], fontsize=13, fontweight="bold", pad=10)
    axes.set_title(rest, loc="right", color=LIGHT["muted"], fontsize=11, pad=10)
