"""The feature store: killed anywhere and called again it ends as if never killed; nothing is measured that need not."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from smidgen.errors import SmidgenError, UsageError
from smidgen.runs import CannotWrite
from smidgen.selection.feature_store import ColumnGroup, FeatureStore, MeasureBlock
from smidgen.selection.features import Features, read_features, write_features

N = 23
VALUES = np.random.default_rng(0).normal(size=(N, 3)).astype(np.float32)


class Killed(Exception):
    pass


class Meter:
    """Groups that count what they measure; the second is made from the first, the third costs too much."""

    def __init__(self, *, setting: int = 1, dies_at: int = -1) -> None:
        self.setting, self.dies_at = setting, dies_at
        self.prepared: list[str] = []
        self.measured: list[tuple[str, int, int]] = []

    def groups(self) -> list[ColumnGroup]:
        def group(name: str, *columns: str, on_demand: bool = False) -> ColumnGroup:
            def prepare(known: Mapping[str, np.ndarray]) -> MeasureBlock:
                self.prepared.append(name)
                mean = np.asarray(known["_raw"]).mean(axis=0) if name == "centred" else 0

                def measure(rows: slice) -> dict[str, np.ndarray]:
                    if len(self.measured) == self.dies_at:
                        raise Killed
                    self.measured.append((name, rows.start, rows.stop))
                    found = {"_raw": VALUES[rows] * self.setting, "size": np.abs(VALUES[rows, 0]).astype(np.float64)}
                    found |= {"vector": found["_raw"] - mean, "gradient": found["_raw"].astype(np.float16)}
                    return {column: found[column] for column in columns}

                return measure

            return ColumnGroup(
                name=name, columns=columns, decides=lambda: self.setting, prepare=prepare, on_demand=on_demand
            )

        return [group("raw", "_raw", "size"), group("centred", "vector"), group("dear", "gradient", on_demand=True)]

    def store(self, folder: Path | None, *, block: int = 5, pairs: str = "p") -> FeatureStore:
        return FeatureStore(folder, self.groups(), n_rows=N, pairs=pairs, block=block)

    def features(self, folder: Path | None, *, block: int = 5, pairs: str = "p") -> Features:
        return Features(np.arange(N) + 100, self.store(folder, block=block, pairs=pairs).columns)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_columns_are_measured_when_asked_for_and_not_before(tmp_path: Path) -> None:
    meter = Meter()
    features = meter.features(tmp_path)
    assert set(features.columns) == {"size", "vector", "gradient"}
    assert "gradient" in features.columns
    some = features.take(np.array([4, 2]))
    assert not meter.measured
    np.testing.assert_array_equal(features.column("size"), np.abs(VALUES[:, 0]).astype(np.float64))
    assert meter.prepared == ["raw"]
    assert isinstance(features.column("vector"), np.memmap)
    np.testing.assert_allclose(some.column("vector"), (VALUES - VALUES.mean(0))[[4, 2]], rtol=1e-5)
    assert meter.prepared == ["raw", "centred"]
    with pytest.raises(ValueError, match="read-only"):
        features.column("vector")[0] = 0


def test_the_same_inputs_are_measured_once_and_other_inputs_anew(tmp_path: Path) -> None:
    first = Meter().features(tmp_path).column("vector").copy()
    again, other, other_pairs, other_block = Meter(), Meter(setting=2), Meter(), Meter()
    np.testing.assert_array_equal(again.features(tmp_path).column("vector"), first)
    assert not again.measured
    assert not again.prepared
    np.testing.assert_allclose(other.features(tmp_path).column("vector"), 2 * first, rtol=1e-5)
    other_pairs.features(tmp_path, pairs="q").column("size")
    other_block.features(tmp_path, block=7).column("size")
    assert other.measured
    assert other_pairs.measured
    assert other_block.measured


@pytest.mark.parametrize("dies_at", range(10))
def test_stopped_in_any_block_and_called_again_equals_never_stopped(dies_at: int, tmp_path: Path) -> None:
    whole, broken, resumed = Meter(), Meter(dies_at=dies_at), Meter()
    whole.features(tmp_path / "whole").column("vector")
    with pytest.raises(Killed):
        broken.features(tmp_path / "killed").column("vector")
    resumed.features(tmp_path / "killed").column("vector")
    assert files(tmp_path / "killed") == files(tmp_path / "whole")
    assert broken.measured + resumed.measured == whole.measured


_SCRIPT = """
import sys, time, numpy as np
from pathlib import Path
from smidgen.selection.feature_store import ColumnGroup, FeatureStore
values = np.random.default_rng(0).normal(size=(1200, 64))
def prepare(columns):
    def measure(rows):
        time.sleep(0.003)
        return {"x": values[rows]}
    return measure
group = ColumnGroup(name="g", columns=("x",), decides=lambda: 0, prepare=prepare)
FeatureStore(Path(sys.argv[1]), [group], n_rows=1200, pairs="p", block=4).columns["x"]
"""


def test_sigkill_at_any_moment_and_called_again_equals_never_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _SCRIPT]
    subprocess.run([*command, str(tmp_path / "whole")], check=True)
    out = tmp_path / "killed"
    for n_seen in (1, 20, 60):
        process = subprocess.Popen([*command, str(out)])
        while process.poll() is None and _rows(out) < 4 * n_seen:
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert _rows(out) < 1200
    subprocess.run([*command, str(out)], check=True)
    left = {name: data for name, data in files(out).items() if not name.endswith(".part")}
    assert left == files(tmp_path / "whole")


def _rows(out: Path) -> int:
    markers = list(out.glob("g-*/filled.json"))
    return int(markers[0].read_text().split('"rows": ')[1].split(",")[0]) if markers else 0


def test_a_column_cut_short_is_told(tmp_path: Path) -> None:
    Meter().features(tmp_path).column("size")
    (path,) = tmp_path.glob("raw-*/size.npy")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SmidgenError, match=r"damaged.*size\.npy.*Delete"):
        Meter().features(tmp_path).column("size")


def test_no_room_for_a_column_is_told_before_its_first_block_is_written(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (VALUES.nbytes, limits[1]))
    try:
        with pytest.raises(CannotWrite, match=r"expected room to write \S+_raw.npy, got: File too large.*Make room"):
            Meter().features(tmp_path).column("size")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert Meter().features(tmp_path).column("size").shape == (N,)


def test_a_column_belongs_to_one_group(tmp_path: Path) -> None:
    groups = Meter().groups()
    with pytest.raises(ValueError, match="one group"):
        FeatureStore(tmp_path, [*groups, groups[0]], n_rows=N, pairs="p")


def test_unknown_columns_are_told_and_hidden_ones_stay_hidden(tmp_path: Path) -> None:
    features = Meter().features(tmp_path)
    with pytest.raises(UsageError, match="no feature '_raw'"):
        features.column("_raw")
    with pytest.raises(UsageError, match="--train-aligned"):
        features.column("aligned_chosen_logps")


def test_the_file_holds_what_was_measured_in_groups_of_rows(tmp_path: Path) -> None:
    meter = Meter()
    features = meter.features(None)
    write_features(features, tmp_path / "features.parquet", group_rows=4)
    assert "dear" not in meter.prepared
    features.column("gradient")
    write_features(features, tmp_path / "again.parquet")
    for name in ("features", "again"):
        found = read_features(tmp_path / f"{name}.parquet")
        assert found.columns.keys() == {"size", "vector"}
        np.testing.assert_array_equal(found.idx, features.idx)
        for column in found.columns:
            np.testing.assert_array_equal(found.column(column), features.column(column))


def test_a_store_without_a_folder_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    features = Meter().features(None)
    assert len(features.column("size")) == N
    assert list(tmp_path.iterdir())
    del features
    assert not list(tmp_path.iterdir())
