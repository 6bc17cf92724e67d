"""What is said before any Ray cluster is touched; and folders that vanish with their users."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from smidgen.cli import main
from smidgen.errors import SmidgenError
from smidgen.evaluation.patterns import load_pattern_lists
from smidgen.models.load import LanguageModel, language_model, load_language_model
from smidgen.study import cluster
from smidgen.study.cluster import ray_cluster
from smidgen.study.parcel import (
    ShippedModel,
    check_arrived,
    model_files,
    placed,
    read_folder,
    small_files,
    write_folder,
)
from smidgen.study.scratch import hold, let_go, one_at_a_time, scratch_base

TOKENS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE")


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in TOKENS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "t" * 32)


def refusal(address: str | None) -> str:
    with pytest.raises(SmidgenError) as caught, ray_cluster(address, processors=1):
        raise AssertionError("expected to be refused")
    return str(caught.value)


@pytest.mark.slow
def test_ray_is_not_imported_unless_asked_for() -> None:
    script = (
        "import sys, smidgen.study.minimize, smidgen.cli.study, smidgen.cli.select; assert 'ray' not in sys.modules; "
        "from smidgen.study.execute import open_executor\n"
        "with open_executor('local', address=None, workers=0, threads=1, say=print): pass\n"
        "assert 'ray' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    said = refusal(None)
    assert "expected Ray to be installed, found none; pip install 'smidgen[ray]'" in said


def test_ray_without_tokens_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ray-2.49.1.dist-info").mkdir()
    (tmp_path / "ray-2.49.1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: ray\nVersion: 2.49.1\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert "expected Ray 2.52 or newer, got 2.49.1" in refusal(None)


@pytest.mark.parametrize("address", ["here", "ray://head:10001", "head:", ":6379", "head:0", "head:99999", "head:x"])
def test_what_is_no_address_is_refused(token: None, address: str) -> None:
    assert "expected host:port of a Ray cluster's head, or auto" in refusal(address)


def test_an_address_where_nobody_answers(token: None) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    assert "nobody answers there" in refusal(f"127.0.0.1:{port}")


@pytest.mark.slow
def test_an_address_where_somebody_else_listens_is_given_up_in_time(
    token: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_PROBE_SECONDS", 6)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        assert "got no answer from it within 6 s" in refusal(f"127.0.0.1:{silent.getsockname()[1]}")


def test_a_cluster_needs_a_token_unless_that_is_said(token: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    assert "expected the cluster's token" in refusal("127.0.0.1:1")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert "nobody answers there" in refusal("127.0.0.1:1")
    assert {name: cluster.os.environ.get(name) for name in TOKENS} == {
        "RAY_AUTH_TOKEN": None,
        "RAY_AUTH_TOKEN_PATH": None,
        "RAY_AUTH_MODE": "disabled",
    }


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("E: Version mismatch: The cluster was started with:\n  Ray: 2.58\n  Python: 3.12", "same Python and Ray here"),
        ("ray.exceptions.AuthenticationError: InvalidAuthToken", "expected the cluster's token, got another"),
        ("ConnectionError: no raylet on this machine\n", "Ray says: ConnectionError: no raylet on this machine"),
        ("", "no reason given"),
    ],
)
def test_why_a_cluster_refused_is_told_from_what_ray_wrote(output: str, said: str) -> None:
    assert said in cluster._why_refused(output)


def test_an_address_needs_the_executor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--out", "run", "--address", "127.0.0.1:6379"]) == 2
    assert "expected --executor ray beside it, got local" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_model_arrives_as_it_was_sent(tiny: LanguageModel, tmp_path: Path) -> None:
    sent = language_model(tiny.model, tiny.tokenizer)
    shipped = ShippedModel(sent.fingerprint, None)
    write_folder(tmp_path / "model", model_files(sent))
    arrived = load_language_model(tmp_path / "model")
    assert check_arrived(arrived, shipped) is arrived
    again = model_files(arrived)
    assert {name: content.tobytes() for name, content in again.items()} == {
        path.name: path.read_bytes() for path in (tmp_path / "model").iterdir() if path.suffix != ".md"
    }
    with pytest.raises(SmidgenError, match=r"got .*: its files changed while the command ran"):
        check_arrived(arrived, ShippedModel("other", None))


def test_a_folders_files_cannot_leave_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name of a file"):
        write_folder(tmp_path / "in", {"../out": np.zeros(1, np.uint8)})
    assert not list(tmp_path.iterdir())
    (tmp_path / "a").mkdir()
    assert read_folder(tmp_path / "a") == {}


def test_plugins_and_lists_travel_and_keep_their_names(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("I'd rather not\n")
    (tmp_path / "data.py").write_text('REFUSALS = ["I would rather not"]\n')
    names = [str(tmp_path / "mine.txt"), f"{tmp_path / 'data.py'}#REFUSALS", "common"]
    sent = small_files(names)
    (tmp_path / "mine.txt").unlink()
    (tmp_path / "data.py").unlink()
    there = [placed(name, sent, tmp_path / "there") for name in names]
    assert [found.name for found in load_pattern_lists(there)] == ["mine", "REFUSALS", "common"]
    assert [load_pattern_lists([place])[0].patterns for place in there[:2]] == [
        ("I'd rather not",),
        ("I would rather not",),
    ]


HOLDER = "import sys; from smidgen.study.scratch import hold; hold('{}'); print(flush=True); sys.stdin.read()"


@pytest.mark.slow
def test_scratch_stays_while_somebody_holds_it_and_goes_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", "/tmp")
    name, other = f"test-{tmp_path.name}-a", f"test-{tmp_path.name}-b"
    command = [sys.executable, "-c", HOLDER.format(name)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout and process.stdin
    process.stdout.readline()
    folder = scratch_base() / name
    (folder / "file").touch()
    mine = hold(other)
    assert (folder / "file").exists() and hold(other) == mine
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()
    let_go(mine)
    again = hold(other)
    assert not folder.exists() and again.is_dir()
    let_go(again)
    assert not again.exists()


def test_scratch_that_another_holder_let_go_of_is_made_and_held_anew(tmp_path: Path) -> None:
    folder = hold(f"test-{tmp_path.name}")
    try:
        shutil.rmtree(folder)  # as another holder does
        with one_at_a_time(folder):
            (folder / "file").touch()
        descriptor = os.open(folder, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)
    finally:
        let_go(folder)


def test_who_waited_for_a_lock_that_was_removed_waits_for_its_successor(tmp_path: Path) -> None:
    folder = hold(f"test-{tmp_path.name}")
    lock, inside = folder / ".lock", threading.Event()

    def wait_and_enter() -> None:
        with one_at_a_time(folder):
            inside.set()

    waiting = threading.Thread(target=wait_and_enter)
    try:
        with one_at_a_time(folder):
            waiting.start()
            while sum(found.path == str(lock) for found in psutil.Process().open_files()) < 2:
                time.sleep(0.01)
            shutil.rmtree(folder)
            hold(folder.name)
            successor = lock.open("w")
            fcntl.flock(successor, fcntl.LOCK_EX)
        assert not inside.wait(0.3)
        successor.close()
        assert inside.wait(10)
    finally:
        waiting.join(10)
        let_go(folder)


def test_scratch_that_others_may_enter_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", None)
    short = Path("/tmp") / f"s{tmp_path.name[-6:]}{abs(hash(tmp_path)) % 10_000}"
    short.mkdir()
    monkeypatch.setenv("TMPDIR", str(short))
    try:
        base = scratch_base()
        assert base.parent == short and base.stat().st_mode & 0o777 == 0o700
        base.chmod(0o777)
        with pytest.raises(SmidgenError, match="nobody else may enter"):
            scratch_base()
        base.rmdir()
        base.symlink_to(tmp_path)
        with pytest.raises(SmidgenError, match="nobody else may enter"):
            scratch_base()
        base.unlink()
    finally:
        short.rmdir()
        monkeypatch.setattr("tempfile.tempdir", None)
