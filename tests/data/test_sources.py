import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smidgen.data.prepare import prepare_pairs
from smidgen.data.sources import HubName, _hub_name, _hub_records, check_sources, load_rows
from smidgen.errors import InvalidData, UsageError


def places(loaded):
    return [(r.source, r.line, r.row, r.idx) for r in loaded.rows]


def test_idx_is_the_position_with_bad_rows_counted(write_jsonl, row):
    path = write_jsonl(row, b"broken\n", row, b"\n", row)
    loaded = load_rows(path)
    assert places(loaded) == [("pairs.jsonl", 1, 0, 0), ("pairs.jsonl", 3, 2, 2), ("pairs.jsonl", 5, 3, 3)]
    assert [(q.line, q.idx, q.reason) for q in loaded.quarantine] == [(2, 1, "malformed_json")]
    assert loaded.n_rows == 4


def test_sources_are_concatenated_in_the_order_given(write_jsonl, row):
    a, b = write_jsonl(row, row, name="a.jsonl"), write_jsonl(b"{\n", row, name="b.jsonl")
    assert places(load_rows([b, a])) == [("b.jsonl", 2, 1, 1), ("a.jsonl", 1, 0, 2), ("a.jsonl", 2, 1, 3)]


def test_files_of_one_name_go_by_their_paths(write_jsonl, row):
    a, b = write_jsonl(row, name="x/pairs.jsonl"), write_jsonl(row, name="y/pairs.jsonl")
    assert [r.source for r in load_rows([a, b]).rows] == [str(a), str(b)]


def test_a_folder_is_its_data_files_sorted(write_jsonl, row, tmp_path):
    for name in ("b.jsonl", "a/z.jsonl", "LICENSE", "notes.md", ".hidden.jsonl", ".cache/c.jsonl"):
        write_jsonl(row, name=f"data/{name}")
    (tmp_path / "data/c.jsonl.gz").write_bytes(gzip.compress(json.dumps(row).encode()))
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "data/d.parquet")
    loaded = load_rows(tmp_path / "data")
    assert [(r.source, r.idx) for r in loaded.rows] == [
        ("a/z.jsonl", 0),
        ("b.jsonl", 1),
        ("c.jsonl.gz", 2),
        ("d.parquet", 3),
    ]


def test_a_single_sources_own_idx_is_honoured(write_jsonl, row):
    path = write_jsonl(row | {"idx": 40}, row | {"idx": 7}, row, row | {"idx": -1}, row | {"idx": "x"}, b"7\n", b"{\n")
    loaded = load_rows(path)
    assert [r.idx for r in loaded.rows] == [40, 7]
    assert [(q.line, q.idx, q.reason) for q in loaded.quarantine] == [
        (7, None, "malformed_json"),
        (3, None, "bad_idx"),
        (4, None, "bad_idx"),
        (5, None, "bad_idx"),
        (6, None, "not_an_object"),
    ]


def test_of_several_sources_the_position_wins(write_jsonl, row):
    a, b = write_jsonl(row | {"idx": 40}, name="a.jsonl"), write_jsonl(row | {"prompt": "B", "idx": 40}, name="b.jsonl")
    pairs = prepare_pairs([a, b]).pairs
    assert [(p.idx, p.meta) for p in pairs] == [(0, {"source_idx": 40}), (1, {"source_idx": 40})]


def test_columns_that_pairs_cannot_carry_are_named(write_jsonl, row):
    path = write_jsonl(row | {"tags": [1], "kind": "x"}, row | {"scores": {"a": 1}})
    assert load_rows(path).dropped_columns == ("scores", "tags")


@pytest.mark.parametrize("source", ["nowhere.jsonl", "some/where/pairs.jsonl", "imdb", "./nowhere", "owner/name.csv"])
def test_a_source_that_is_not_there(source):
    with pytest.raises(UsageError, match=r"expected a file, a folder, or a hub dataset .* got .* Check the path"):
        load_rows(source)


def test_no_sources_and_an_empty_folder(tmp_path):
    with pytest.raises(UsageError, match="at least one source"):
        load_rows([])
    (tmp_path / "README.md").write_text("x")
    with pytest.raises(InvalidData, match=r"expected data files ending in \.jsonl, .*found none; give the folder"):
        load_rows(tmp_path)


@pytest.mark.parametrize(
    ("source", "hub"),
    [
        ("Anthropic/hh-rlhf", HubName("Anthropic/hh-rlhf", "train")),
        ("Anthropic/hh-rlhf#harmless-base", HubName("Anthropic/hh-rlhf", "train", data_dir="harmless-base")),
        ("a/b#name=en,split=test[:10],revision=v1", HubName("a/b", "test[:10]", name="en", revision="v1")),
    ],
)
def test_hub_names(source, hub):
    assert _hub_name(source, "train") == hub


@pytest.mark.parametrize("source", ["a/b/c", "../b", "a/b.jsonl", Path("a/b")])
def test_what_cannot_be_on_a_hub_is_asked_of_none(source):
    with pytest.raises(UsageError, match="hub dataset written owner/name, got"):
        check_sources(source)


def test_a_path_into_a_folder_that_is_here_is_no_hub_name_unless_it_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    check_sources("run/nothere")
    check_sources("runs/nothere#split=train")
    for read in (check_sources, load_rows):
        with pytest.raises(UsageError, match="nothere in the folder runs, which is here, found none"):
            read("runs/nothere")
    (tmp_path / "runs" / "nothere").mkdir()
    check_sources("runs/nothere")


def test_an_unknown_part_of_a_hub_name_is_refused():
    with pytest.raises(UsageError, match=r"expected name, data_dir, revision or split .* got 'spilt=test'"):
        _hub_name("a/b#spilt=test", "train")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The real loader, its cache in this test's folder, and never online."""
    import datasets

    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.mark.filterwarnings("ignore")
def test_the_hub_loader_reads_a_dataset_like_hh_rlhf(hub, write_jsonl, tmp_path):
    turns = [
        {"chosen": f"\n\nHuman: {i}\n\nAssistant: a", "rejected": f"\n\nHuman: {i}\n\nAssistant: b"} for i in range(4)
    ]
    for part in ("harmless-base", "helpful-base"):
        write_jsonl(*turns[:3], name=f"hh/{part}/train.jsonl")
        write_jsonl(*turns, name=f"hh/{part}/test.jsonl")
    records = list(_hub_records(HubName(str(tmp_path / "hh"), "test", data_dir="harmless-base")))
    assert records == list(enumerate(turns, start=1))
    assert len(list(_hub_records(HubName(str(tmp_path / "hh"), "train[:2]", data_dir="helpful-base")))) == 2


@pytest.mark.filterwarnings("ignore")
def test_a_hub_that_cannot_be_reached_says_so(hub):
    with pytest.raises(
        InvalidData, match=r"Anthropic/hh-rlhf: expected a file, .* dataset .* got \w+: .* or download it"
    ):
        load_rows("Anthropic/hh-rlhf#harmless-base")
