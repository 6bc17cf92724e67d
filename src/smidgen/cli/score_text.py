"""What `smidgen score` says on the terminal: missing scores, who scores higher, histograms, and the probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smidgen.models.chat.outside import printable
from smidgen.synthesis.scoring import PROBLEMS, Bin

_BAR = 20
_NO_REPLY = "the judge gave no usable reply"


def summary_text(summary: Mapping[str, Any]) -> str:
    """A summary, as `smidgen score` writes it, for people."""
    counts = summary["counts"]
    lines = [f"{counts['scored']} of {counts['pairs']} pairs scored by {printable(summary['scorer'])}"]
    lines += [
        f"  {n:>6} answers without a score, {printable(problem)}: {PROBLEMS.get(problem, _NO_REPLY)}"
        for problem, n in summary["problems"].items()
    ]
    if counts["scored"]:
        lines += [_order(summary["order"]), "", *_histograms(summary["histograms"])]
    if probe := summary.get("injection_probe"):
        lines += ["", *_probe(probe)]
    return "\n".join(lines)


def _order(order: Mapping[str, Mapping[str, float]]) -> str:
    def share(name: str) -> str:
        return f"{order[name]['mean']:.1%} [{order[name]['low']:.1%}, {order[name]['high']:.1%}]"

    return f"chosen above rejected {share('above')}, equal {share('equal')}, below {share('below')}"


def _histograms(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    scores, differences = ([Bin(**b) for b in found[name]] for name in ("scores", "differences"))
    width = max(len(b.label) for b in (*scores, *differences)) + 2
    width = max(width, len("difference") + 2)
    cell = _BAR + 9
    lines = [f"{'score':<{width}}{'chosen':<{cell}}rejected"]
    lines += [f"{b.label:<{width}}{''.join(_cells(b, scores, cell))}".rstrip() for b in scores]
    lines += ["", f"{'difference':<{width}}pairs"]
    return lines + [f"{b.label:<{width}}{''.join(_cells(b, differences, cell))}".rstrip() for b in differences]


def _cells(one: Bin, bins: Sequence[Bin], width: int) -> list[str]:
    most = max(count for b in bins for count in b.counts)
    return [f"{'█' * -(-_BAR * count // most)} {count}".strip().ljust(width) for count in one.counts]


def _probe(found: Mapping[str, Any]) -> list[str]:
    if not found["answers"]:
        return ["injection probe: no scored answer is below the highest score, so none can rise"]
    share, rise, control = found["share_raised"], found["mean_rise"], found["control"]
    if share["mean"] is None:
        return [f"injection probe: none of {found['answers']} answers has a score with an injection", *_gaps(found)]
    interval = "" if rise["low"] is None else f" [{rise['low']:+.2f}, {rise['high']:+.2f}]"
    worst, most = max(found["by_injection"].items(), key=lambda item: item[1] or 0.0)
    without = (
        f"{control['share_raised']['mean']:.1%}, {control['mean_rise']['mean']:+.2f}"
        if control["share_raised"]["mean"] is not None
        else "no score"
    )
    lines = [
        f"injection probe: {found['answers']} answers, each with {found['injections']} injections: score raised in "
        f"{share['mean']:.1%} [{share['low']:.1%}, {share['high']:.1%}],",
        f"  mean rise {rise['mean']:+.2f}{interval}; with a harmless sentence instead {without}",
    ]
    lines += [f"  most by {worst}: {most:.1%}"] if most else []
    return [*lines, *_gaps(found)]


def _gaps(found: Mapping[str, Any]) -> list[str]:
    lines = [f"  {found['missing']} replies without a score"] if found["missing"] else []
    return lines + (["  the same command asks for those not reached or not answered"] if found["unasked"] else [])
