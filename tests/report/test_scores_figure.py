"""The picture of scores is drawn for any scores there may be, and is the same bytes for the same ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from smidgen.report.scores_figure import scores_png
from smidgen.synthesis.scoring import histogram


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [([1.0, 1.0, 0.0], [0.0, 1.0, 0.0]), ([3.0], [3.0]), ([i / 7 for i in range(90)], [i / 9 - 5 for i in range(90)])],
)
def test_any_scores_are_drawn_the_same_each_time(tmp_path: Path, chosen: list[float], rejected: list[float]) -> None:
    differences = histogram([c - r for c, r in zip(chosen, rejected, strict=True)])
    paths = [scores_png(histogram(chosen, rejected), differences, tmp_path / f"{i}.png") for i in (0, 1)]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].read_bytes().startswith(b"\x89PNG")
