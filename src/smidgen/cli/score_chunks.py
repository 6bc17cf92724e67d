"""Pairs scored a chunk at a time: after each, the progress moves, and an interrupted run goes on from there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from smidgen.cli.progress import counted_progress
from smidgen.pairs import PreferencePair
from smidgen.runs import read_json, write_json
from smidgen.synthesis.scoring import PairScores, Score

CHUNK_PAIRS = 256


def in_chunks(
    score: Callable[[Sequence[PreferencePair]], Sequence[PairScores]],
    pairs: Sequence[PreferencePair],
    kept: Path | None = None,
) -> list[PairScores]:
    """Scores of all pairs, in their order.

    Args:
        score: Scores some pairs, each by itself.
        pairs: The same ones whenever `kept` is the same.
        kept: A folder of the scores of finished chunks, which are not computed again.
    """
    found: list[PairScores] = []
    with counted_progress("scoring", len(pairs)) as show:
        for start in range(0, len(pairs), CHUNK_PAIRS):
            file = kept / f"{start}.json" if kept else None
            if file is not None and file.exists():
                found += [(Score(*chosen), Score(*rejected)) for chosen, rejected in read_json(file)]
            else:
                scores = score(pairs[start : start + CHUNK_PAIRS])
                if file is not None:
                    write_json(file, [[[one.value, one.problem] for one in pair] for pair in scores])
                found += scores
            show(len(found))
    return found
