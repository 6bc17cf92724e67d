"""What stages leave behind, without what tells of time: equal runs leave equal things."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from safetensors.torch import load_file

_MEASURED = {"pairs_per_second", "tokens_per_second", "peak_memory_bytes"}
# Of stages that are not named below.
_EQUAL = {".jsonl", ".txt", ".html", ".png", ".csv"}
_FILES = {
    "prepare": ("pairs.jsonl", "quarantine.jsonl", "summary.json", "leaks.jsonl"),
    "select": ("subset.csv", "subset_spreadsheet.csv", "features.parquet", "quarantine.jsonl"),
    "train": ("model/model.safetensors", "model/README.md", "quarantine.jsonl"),
    "minimize": (
        *("subset.csv", "subset_spreadsheet.csv", "runners_up.csv", "certificate.json", "nominees.json"),
        *("inputs.json", "features.parquet", "model/model.safetensors"),
    ),
    "critique": ("../run.jsonl", "quarantine.jsonl"),
}


def left_by(stage: str, out: Path) -> dict[str, Any]:
    """The results of a stage that wrote to `out`, and the names of everything in its folder."""
    folder = out / ("run.critique" if stage == "critique" else "run")
    found: dict[str, Any] = {name: (folder / name).read_bytes() for name in _FILES.get(stage, ())}
    if stage not in _FILES:
        found = {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.suffix in _EQUAL}
    found["names"] = {str(path.relative_to(out)) for path in out.rglob("*")}
    if stage == "train":
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        found["metrics"] = [{name: value for name, value in row.items() if name not in _MEASURED} for row in rows]
    if stage == "minimize":
        with sqlite3.connect(folder / "study.sqlite") as database:
            found["trials"] = sorted(database.execute("SELECT trial_id, idxs, correct FROM trials").fetchall())
            found["scores"] = sorted(database.execute("SELECT * FROM scores").fetchall(), key=str)
    if stage == "critique":
        found["summary"] = {**json.loads((folder / "summary.json").read_text()), "spending": None}
    for name in ("features.parquet",):
        if name in found:
            found[name] = pq.read_table(folder / name).to_pydict()
    # SQLite's own, there as long as a killed process had it open.
    found["names"] = {name for name in found["names"] if not name.endswith(("-wal", "-shm"))}
    return found


def damaged(folder: Path) -> list[str]:
    """Files in a folder that are not whole, and what writers left of files that never were."""
    found = []
    for path in folder.rglob("*"):
        try:
            if path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".safetensors":
                load_file(path)
            elif path.suffix == ".parquet":
                pq.read_table(path)
            elif path.suffix == ".sqlite":
                assert is_sound(path), "damaged"
            assert path.suffix not in (".part", ".lock"), "left over"
        except Exception as error:
            found.append(f"{path}: {error}")
    return found


def is_sound(path: Path) -> bool:
    """Whether a database is whole; looked at in a copy, since reading takes room too."""
    with tempfile.TemporaryDirectory() as folder:
        for part in path.parent.glob(f"{path.name}*"):
            shutil.copy(part, folder)
        with closing(sqlite3.connect(Path(folder, path.name))) as database:
            return database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
