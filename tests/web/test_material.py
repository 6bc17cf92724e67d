"""Texts are shown only where they are those that the run saw; reasons only where ranking again leads to them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.web.conftest import some

from smidgen.data.tables import write_subset
from smidgen.errors import InvalidData, UsageError
from smidgen.pairs import PairTable, plain_pair
from smidgen.runs import file_hash, write_json, write_text
from smidgen.selection.features import Features, read_features, write_features
from smidgen.selection.selectors import selector as selectors
from smidgen.selection.selectors.base import top
from smidgen.selection.why import subset_columns, why_dropped, why_kept
from smidgen.web.holding import open_holding
from smidgen.web.material import read_material
from smidgen.web.standing import KEPT, LEFT_OUT, UNRANKED, standing
from smidgen.web.wanted import Wanted


def test_a_study_whose_file_is_there_shows_every_text(study):
    material = read_material(study)
    catalogue = some(open_holding(study).pairs).catalogue
    # Of pairs that are the same twice, the file's second one is left out.
    assert material.notes == [] and len(material.pairs) > 100
    assert all(some(catalogue.pair(idx)).chosen == pair.chosen_text for idx, pair in material.pairs.items())


def test_a_file_that_was_changed_is_not_shown_as_what_the_run_saw(study):
    source = study.parent / "pairs.jsonl"
    source.write_text(source.read_text(encoding="utf-8").replace("bicycle", "tricycle", 1), encoding="utf-8")
    material = read_material(study)
    assert "no longer holds the pairs" in material.notes[0] and not material.pairs
    pairs = some(open_holding(study).pairs)
    assert pairs.notes and pairs.catalogue.n == 2000
    kept = material.kept[0]
    assert some(pairs.catalogue.pair(kept.idx)).chosen == kept.chosen
    other = next(i for i in some(material.features).idx.tolist() if i not in {p.idx for p in material.kept})
    assert some(pairs.catalogue.pair(other)).prompt is None or other in {p.idx for p in material.runners_up}


def test_a_file_that_is_gone_is_named_and_never_looked_for_elsewhere(study):
    (study.parent / "pairs.jsonl").unlink()
    material = read_material(study)
    assert "Not on this disk any more: pairs.jsonl" in material.notes[0] and not material.pairs
    settings = (study / "settings.yaml").read_text(encoding="utf-8")
    write_text(study / "settings.yaml", settings.replace("pairs.jsonl", "somebody/some-dataset"))
    assert "somebody/some-dataset" in read_material(study).notes[0]


def build_selection(folder: Path) -> Path:
    """What `select` leaves, made by its own functions: twelve pairs ranked, three kept."""
    pairs = PairTable(
        plain_pair(i, f"prompt {i}", "I cannot help" if i % 3 else "Sure", "Sure, begin" if i % 3 else "No", source="s")
        for i in range(12)
    )
    source = folder.parent / "data.jsonl"
    rows = [
        {"idx": p.idx, "prompt": p.prompt_text, "chosen": p.chosen_text, "rejected": p.rejected_text} for p in pairs
    ]
    write_text(source, "".join(json.dumps(row) + "\n" for row in [*rows, {**rows[0], "idx": 12, "prompt": "long"}]))
    refuses = [bool(i % 3) for i in range(12)]
    features = Features(
        np.arange(12),
        {
            "chosen_refuses": np.array(refuses),
            "rejected_refuses": ~np.array(refuses),
            **{f"{side}_refuses_{name}": np.array(refuses) == (side == "chosen")
               for side in ("chosen", "rejected") for name in ("common", "broad", "exercise")},
            "prompt_harmfulness": np.linspace(0.02, 0.98, 12),
            "text_vector": np.eye(12, 384, dtype=np.float32) + np.float32(0.1),
        },
    )  # fmt: skip
    selection = selectors.bind("contrast")(features, 3)
    subset = pairs.take(top(selection, 3))
    columns = subset_columns(
        subset, pairs, features, kept=why_kept(selection, features), dropped=why_dropped(selection, features, 3),
        selector="contrast",
    )  # fmt: skip
    write_subset(folder, subset, columns)
    write_features(features, folder / "features.parquet")
    write_json(folder / "run.json", {"command": "select", "inputs": {"data.jsonl": file_hash(source)}})
    write_text(folder / "settings.yaml", "pairs: [data.jsonl]\nseed: 3\n")
    row = {"source": "data.jsonl", "line": 13, "idx": 12, "reason": "over_long", "detail": "900 tokens"}
    write_text(folder / "quarantine.jsonl", json.dumps(row) + "\n")
    return folder


@pytest.fixture
def selection(tmp_path: Path) -> Path:
    return build_selection(tmp_path / "selected")


def test_every_pair_of_a_selection_has_its_status_and_the_very_reason_of_the_selector(selection):
    material = read_material(selection)
    found = some(standing(material))
    assert material.notes == [] and found.notes == ()
    again = selectors.bind("contrast")(some(material.features), 3)
    kept = [pair.idx for pair in material.kept]
    dropped = why_dropped(again, some(material.features), 3)
    for idx in range(12):
        assert found.status[idx] == (KEPT if idx in kept else LEFT_OUT)
        assert found.reason[idx] == (why_kept(again, some(material.features))(idx) if idx in kept else dropped(idx))
    assert (found.status[12], found.reason[12]) == (UNRANKED, "over long: 900 tokens")


def test_reasons_that_ranking_again_does_not_lead_to_are_not_made_up(selection):
    table = selection / "subset.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("refuses", "declines"), encoding="utf-8")
    found = some(standing(read_material(selection)))
    assert "does not lead to the reasons" in found.notes[0]
    twins = {int(pair.extra["twin_idx"]) for pair in read_material(selection).kept}
    assert {i for i in range(12) if found.status[i] == LEFT_OUT and found.reason.get(i)} <= twins


def test_twins_are_those_of_the_subsets_table(selection):
    material = read_material(selection)
    pairs = some(open_holding(selection).pairs)
    for kept in material.kept:
        first, *_ = pairs.likeness.twins(some(pairs.catalogue.pair(kept.idx)))
        assert (first.among, first.pair.idx) == (LEFT_OUT, int(kept.extra["twin_idx"]))
        assert round(first.likeness, 4) == float(kept.extra["twin_similarity"])


def test_a_file_of_pairs_can_be_browsed_and_says_what_is_left_out_of_it(tmp_path):
    rows = [{"prompt": f"how to grow basil {i}", "chosen": "water it", "rejected": "don't", "domain": "ab"[i % 2],
             "margin": i / 2} for i in range(4)]  # fmt: skip
    write_text(tmp_path / "p.jsonl", "".join(json.dumps(row) + "\n" for row in rows) + "{broken\n")
    pairs = some(open_holding(tmp_path / "p.jsonl").pairs)
    assert pairs.catalogue.n == 4 and "1 rows of the file are left out: 1 malformed json" in pairs.notes[0]
    assert pairs.catalogue.labels == {"domain": {"a": 2, "b": 2}}
    assert [row.idx for row in pairs.catalogue.find(Wanted(sort="margin", down=True)).rows] == [3, 2, 1, 0]
    (twin,) = pairs.likeness.twins(some(pairs.catalogue.pair(0)))
    assert twin.pair.idx in (1, 2, 3) and 0 < twin.likeness < 1


@pytest.mark.parametrize("make", [lambda path: path, lambda path: path.mkdir() or path])
def test_nothing_to_show_is_said(tmp_path, make):
    with pytest.raises(UsageError, match="Give another"):
        open_holding(make(tmp_path / "empty"))


@pytest.mark.parametrize("name", ["features.parquet", "subset.csv", "inputs.json", "quarantine.jsonl", "study.sqlite"])
def test_an_artefact_that_is_broken_is_named(study, name):
    (study / name).write_bytes(b"\x00broken\n{")
    with pytest.raises(InvalidData, match=name):
        open_holding(study)


def test_nothing_of_a_run_is_changed_by_looking_at_it(study):
    before = {path: file_hash(path) for path in study.parent.rglob("*") if path.is_file()}
    holding = open_holding(study)
    assert holding.curve is not None and holding.curve.written(holding.curve.points[0], holding.curve.points[0].key)
    assert before == {path: file_hash(path) for path in study.parent.rglob("*") if path.is_file()}


def test_a_study_that_has_not_ended_has_pairs_and_no_curve(study):
    (study / "certificate.json").unlink()
    shutil.rmtree(study / "model", ignore_errors=True)
    holding = open_holding(study)
    assert holding.curve is None and some(holding.pairs).catalogue.n == 2000
    assert len(read_features(study / "features.parquet")) == 2000
