"""Files made to hurt: each is read or refused, within seconds and within little memory."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.hostile.make_corpus import CORPUS, entries
from tests.hostile.readers import PAIR

from smidgen.data import packed
from smidgen.data.prepare import prepare_pairs
from smidgen.data.readers import read_records
from smidgen.errors import InvalidData

SECONDS = 10.0  # on a busy machine; all of them take less than one


@pytest.mark.slow
def test_every_file_is_taken_or_refused_in_time_and_in_little_memory(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.replay", str(tmp_path)],
        cwd=root, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    said = {name: (what, seconds) for name, what, seconds in map(json.loads, done.stdout.splitlines())}
    files = {f"{path.parent.name}/{path.name}" for path in CORPUS.rglob("*") if path.is_file()}
    assert done.returncode == 0, f"after {list(said)[-1:]}: {done.stderr[-2000:]}"
    assert said.keys() == files and len(files) > 100
    assert {name: what for name, (what, _) in said.items() if what not in ("taken", "refused")} == {}
    assert {name: seconds for name, (_, seconds) in said.items() if seconds > SECONDS} == {}


def test_the_corpus_is_what_its_script_makes() -> None:
    for reader, what, content in entries():
        assert (CORPUS / reader / what).read_bytes() == content, (
            f"{reader}/{what}: run python -m tests.hostile.make_corpus"
        )


@pytest.mark.parametrize("name", ["pairs.jsonl.gz", "pairs.json.gz", "pairs.csv.gz"])
@pytest.mark.parametrize("line", [True, False])
def test_a_packed_bomb_goes_off_nowhere(name: str, line: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "LEAST_LIMIT_BYTES", 500_000)
    opening = {"pairs.csv.gz": b"prompt,chosen,rejected\n", "pairs.json.gz": b"["}.get(name, b"")
    filling = b'{"a":"b"},\n' if line else b" "
    path = tmp_path / name
    path.write_bytes(gzip.compress(opening + filling * (4_000_000 // len(filling)), 9))
    with pytest.raises(InvalidData, match="unpacks to more than"):
        for _ in read_records(path):
            pass


def test_a_table_of_one_text_again_and_again_goes_off_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kilobyte of Parquet may name the same text as often as it likes."""
    path = tmp_path / "pairs.parquet"
    monkeypatch.setattr(packed, "LEAST_LIMIT_BYTES", 5_000_000)
    n = 20_000
    columns = {name: pa.DictionaryArray.from_arrays(pa.array([0] * n, pa.int32()), ["x" * 2000]) for name in PAIR}
    pq.write_table(pa.table(columns), path, compression="zstd")
    assert path.stat().st_size < 100_000
    with pytest.raises(InvalidData, match="unpacks to more than"):
        prepare_pairs(str(path), max_bad_fraction=1.0)


@pytest.mark.parametrize("nested", [False, True])
def test_one_system_prompt_in_every_row_is_no_bomb(
    nested: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is held once, whether it stands in a column or in every conversation."""
    n, system = 3000, "You are helpful. " * 60
    path = tmp_path / "pairs.parquet"
    turns = [[{"role": "system", "content": system}, {"role": "user", "content": f"How {i}?"}] for i in range(n)]
    prompts = {"prompt": turns} if nested else {"prompt": [f"How {i}?" for i in range(n)], "system": [system] * n}
    pq.write_table(pa.table({**prompts, "chosen": ["So."] * n, "rejected": ["No."] * n}), path)
    monkeypatch.setattr(packed, "LEAST_LIMIT_BYTES", n * len(system) // 2)
    monkeypatch.setattr(packed, "_MOST_RATIO", 1)
    rows = [record for _, record in read_records(path)]
    found = [row["prompt"][0]["content"] if nested else row["system"] for row in rows]
    assert len(rows) == n and set(found) == {system} and len(set(map(id, found))) == 1
    assert len(prepare_pairs(str(path)).pairs) == n


def test_texts_that_only_look_alike_count_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pairs.parquet"
    columns = {name: ["x" * 2000 + f"{name}{i}" for i in range(2000)] for name in PAIR}
    pq.write_table(pa.table(columns), path, compression="zstd")
    monkeypatch.setattr(packed, "LEAST_LIMIT_BYTES", 5_000_000)
    with pytest.raises(InvalidData, match="unpacks to more than"):
        prepare_pairs(str(path))


def test_what_is_packed_well_and_is_no_bomb_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl.gz"
    row = json.dumps(PAIR).encode() + b"\n"
    path.write_bytes(gzip.compress(row * 20_000))
    assert sum(1 for _ in read_records(path)) == 20_000
