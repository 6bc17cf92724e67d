"""A run's folder: files are there whole or not at all, and no run touches another's."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from smidgen.errors import UsageError
from smidgen.runs import atomic_folder, atomic_write, content_hash, file_hash, open_run, read_json, write_json

IDENTITY = {"command": "minimize", "settings": {"seed": 0, "sizes": (50, 100)}, "inputs": {"pairs.jsonl": "ab"}}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_exception_leaves_the_old_content_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write("new, but not all of i")
        file.flush()
        raise RuntimeError
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_content_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "a.txt"
    path.write_text("old")
    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="No space left"), atomic_write(path) as file:
        file.write("new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_killed_while_writing_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    script = (
        "import os, signal, sys\n"
        "from smidgen.runs import atomic_write\n"
        "with atomic_write(sys.argv[1]) as file:\n"
        "    file.write('new'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


def test_content_arrives_whole_with_plain_newlines(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    with atomic_write(path) as file:
        file.write("é\n\r\n")
        assert not path.exists()
    assert path.read_bytes() == "é\n\r\n".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_equal_values_are_equal_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [0.1, "é"]})
    write_json(tmp_path / "b.json", {"a": [0.1, "é"], "b": 1})
    assert file_hash(tmp_path / "a.json") == file_hash(tmp_path / "b.json")
    assert read_json(tmp_path / "a.json") == {"a": [0.1, "é"], "b": 1}


def test_json_that_no_other_program_reads_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert names(tmp_path) == []


def test_content_hash_tells_values_apart_and_takes_any_text() -> None:
    assert content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    assert content_hash(["a", "b"]) != content_hash(["b", "a"])
    assert len(content_hash("\ud800")) == 16


def test_the_same_work_reopens_its_run(tmp_path: Path) -> None:
    folder = open_run(tmp_path / "run", IDENTITY)
    (folder / "study.sqlite").write_text("half of it")
    assert open_run(tmp_path / "run", IDENTITY) == folder
    assert (folder / "study.sqlite").read_text() == "half of it"


@pytest.mark.parametrize("key", ["settings", "inputs", "command"])
def test_other_work_is_refused_and_named(tmp_path: Path, key: str) -> None:
    folder = open_run(tmp_path / "run", IDENTITY)
    with pytest.raises(UsageError, match=f"other {key};.*--out"):
        open_run(folder, IDENTITY | {key: "other"})
    assert read_json(folder / "run.json")["command"] == "minimize"


def test_a_folder_with_anything_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="not empty"):
        open_run(tmp_path, IDENTITY)
    assert names(tmp_path) == ["thesis.tex"]


def test_a_folder_takes_its_place_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with atomic_folder(folder) as part:
        (part / "weights").write_text("old")
        assert not folder.exists()
    with pytest.raises(RuntimeError), atomic_folder(folder) as part:
        (part / "weights").write_text("new")
        raise RuntimeError
    assert (folder / "weights").read_text() == "old"
    with atomic_folder(folder) as part:
        (part / "others").write_text("new")
    assert names(folder) == ["others"]
    assert names(tmp_path) == ["model"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_folders_in_a_folder_can_be_entered(tmp_path: Path) -> None:
    """A tokenizer with several chat templates keeps them in one."""
    with atomic_folder(tmp_path / "model") as part:
        (part / "additional_chat_templates").mkdir()
        (part / "additional_chat_templates" / "tool.jinja").write_text("{{ messages }}")
    modes = [stat.S_IMODE(path.stat().st_mode) for path in sorted((tmp_path / "model").rglob("*"))]
    assert modes == [0o755, 0o644]


def test_threads_that_write_at_once_leave_the_permissions_of_new_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = threading.Barrier(2)
    real = os.umask

    def slow(mask: int) -> int:
        before = real(mask)
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.2)
        return before

    monkeypatch.setattr(os, "umask", slow)
    writers = [threading.Thread(target=write_json, args=(tmp_path / name, {})) for name in "ab"]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    (tmp_path / "new").write_text("")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o644
