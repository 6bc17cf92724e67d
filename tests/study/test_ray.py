"""Whole commands on Ray: equal to this machine's processes, bit for bit, whatever is killed, wherever workers are."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from smidgen.assets import DEMO

pytestmark = pytest.mark.slow

SETTINGS = """
loss: "dpo:beta=0.3"
recipe: {learning_rate: 1.0e-3, steps: 6, batch_size: 4}
selectors: [contrast, "margin_band:band=high"]
sizes: [24, 12]
survivors: 1
dev_seeds: 1
swap_rounds: 0
refine_groups: 0
confirm_sizes: 1
confirm_seeds: 2
both_budgets: false
max_new_tokens: 4
patterns: mine.txt
"""
RESULTS = ("certificate.json", "subset.csv", "nominees.json", "features.parquet", "model/model.safetensors")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything a small study reads, under relative names."""
    folder = tmp_path_factory.mktemp("data")
    for name, n_lines in (("pairs.jsonl", 120), ("heldout.jsonl", 16)):
        _head(DEMO / name, folder / name, n_lines)
    for name in ("harmful", "harmless", "confirm_harmful", "confirm_harmless"):
        _head(DEMO / f"{name}.txt", folder / f"{name}.txt", 12)
    shutil.copytree(DEMO / "model", folder / "base")
    (folder / "settings.yaml").write_text(SETTINGS)
    (folder / "mine.txt").write_text("I can't\nI won't\nsorry\n")
    return folder


def _head(source: Path, target: Path, n_lines: int) -> None:
    lines = source.read_text(encoding="utf-8").splitlines(keepends=True)[:n_lines]
    target.write_text("".join(lines), encoding="utf-8")


def command(out: str, *more: str) -> list[str]:
    words = ["minimize", "--json", "--config", "settings.yaml", "--pairs", "pairs.jsonl", "--heldout", "heldout.jsonl"]
    words += ["--model", "base", "--harmful", "harmful.txt", "--harmless", "harmless.txt"]
    words += ["--confirm-harmful", "confirm_harmful.txt", "--confirm-harmless", "confirm_harmless.txt"]
    return [sys.executable, "-m", "smidgen", *words, "--out", out, *more]


def started(data: Path, out: str, *more: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(out, *more),
        cwd=data,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=400)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def local(data: Path) -> Path:
    """The same study by this machine's own processes; `killed` beside it is what a kill would have left of it."""
    process = started(data, "local", "--workers", "0")
    wait_for(lambda: len(finished_trials(data / "local")) >= 2, process)
    with stopped(process):
        shutil.copytree(data / "local", data / "killed")
    code, out, err = ended(process)
    assert code in (0, 4), err
    assert json.loads(out) == json.loads((data / "local" / "certificate.json").read_text())
    return data / "local"


@contextmanager
def stopped(process: subprocess.Popen[str]) -> Iterator[None]:
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def finished_trials(out: Path) -> list[tuple[str, float]]:
    try:
        with sqlite3.connect(f"file:{out / 'study.sqlite'}?mode=ro", uri=True) as connection:
            return connection.execute("SELECT trial_id, wall_seconds FROM trials ORDER BY trial_id").fetchall()
    except sqlite3.OperationalError:
        return []


def wait_for(done: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    """Until it is so, or the command has ended."""
    while process.poll() is None and not done():
        time.sleep(0.02)


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def named(process: subprocess.Popen[str]) -> dict[psutil.Process, str]:
    """Every process below a command, by what it calls itself."""
    found: dict[psutil.Process, str] = {}
    for relative in family(process):
        with suppress(psutil.NoSuchProcess):
            found[relative] = relative.name().removeprefix("ray::")
    return found


def left(processes: list[psutil.Process], *, seconds: float = 30) -> list[str]:
    """Names of those that still run after so long."""
    return [found.name() for found in psutil.wait_procs(processes, timeout=seconds)[1] if found.is_running()]


def same_results(one: Path, other: Path) -> None:
    for name in RESULTS:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.fixture(scope="module")
def orphans() -> Iterator[list[psutil.Process]]:
    """Ray's own agents, which find out a minute after a killed driver; meanwhile other tests go on."""
    found: list[psutil.Process] = []
    yield found
    assert not left(found, seconds=120)


def test_begun_here_gone_on_with_on_ray_and_finished_here_equals_never_killed(
    data: Path, local: Path, orphans: list[psutil.Process]
) -> None:
    """Killed here, then a worker on Ray, then the driver there; here again, it ends."""
    out = data / "killed"
    first = finished_trials(out)
    assert first and not (out / "certificate.json").exists()

    process = started(data, "killed", "--executor", "ray", "--workers", "2")
    wait_for(lambda: len(finished_trials(out)) > len(first), process)
    victims: list[psutil.Process] = []

    def seen() -> bool:
        victims.extend(found for found, name in named(process).items() if name == "Worker.do")
        return bool(victims)

    wait_for(seen, process)
    victims[0].kill()
    killed_at = len(finished_trials(out))
    wait_for(lambda: len(finished_trials(out)) > killed_at + 1, process)
    relatives = named(process)
    assert "raylet" in relatives.values()
    os.kill(process.pid, signal.SIGKILL)
    _, err = process.communicate()
    assert err.count("a worker died at trial ") <= 1
    # All that computes, listens or holds memory goes at once.
    orphans += [found for found, name in relatives.items() if name in ("DashboardAgent", "RuntimeEnvAgent")]
    assert not left([found for found in relatives if found not in orphans])
    second = finished_trials(out)
    assert set(first) < set(second) < set(finished_trials(local)) | set(second)

    code, text, err = ended(started(data, "killed", "--workers", "0"))
    assert code in (0, 4), err
    assert json.loads(text)["claim"]
    same_results(out, local)
    # What was finished before a kill was not run again: its very time stands there.
    assert set(second) <= set(finished_trials(out))
    assert [trial for trial, _ in finished_trials(out)] == [trial for trial, _ in finished_trials(local)]


def test_interrupted_it_says_so_and_leaves_no_process(data: Path) -> None:
    process = started(data, "interrupted", "--executor", "ray", "--workers", "2")
    # Before the first trial ends: on a quiet machine the others soon have, and then there is nothing to interrupt.
    wait_for(lambda: (data / "interrupted" / "study.sqlite").exists(), process)
    relatives = family(process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    code, out, err = ended(process)
    assert code == 130
    assert json.loads(out)["error"]["message"] == "interrupted; run the same command again to resume"
    assert len(err.splitlines()) <= 5, err
    assert not left(relatives)


@dataclass(frozen=True)
class Nodes:
    """A cluster of a head that computes nothing, and two nodes; none knows another's folder, nor the driver's."""

    address: str
    environment: dict[str, str]
    folder: Path


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "t" * 40, "RAY_USAGE_STATS_ENABLED": "0"}
    short = Path(tempfile.mkdtemp(prefix="n", dir="/tmp"))  # the name of a socket has no room for more
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("ray_nodes.py")), str(short)],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin and process.stdout
    try:
        yield Nodes(process.stdout.readline().strip(), environment, short)
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()
        shutil.rmtree(short, ignore_errors=True)


def test_nodes_that_share_no_folder_give_the_same_and_keep_nothing(data: Path, local: Path, nodes: Nodes) -> None:
    """Every path of the command is relative to a folder that no worker stands in."""
    where = ("--address", nodes.address, "--workers", "0")
    process = started(data, "apart", "--executor", "ray", *where, **nodes.environment)
    fleets: set[Path] = set()

    def seen() -> bool:
        fleets.update(nodes.folder.glob("*/smidgen-*/fleet-*"))
        return {path.relative_to(nodes.folder).parts[0] for path in fleets} == {"a", "b"}

    wait_for(seen, process)
    code, _, err = ended(process)
    assert code in (0, 4), err
    assert "died" not in err
    same_results(data / "apart", local)
    assert not [path for path in fleets if path.exists()]
