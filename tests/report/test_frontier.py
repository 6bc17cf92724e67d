"""The frontier's points are the study's numbers, on the right prompts, and fit a terminal."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import numpy as np
import pytest

from smidgen.report.artefacts import read_run
from smidgen.report.frontier import frontier, frontier_text


def test_search_points_are_means_over_seeds_of_dev_trials(make_run):
    folder = make_run()
    found = frontier(read_run(folder))
    with closing(sqlite3.connect(folder / "study.sqlite")) as database:
        rows = database.execute(
            "SELECT selector, budget, json_extract(metrics, '$.score') FROM trials "
            "WHERE stage = 'search' AND json_extract(metrics, '$.score') IS NOT NULL"
        ).fetchall()
    for selector, budget in {(row[0], row[1]) for row in rows}:
        scores = [row[2] for row in rows if row[:2] == (selector, budget)]
        (point,) = [p for p in found.search if (p.series, p.budget) == (selector, budget)]
        assert sorted(point.seed_scores) == pytest.approx(sorted(scores))
        assert point.score.mean == pytest.approx(np.mean(scores))
        assert point.score.low < point.score.mean < point.score.high


def test_surrogate_only_trials_are_counted_and_not_drawn(make_run):
    found = frontier(read_run(make_run()))
    assert found.n_surrogate_only == 16
    assert len(found.search) == 16 + 1  # four selectors at four sizes, and a refined subset


def test_tested_sizes_stand_at_full_plus_difference(make_run):
    run = read_run(make_run())
    found = frontier(run)
    full = run.certificate.scores["full"].mean
    assert [t.budget for t in found.tested] == [250, 125, 62]
    for tested, step in zip(found.tested, run.certificate.steps, strict=True):
        assert tested.score.mean == pytest.approx(full + step.difference.mean)
        # The picture and the test agree: a size passes where its bound is inside the band.
        assert tested.passed == (tested.lower_bound > full - run.certificate.delta)


def test_arms_know_their_sizes(make_run):
    found = frontier(read_run(make_run()))
    sizes = {arm: size for arm, (size, _) in found.arms.items()}
    assert sizes["base"] == 0 and sizes["full"] == 2000 and sizes["full_clean"] == 1880
    assert sizes["subset"] == sizes["random"] == 62 and sizes["best"] == 500 and sizes["aligned"] is None


def test_best_that_was_tested_takes_its_trials_from_there(make_run):
    scores = {arm: {"mean": 0.4, "low": 0.3, "high": 0.5} for arm in ("base", "full", "subset")}
    run = read_run(make_run(scores=scores | {"best": scores["subset"]}, best_size=125))
    assert frontier(run).arms["best"][0] == 125


@pytest.mark.parametrize("outcome", ["pass", "fail", "blind"])
def test_text_fits_a_terminal_and_gives_the_verdict(make_run, outcome):
    text = frontier_text(make_run(outcome=outcome))
    assert max(len(line) for line in text.splitlines()) <= 80
    assert ("not shown to be enough" in text) == (outcome == "fail")
    assert "0.512" in text or outcome == "blind"


def test_text_cannot_steer_the_terminal(make_run):
    folder = make_run()
    with closing(sqlite3.connect(folder / "study.sqlite")) as database, database:
        database.execute("UPDATE trials SET selector = char(27) || '[31mred' WHERE selector = 'contrast'")
    text = frontier_text(folder)
    assert "\x1b" not in text and "?[31mred" in text
