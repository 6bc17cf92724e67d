"""What follows for objectives that were probed at a point, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from smidgen.explain.shape import Shape
from smidgen.explain.wording import amount, joined


def conclusion(shapes: Sequence[Shape]) -> tuple[str, ...]:
    """A paragraph each on what descent does here, on who may let the chosen answer fall, and on how each one ends."""
    return _here(shapes), _falling(shapes), _ending(shapes)


def _here(shapes: Sequence[Shape]) -> str:
    usual = [found for found in shapes if found.effect == (1, -1)]
    does = {found.name: _does(found) for found in shapes if found.effect != (1, -1)}
    rest = [f"{joined([name for name in does if does[name] == what])} {what}" for what in dict.fromkeys(does.values())]
    n = len(shapes)
    if len(usual) == n:
        who = f"each of the {n} objectives" if n > 1 else usual[0].name
        return f"Here a step of descent on {who} raises the chosen answer and lowers the rejected one."
    if not usual:
        return f"Here no objective raises the chosen answer and lowers the rejected one: {joined(rest)}."
    return (
        f"Here a step of descent raises the chosen answer and lowers the rejected one with {len(usual)} of the {n} "
        f"objectives. The others differ: {joined(rest)}."
    )


def _does(found: Shape) -> str:
    """What descent does to both, to stand behind one name or several."""
    chosen, rejected = found.effect
    if chosen == rejected:
        return {1: "(both up)", 0: "(no pull at all)", -1: "(both down)"}[chosen]
    arrows = {1: "up", 0: "unmoved", -1: "down"}
    return f"(chosen {arrows[chosen]}, rejected {arrows[rejected]})"


def _falling(shapes: Sequence[Shape]) -> str:
    groups = (
        ([f for f in shapes if f.sees_only_margin], "does not change its loss", "do not change their loss"),
        ([f for f in shapes if not f.sees_only_margin and f.both_fall > 0], "loses by it", "lose by it"),
        ([f for f in shapes if not f.sees_only_margin and f.both_fall < 0], "gains by it", "gain by it"),
    )
    parts = [f"{_names(found)} {one if len(found) == 1 else many}" for found, one, many in groups if found]
    unseen = groups[0][0]
    text = f"Let both answers fall together by a nat: {'; '.join(parts)}."
    if not unseen:
        return text
    return f"{text} Where the loss does not change, training may let the chosen answer sink with the rejected one."


def _ending(shapes: Sequence[Shape]) -> str:
    stops = [found for found in shapes if found.far_effect == (0, 0)]
    targets = [f"{found.name} at h = {amount(found.target)}" for found in shapes if found.target is not None]
    endless = [found for found in shapes if found not in stops and found.target is None]
    sentences = []
    if stops:
        sentences.append(
            f"Once the rejected answer is all but gone, {_names(stops)} no longer pull{'s' if len(stops) == 1 else ''}."
        )
    if targets:
        sentences.append(f"A target, beyond which a larger margin costs: {joined(targets)}.")
    if endless:
        sentences.append(f"Without a target and still pulling then: {_names(endless)}.")
    return " ".join(sentences)


def _names(found: Sequence[Shape]) -> str:
    return joined([one.name for one in found])
