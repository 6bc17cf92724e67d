"""The figures of the concept pages, from the project's own functions: `python docs/figures/make_figures.py`.

Everything is computed or simulated here with a fixed seed; nothing is measured on a model.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from smidgen.evaluation.power import Spread, claim_power
from smidgen.evaluation.statistics import score_difference
from smidgen.models.logprobs import PairLogps, TokenLogps
from smidgen.training.losses import loss

HERE = Path(__file__).parent
BLUE, ORANGE, GREEN, GREY = "#2563a8", "#c4621b", "#2f855a", "#6b7280"
DELTA = 0.15


def pull() -> None:
    """How hard a pair still pulls, against how far it has been learned, for three losses."""
    margins = torch.linspace(-40, 60, 401, requires_grad=True)
    _, ax = plt.subplots(figsize=(6.4, 3.2))
    for spec, colour in (("dpo:beta=0.1", BLUE), ("hinge:beta=0.1", GREEN), ("ipo:beta=0.05", ORANGE)):
        ax.plot(margins.detach(), _slope(spec, margins), color=colour, label=spec, linewidth=2)
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.axvline(0, color=GREY, linewidth=0.8, linestyle=":")
    ax.annotate("every training starts here", (0, 2.2), (6, 2.2), color=GREY, fontsize=9)
    ax.set(xlabel="log-ratio difference h of the pair, nats", ylabel="pull (at the start: 1)", ylim=(-1.2, 2.5))
    ax.legend(frameon=False, fontsize=9)
    _save(ax, "pull.png")


def _slope(spec: str, margins: torch.Tensor) -> np.ndarray:
    """−d loss / dh, over what it is at h = 0."""
    one = torch.ones(len(margins), 1, dtype=torch.bool)

    def tokens(values: torch.Tensor) -> TokenLogps:
        return TokenLogps(values[:, None], one)

    zero = torch.zeros_like(margins)
    logps = PairLogps(
        policy_chosen=tokens(margins), policy_rejected=tokens(zero), ref_chosen=tokens(zero), ref_rejected=tokens(zero)
    )
    (gradient,) = torch.autograd.grad(loss.bind(spec)(logps).sum(), margins)
    start = float(-gradient[int((margins.detach().abs()).argmin())])
    return (-gradient / start).numpy()


def best_of_many() -> None:
    """The score of the best of k equal subsets, on few and on many prompts."""
    rng, true = np.random.default_rng(0), (0.35, 0.05)
    tries = np.array([1, 2, 5, 10, 20, 50])
    _, ax = plt.subplots(figsize=(6.4, 3.2))
    for n, colour in ((20, ORANGE), (100, GREEN), (400, BLUE)):
        harmful, harmless = (rng.binomial(n, rate, (20_000, tries[-1])) / n for rate in true)
        best = [np.max((harmful - harmless)[:, :k], axis=1) for k in tries]
        low, middle, high = np.quantile(best, (0.05, 0.5, 0.95), axis=1)
        ax.fill_between(tries, low, high, color=colour, alpha=0.15)
        ax.plot(tries, middle, color=colour, marker="o", markersize=4, label=f"{n} + {n} prompts")
    ax.axhline(true[0] - true[1], color="black", linewidth=1, linestyle="--", label="the truth, of every subset")
    ax.set(xscale="log", xlabel="subsets tried, all equally good", ylabel="score of the best", ylim=(0.05, 0.75))
    ax.set_xticks(tries, [str(k) for k in tries])
    ax.minorticks_off()
    ax.legend(frameon=False, fontsize=9, loc="upper left", ncols=2)
    _save(ax, "best_of_many.png")


def seeds() -> None:
    """The chance of showing that a subset is enough, where it is: more prompts do not make up for few seeds."""
    prompts = np.unique(np.geomspace(50, 4000, 40).astype(int))
    _, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True)
    for ax, seed_sd in zip(axes, (0.03, 0.08), strict=True):
        for n_seeds, colour in ((3, GREY), (5, ORANGE), (10, GREEN), (20, BLUE)):
            chance = [claim_power(int(n), n_seeds, delta=0.1, spread=Spread(seed_sd=seed_sd)) for n in prompts]
            ax.plot(prompts, chance, color=colour, linewidth=2)
            if seed_sd == 0.08:
                ax.text(prompts[-1] * 1.1, chance[-1], f"{n_seeds} seeds", color=colour, va="center", fontsize=9)
        ax.axhline(0.8, color=GREY, linewidth=0.8, linestyle=":")
        ax.set(xscale="log", ylim=(0, 1.02), xlabel="prompts of each class", title=f"sd over seeds {seed_sd:.2f}")
        ax.title.set_fontsize(10)
        ax.set_xticks([50, 100, 200, 500, 1000, 4000], ["50", "100", "200", "500", "1,000", "4,000"])
        ax.minorticks_off()
    axes[0].set_ylabel("chance of the claim, δ = 0.10")
    _save(axes[0], "seeds.png", axes[1])


def verdicts() -> None:
    """Three subsets against full data: enough, not shown, worse; the bound decides, not the mean."""
    rng, n, n_seeds = np.random.default_rng(3), 400, 5
    base = rng.standard_normal((2, n))

    def arm(rate: float, spread: float) -> list[np.ndarray]:
        found = []
        for side, share in zip(base, (rate, 0.06), strict=True):
            offsets = rng.normal(0, spread, (n_seeds, 1))
            found.append(
                ((side + rng.standard_normal((n_seeds, n))) / 2**0.5 < _quantile(share) + offsets).astype(float)
            )
        return found

    full = arm(0.45, 0.05)
    rows = [
        ("better than all pairs", arm(0.60, 0.05), BLUE),
        ("as good, seeds agree", arm(0.45, 0.05), GREEN),
        ("as good, seeds differ", arm(0.45, 0.6), ORANGE),
        ("worse", arm(0.25, 0.05), GREY),
    ]
    _, ax = plt.subplots(figsize=(7.4, 2.9))
    for y, (name, found, colour) in enumerate(reversed(rows)):
        told = score_difference(*found, *full)
        enough = told.lower_bound > -DELTA
        ax.plot([told.lower_bound, told.mean], [y, y], color=colour, linewidth=2.5)
        ax.plot(told.lower_bound, y, marker="|", markersize=14, markeredgewidth=2.5, color=colour)
        ax.plot(told.mean, y, marker="o", markersize=7, color=colour)
        ax.text(0.25, y, "enough" if enough else "not shown", va="center", color=colour)
        ax.text(-0.62, y, name, va="center")
    ax.axvline(-DELTA, color="black", linestyle="--", linewidth=1)
    ax.axvline(0, color=GREY, linewidth=0.8)
    ax.text(-DELTA, 3.55, "−δ", ha="center")
    ax.text(0, 3.55, "equal", ha="center", color=GREY)
    ax.set(xlim=(-0.63, 0.42), ylim=(-0.5, 3.5), yticks=[], xlabel="score of the subset − score of all pairs")
    _save(ax, "verdicts.png")


def _quantile(share: float) -> float:
    return float(np.quantile(np.random.default_rng(0).standard_normal(100_000), share))


def _save(ax: Axes, name: str, *others: Axes) -> None:
    for each in (ax, *others):
        each.spines[["top", "right"]].set_visible(False)
    plt.savefig(HERE / name, dpi=130, bbox_inches="tight", facecolor="white", metadata={"Software": None})
    plt.close()


if __name__ == "__main__":
    pull()
    best_of_many()
    seeds()
    verdicts()
