"""A run's folder from outside: whatever its files hold, reports and pages read it or say what is wrong with it."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.hostile.mutations import HOSTILE_VALUES, contents
from tests.hostile.readers import obeys
from tests.report.conftest import build_run

from smidgen.cli.export import export
from smidgen.errors import InvalidData, SmidgenError, UsageError
from smidgen.evaluation.human import HumanVotes, read_human_verdicts
from smidgen.evaluation.matches import Match, write_matches
from smidgen.models.chat.replies import _FILE_KIND, ReplyStore  # pyright: ignore[reportPrivateUsage]
from smidgen.models.group_rewards import load_group_rewards
from smidgen.models.reference_store import ReferenceStore
from smidgen.report.artefacts import read_run
from smidgen.runs import open_run
from smidgen.selection.feature_store import _mapped  # pyright: ignore[reportPrivateUsage]
from smidgen.study.records import StudyRecords
from smidgen.web.material import read_material

FILES = (
    *("certificate.json", "run.json", "settings.yaml", "environment.json", "inputs.json"),
    *("features.parquet", "subset.csv", "study.sqlite"),
)
fuzzed = settings(max_examples=15, database=None)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("good") / "run", n_kept=5)


def look(folder: Path) -> None:
    """As `report` and `view` do."""
    read_run(folder)
    read_material(folder)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", FILES)
def test_any_bytes_in_a_runs_file_are_data_or_an_error_in_words(name: str, good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(good, folder)
    content = (good / name).read_bytes()

    @fuzzed
    @given(contents((content[:100_000],)))
    def law(spoilt: bytes) -> None:
        (folder / name).write_bytes(spoilt)
        obeys(look, folder)
        if name == "run.json":
            obeys(lambda path: open_run(path, {"command": "minimize"}), folder)

    law()


_CELLS = st.sampled_from([v for v in HOSTILE_VALUES if isinstance(v, str) and "\ud800" not in v] + [
    None, -1, 2**62, 1.5, 1e308, b"\xff", "[1e999]", "[]", '{"score": []}', '{"common": {}}', "[" * 5000,
    '{"score": 1e999}',
])  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_any_value_in_a_studys_store_is_data_or_an_error_in_words(good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(good, folder)
    with closing(sqlite3.connect(folder / "study.sqlite")) as database:
        columns = [
            (table, name, kind)
            for table in ("trials", "scores")
            for _, name, kind, *_ in database.execute(f"PRAGMA table_info({table})")
        ]

    @fuzzed
    @given(st.sampled_from(columns), _CELLS, st.sampled_from(("", "WHERE rowid % 7 = 1")))
    def law(column: tuple[str, str, str], value: Any, which: str) -> None:
        shutil.copy(good / "study.sqlite", folder / "study.sqlite")
        with closing(sqlite3.connect(folder / "study.sqlite")) as database, database:
            database.execute(f"UPDATE OR REPLACE {column[0]} SET {column[1]} = ? {which}", (value,))
        obeys(look, folder)

    law()


# An endless table, one that grows to gigabytes, a column made anew for every row, and what happens at a vote.
_ENDLESS = "WITH RECURSIVE more(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM more) SELECT n"
_PROGRAMS = (
    f"CREATE VIEW {{table}} AS {_ENDLESS} AS trial_id, n AS matches, n AS key FROM more",
    f"CREATE VIEW other AS {_ENDLESS} FROM more",
    "CREATE TABLE {table} (trial_id, matches, key, big AS (zeroblob(900000000)))",
    "CREATE TABLE {table} (trial_id, matches, key); CREATE TRIGGER t AFTER INSERT ON {table} BEGIN "
    "INSERT INTO {table} SELECT zeroblob(900000000), 1, 1 FROM {table}; END",
    "CREATE VIRTUAL TABLE {table} USING fts5(trial_id, matches, key)",
)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("program", _PROGRAMS)
def test_a_store_that_computes_is_refused_before_it_does(program: str, good: Path, tmp_path: Path) -> None:
    """Reading such a file would take for ever, or any memory."""
    shutil.copytree(good, tmp_path / "run")
    write_matches(tmp_path / "run" / "matches.jsonl", MATCHES)
    readers = {
        ("study.sqlite", "trials"): (look, lambda folder: StudyRecords(folder / "study.sqlite").n_trials()),
        ("verdicts.sqlite", "comparison"): (HumanVotes, read_human_verdicts),
        ("reference.sqlite", "logps"): (lambda folder: ReferenceStore(folder / "reference.sqlite"),),
        ("replies.sqlite", "replies"): (lambda folder: ReplyStore(folder / "replies.sqlite"),),
    }
    for (name, table), readings in readers.items():
        path = tmp_path / "run" / name
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as database:
            database.execute(f"PRAGMA application_id={_FILE_KIND}")
            database.executescript(program.format(table=table))
        for read in readings:
            with pytest.raises(InvalidData, match=f"{name}: expected tables that hold what was written, got '"):
                read(tmp_path / "run")
        path.unlink()


MATCHES = [
    Match(number=n, letter="A", prompt="p", model_a="x", model_b="y", a="1", b="2") for n in (1, 2)
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_any_value_in_the_votes_is_a_verdict_or_an_error_in_words(tmp_path: Path) -> None:
    write_matches(tmp_path / "matches.jsonl", MATCHES)
    votes = HumanVotes(tmp_path)
    votes.cast("Ada", 0, "left")
    votes.cast("Ada", 1, "tie")
    kept = votes.path.read_bytes()

    @fuzzed
    @given(st.sampled_from(("rater", "number", "letter", "model_a", "outcome", "undone_at")), _CELLS)
    def cells(column: str, value: Any) -> None:
        for left in tmp_path.glob("verdicts.sqlite*"):
            left.unlink()
        votes.path.write_bytes(kept)
        with closing(sqlite3.connect(votes.path)) as database, database:
            try:
                database.execute(f"UPDATE OR IGNORE votes SET {column} = ?", (value,))
            except sqlite3.IntegrityError:
                return
        obeys(read_human_verdicts, tmp_path)
        obeys(lambda folder: HumanVotes(folder).progress("Ada"), tmp_path)

    @fuzzed
    @given(contents((kept,)))
    def content(spoilt: bytes) -> None:
        for left in tmp_path.glob("verdicts.sqlite*"):
            left.unlink()
        votes.path.write_bytes(spoilt)
        obeys(read_human_verdicts, tmp_path)
        obeys(lambda folder: HumanVotes(folder).progress("Ada"), tmp_path)

    cells()
    content()


def test_a_model_name_that_no_text_holds_has_no_votes(tmp_path: Path) -> None:
    match = Match(number=1, letter="A", prompt="\ud800", model_a="\udfff", model_b="y", a="", b="")
    write_matches(tmp_path / "matches.jsonl", [match])
    votes = HumanVotes(tmp_path)
    with pytest.raises(SmidgenError):
        votes.cast("Ada", 0, "left")


@pytest.mark.parametrize(
    "content",
    [b"", b"\x93NUMPY", b"PK\x03\x04" + b"\0" * 40, b"\x80\x04\x95", b"\x93NUMPY\x01\0\x08\0{[[[[[[\n"],
)
def test_a_feature_store_holds_arrays_and_nothing_else(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.arange(3))
    assert _mapped(path, "r", ["<i8", 3]).tolist() == [0, 1, 2]
    path.write_bytes(content)
    with pytest.raises(SmidgenError, match="damaged"):
        _mapped(path, "r", ["<i8", 3])


def test_a_pickled_array_is_not_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(SmidgenError, match="damaged"):
        _mapped(path, "r", ["|O", 1])


@pytest.mark.parametrize("folder", ["../outside", "/etc", "models/1", "models/../models/0", "models", None, 3])
def test_an_index_of_group_rewards_leads_nowhere_else(folder: Any, tmp_path: Path) -> None:
    from smidgen.runs import write_json

    write_json(tmp_path / "reward.json", {"template": "plain", "models": [{"folder": folder, "mean": 0, "sd": 1}]})
    for file in tmp_path.iterdir():
        (tmp_path / _index()).write_bytes(file.read_bytes())
    with pytest.raises(SmidgenError, match="comes next"):
        load_group_rewards(tmp_path)


def _index() -> str:
    from smidgen.models.group_rewards import INDEX

    return INDEX


def test_no_link_out_of_a_run_is_exported(good: Path, tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere.csv"
    shutil.copytree(good, folder)
    (folder / "subset.csv").rename(elsewhere)
    (folder / "subset.csv").symlink_to(elsewhere)
    with pytest.raises(UsageError, match=r"link subset\.csv that leads to"):
        export(str(folder), format="trl", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
