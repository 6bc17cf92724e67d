"""Workers on a real Ray cluster on this machine: what each item costs when workers die, and who may come near."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from smidgen.data.prepare import prepare_pairs
from smidgen.data.tokens import EncodedPair
from smidgen.errors import SmidgenError, UsageError
from smidgen.models.load import LanguageModel, load_language_model, save_language_model
from smidgen.models.logprobs import BATCH_TOKENS, score_answers
from smidgen.models.reference_store import ReferenceStore
from smidgen.models.rows import Layout
from smidgen.pairs import PairTable
from smidgen.selection.measure import FeatureSource, column_groups
from smidgen.study.cluster import _environment, _probe
from smidgen.study.execute import open_executor
from smidgen.study.parcel import ShippedModel
from smidgen.study.scratch import _held
from smidgen.training.preference import reference_logps

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Doing:
    """A job that notes every item begun, and ends its process at some of them, so many times."""

    notes: Path
    deaths: Mapping[int, int] = field(default_factory=dict)
    refused: tuple[int, ...] = ()
    kind: str = "doing"

    def name(self, item: int) -> str:
        return f"item {item}"

    def open(self, node: Any) -> Callable[[int], int]:
        def do(item: int) -> int:
            with (self.notes / str(item)).open("a") as file:
                file.write(f"{os.getpid()}\n")
            if begun(self.notes)[item] <= self.deaths.get(item, 0):
                os.kill(os.getpid(), signal.SIGKILL)
            if item in self.refused:
                raise UsageError("expected another item")
            return item * item

        return do


@dataclass(frozen=True)
class Fetching:
    """A job that wants a model, and notes for each worker which folder of its machine's it found it in."""

    model: ShippedModel
    notes: Path
    kind: str = "fetching"

    def name(self, item: int) -> str:
        return f"item {item}"

    def open(self, node: Any) -> Callable[[int], str]:
        folder = node.model(self.model)
        (self.notes / str(os.getpid())).write_text(f"{folder} {folder.stat().st_ino}")
        patience = time.monotonic() + 120
        while len(list(self.notes.iterdir())) < 2 and time.monotonic() < patience:
            time.sleep(0.05)  # or one worker would have done everything before the other had started
        return lambda item: load_language_model(folder).fingerprint


@dataclass(frozen=True)
class Manned:
    """A fleet and what it has said."""

    fleet: Any
    said: list[str]


@pytest.fixture(scope="module")
def manned() -> Iterator[Manned]:
    import ray  # before the command does, as a script may: it must change nothing of what Ray makes of the environment

    said: list[str] = []
    assert not ray.is_initialized()
    with open_executor("ray", address=None, workers=2, threads=1, say=said.append) as placed:
        from ray import cloudpickle

        # Workers know the package, and not these tests.
        cloudpickle.register_pickle_by_value(sys.modules[__name__])
        assert isinstance(placed.elsewhere, partial)
        yield Manned(placed.elsewhere.args[0], said)


@pytest.fixture
def fleet(manned: Manned) -> Any:
    manned.said.clear()
    return manned.fleet


@pytest.fixture
def model(tiny: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fleet") / "model"
    save_language_model(tiny, folder, card="")
    return folder


def begun(notes: Path) -> Counter[int]:
    return Counter({int(path.name): len(path.read_text().splitlines()) for path in notes.iterdir()})


def test_an_item_whose_worker_was_killed_is_done_again_and_all_others_once(
    manned: Manned, fleet: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = dict(fleet.results(Doing(tmp_path, deaths={1: 2}), range(8)))
    assert found == {i: i * i for i in range(8)}
    assert begun(tmp_path) == {i: {1: 3}.get(i, 1) for i in range(8)}
    assert manned.said == ["a worker died at item 1; another one does it again."] * 2
    assert capfd.readouterr() == ("", "")  # what Ray has to say of it would stand in the way of --json


def test_what_kills_every_worker_ends_and_what_is_finished_is_kept(fleet: Any, tmp_path: Path) -> None:
    from smidgen.study.fleet import MOST_TRIES

    kept: dict[int, int] = {}
    with pytest.raises(SmidgenError, match=r"in 3 tries, but item 1 .* kept\..*run the same command again"):
        for i, result in fleet.results(Doing(tmp_path, deaths={1: 99}), range(4)):
            kept[i] = result
    assert {0, 2, 3} >= kept.keys() >= {0}
    assert begun(tmp_path)[1] == MOST_TRIES


def test_an_error_of_the_work_itself_is_raised_as_it_is(fleet: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^expected another item$"):
        list(fleet.results(Doing(tmp_path, refused=(0,)), range(2)))
    assert begun(tmp_path)[0] == 1
    # What was under way then is not taken for the next job's.
    assert dict(fleet.results(Doing(tmp_path), range(2))) == {0: 0, 1: 1}


def test_a_model_is_put_once_and_unpacked_once_by_each_machine(
    fleet: Any, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever jobs ask for it: a fleet's objects lie in memory, and a machine's copies on its disk."""
    import ray

    put: list[Any] = []

    def counted(value: Any, do: Callable[[Any], Any] = ray.put) -> Any:
        put.append(value)
        return do(value)

    monkeypatch.setattr(ray, "put", counted)
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        job = Fetching(fleet.ship(lm := load_language_model(model)), tmp_path / name)
        assert dict(fleet.results(job, range(6))) == dict.fromkeys(range(6), lm.fingerprint)
    assert [type(value) for value in put] == [dict, Fetching, Fetching]
    places = {note.read_text() for note in tmp_path.glob("*/*")}
    assert len(list(tmp_path.glob("*/*"))) == 4 and len(places) == 1


def test_nothing_listens_on_other_addresses_and_a_wrong_token_is_refused(manned: Manned) -> None:
    import ray
    from ray._private.worker import get_dashboard_url

    own = psutil.Process()
    listening = [
        connection.laddr.ip.removeprefix("::ffff:")
        for process in (own, *own.children(recursive=True))
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) > 3
    assert set(listening) <= {"127.0.0.1", "::1"}
    assert not get_dashboard_url()
    token = os.environ["RAY_AUTH_TOKEN"]
    assert len(token) >= 32
    (session,) = [folder / "session_latest" for folder in _held if folder.name.startswith("ray-")]
    logs = [path.read_text(errors="replace") for path in session.resolve().rglob("*") if path.is_file()]
    assert len(logs) > 3
    assert not any(token in log for log in logs)
    address = ray.get_runtime_context().gcs_address
    _probe(address)
    with _environment({"RAY_AUTH_TOKEN": "w" * 32}), pytest.raises(SmidgenError, match="expected the cluster's token"):
        _probe(address)


def test_workers_give_way_no_more_than_this_process(fleet: Any, tmp_path: Path) -> None:
    assert dict(fleet.results(Doing(tmp_path), range(2))) == {0: 0, 1: 1}
    pids = {int(note.read_text()) for note in tmp_path.iterdir()}
    assert {psutil.Process(pid).nice() for pid in pids} == {psutil.Process().nice()}


def test_blocks_of_features_come_back_in_order_and_equal(
    fleet: Any, small_study: Callable[[Path], dict[str, Any]], tmp_path: Path
) -> None:
    from smidgen.study.execute_ray import ray_features

    arguments = small_study(tmp_path)
    lm = load_language_model(arguments["model"])
    prepared = prepare_pairs(arguments["pairs"], tokenizer=lm.tokenizer, max_length=96, max_bad_fraction=1.0)
    lines = {name: arguments[name].read_text(encoding="utf-8").splitlines() for name in ("harmful", "harmless")}
    source = FeatureSource(pairs=prepared.pairs, encoded=prepared.encoded, template="plain", **lines)
    blocks = [slice(start, start + 16) for start in range(0, 64, 16)]
    groups = {group.name: group for group in column_groups(lm, source, lambda: lm)[0]}
    for name in ("reference", "aligned", "gradient"):
        assert groups[name].apart
        measure = groups[name].prepare({})
        elsewhere = list(ray_features(fleet, source, lm, lambda: lm, threads=1)(name, blocks))
        assert len(elsewhere) == len(blocks)
        for rows, block in zip(blocks, elsewhere, strict=True):
            assert_same(block, measure(rows))


def test_the_references_pass_leaves_the_same_bytes_and_computes_nothing_here(
    fleet: Any, model: Path, tmp_path: Path
) -> None:
    from smidgen.study.execute_ray import ray_score

    lm = load_language_model(model)
    lots = random.Random(0)

    def tokens(most: int) -> tuple[int, ...]:
        return tuple(lots.choices(range(1, 100), k=lots.randint(1, most)))

    pairs = [EncodedPair(i, tokens(40), tokens(30), tokens(30)) for i in range(3 * BATCH_TOKENS // 50)]
    cases: tuple[tuple[Layout, str], ...] = (("packed", "float32"), ("separate", "bfloat16"))
    forwards: list[Any] = []
    hook = lm.model.base_model.register_forward_hook(lambda *parts: forwards.append(parts))
    try:
        for layout, dtype in cases:
            left: list[Any] = []
            for score in (score_answers, partial(ray_score, fleet, threads=1)):
                path = tmp_path / f"{layout}-{len(left)}.sqlite"
                before = len(forwards)
                reference_logps(lm, pairs, ReferenceStore(path), dtype=dtype, layout=layout, score=score)
                with closing(sqlite3.connect(path)) as connection:
                    rows = connection.execute("SELECT key, value FROM logps ORDER BY rowid").fetchall()
                left.append((rows, len(forwards) - before))
            (here, computed), (there, computed_here) = left
            assert here == there and len(here) > len(pairs)
            assert computed > 2 and computed_here == 0
    finally:
        hook.remove()


def test_work_is_called_by_what_it_is() -> None:
    from smidgen.study.execute_ray import FeatureJob, ScoreJob

    shipped = ShippedModel("f", None)
    source = FeatureSource(pairs=PairTable(()), encoded=(), template="plain", harmful=(), harmless=())
    features = FeatureJob(source, shipped, None, "gradient", 1, (), {})
    assert features.name(slice(1024, 2000)) == "pairs 1,024 to 1,999 of the features 'gradient'"
    assert ScoreJob(shipped, "packed", "float32", 1).name(([(1,)] * 3, [[(2,)]] * 3)) == "3 pairs under the reference"


def test_machines_with_other_versions_are_refused(manned: Manned, monkeypatch: pytest.MonkeyPatch) -> None:
    from smidgen.study import fleet as module

    manned.fleet.close()  # its processors are wanted here
    versions = module.versions()
    monkeypatch.setattr(module, "versions", lambda: {**versions, "torch": "1.0"})
    other = module.Fleet(workers=1, threads=1, say=print)
    with pytest.raises(SmidgenError, match=r"expected torch 1\.0 on every machine of the cluster, got torch [2-9]"):
        list(other.results(Doing(Path()), range(1)))
    other.close()
    with pytest.raises(UsageError, match=r"expected a machine with 3 processors .* with 2 processors and 0 GPUs"):
        list(module.Fleet(workers=1, threads=3, say=print).results(Doing(Path()), range(1)))


def assert_same(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, values in one.items():
        assert values.dtype == other[name].dtype
        assert values.tobytes() == other[name].tobytes(), name
