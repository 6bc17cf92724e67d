"""Pairs set aside before training: split by prompt, and clear of near-copies of what is trained on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from smidgen.data.checks import find_leaks, normal_words
from smidgen.pairs import PreferencePair, random_key


def hold_out(
    pairs: Iterable[PreferencePair], share: float, *, at_most: int
) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """Split by a hash of the prompt, so that pairs on one prompt stay together: (kept, held out)."""
    kept: list[PreferencePair] = []
    held: list[PreferencePair] = []
    for pair in pairs:
        lot = random_key(" ".join(normal_words(pair.prompt_text)), 0) / 2**64
        (held if lot < share and len(held) < at_most else kept).append(pair)
    return kept, held


def unseen(candidates: Sequence[PreferencePair], training: Sequence[PreferencePair]) -> list[PreferencePair]:
    """Held-out candidates whose prompt is no near-copy of a training prompt."""
    turns = [message.content for pair in training for message in pair.prompt if message.role == "user"]
    leaked = {leak.idx for leak in find_leaks(candidates, turns)}
    return [pair for pair in candidates if pair.idx not in leaked]
