"""Figures are the same each time, take the page's colours, and treat every name as plain text."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from smidgen.report.artefacts import read_run
from smidgen.report.contents import distributions
from smidgen.report.contents_figure import distributions_print, distributions_svg
from smidgen.report.figures import frontier_png, frontier_print, frontier_svg
from smidgen.report.frontier import frontier
from smidgen.report.frontier_marks import comparators, selector_roles


@pytest.fixture
def run(make_run):
    return read_run(make_run())


def test_svg_is_well_formed_and_has_no_colour_of_its_own(run):
    svg = frontier_svg(frontier(run)) + distributions_svg(distributions(run.features, run.kept))
    assert len(ElementTree.fromstring(f"<page>{svg}</page>")) == 4
    colors = set(re.findall(r'(?:fill|stroke)="([^"]+)"', svg))
    assert all(color == "none" or re.fullmatch(r"var\(--[\w-]+\)", color) for color in colors), colors
    assert "var(--accent)" in colors


def test_figures_are_the_same_each_time(run, make_run, tmp_path):
    found = frontier(run)
    assert frontier_svg(found) == frontier_svg(found)
    folder = make_run("other")
    first, second = (frontier_png(folder, tmp_path / name).read_bytes() for name in ("a.png", "b.png"))
    assert first == second and first.startswith(b"\x89PNG")


def test_print_is_whole_svg_with_outlines_for_letters(run):
    found = frontier(run)
    names = ("a--><x>", "b\x00\x1b\ud800", "c" * 300)
    odd = [replace(point, series=name) for point, name in zip(found.search, names, strict=False)]
    ElementTree.fromstring(frontier_print(replace(found, search=tuple(odd))))
    for svg in (frontier_print(found), distributions_print(distributions(run.features, run.kept))):
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(svg).iter()}
        assert "path" in tags and not tags & {"text", "script", "image"}
    assert frontier_print(found) == frontier_print(found)


def test_png_is_drawn_at_twice_the_size(make_run, tmp_path):
    png = frontier_png(make_run(), tmp_path / "frontier.png").read_bytes()
    assert int.from_bytes(png[16:20], "big") == 2080


@pytest.mark.parametrize("name", ["$\\frac$", "a & <b>", "選択子", "🧨"])
def test_any_selector_name_can_be_drawn(run, name, tmp_path, make_run):
    import sqlite3
    from contextlib import closing

    folder = make_run("named")
    with closing(sqlite3.connect(folder / "study.sqlite")) as database, database:
        database.execute("UPDATE trials SET selector = ? WHERE selector = 'contrast'", (name,))
    found = frontier(read_run(folder))
    assert name in selector_roles(found)
    assert frontier_svg(found)
    frontier_png(folder, tmp_path / "frontier.png")


def test_a_refined_subset_keeps_its_selectors_colour(run):
    found = frontier(run)
    assert "contrast, refined" in found.series
    assert set(selector_roles(found)) == {"contrast", "random", "random_in_pool", "margin_band:band=low"}


def test_best_is_not_drawn_over_the_same_tested_size(run, make_run):
    assert "best" in comparators(frontier(run))
    assert "best" not in comparators(frontier(read_run(make_run("tested", best_size=125))))


@pytest.mark.parametrize("full_size", [70, 300, 5_000_000])
def test_axis_holds_for_any_full_size(make_run, full_size):
    run = read_run(make_run(f"size-{full_size}", full_size=full_size))
    assert f"{full_size:,}" in frontier_svg(frontier(run))
