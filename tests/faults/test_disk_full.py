"""A full disk: said with path and room, what was written before is whole, and once there is room all goes on."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults.left import left_by
from tests.synthesis.scripted_teacher import teaching

from smidgen.cli import main
from smidgen.runs import CannotWrite, atomic_folder, atomic_write, held

ROOT = Path(__file__).parents[2]
# Of those that write several files one after the other, the disk has to be full at more than one.
ONE_FILE = ("bench",)
STAGES = (
    "prepare",
    "select",
    "train",
    "minimize",
    "critique",
    "score",
    "generate",
    "compare",
    "explain",
    "export",
    *ONE_FILE,
)
THREE_PARTS = (
    r"smidgen: expected room to write (\S+), got: No space left on device; [\d.]+ k?M?B of [\d.]+ k?M?B are free "
    r"there\. Make room, and run the same command again, or write to another disk; what was written before is whole\."
)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("no disk can be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_no_room_is_told_and_the_old_content_stays(disk: Path) -> None:
    path = disk / "a.txt"
    path.write_text("old")
    with (
        pytest.raises(CannotWrite, match=re.escape(str(path)) + r", got: No space left.* of 65\.5 kB are free there\."),
        atomic_write(path) as file,
    ):
        file.write("new" * 30_000)
    assert (path.read_text(), names(disk)) == ("old", ["a.txt"])
    with pytest.raises(CannotWrite, match=re.escape(str(disk / "model"))), atomic_folder(disk / "model") as part:
        (part / "weights").write_bytes(bytes(100_000))
    assert names(disk) == ["a.txt"]


@pytest.mark.parametrize("stage", ["prepare", "train"])
def test_a_folder_that_cannot_be_written_to_is_told(
    disk: Path, stage: str, commands: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """A disk mounted read-only, since permissions do not hold back everybody."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert main([word.replace("{out}", str(disk)) for word in commands[stage]]) == 1
    said = capsys.readouterr().err
    assert re.search(rf"smidgen: expected {disk}/run/run\.lock to be writable, got: Read-only file system\. Give", said)


def test_a_limit_of_the_process_is_told_as_one(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        said = r"a\.txt, got: File too large; .*\(ulimit -f\)"
        with pytest.raises(CannotWrite, match=said), atomic_write(tmp_path / "a.txt") as file:
            file.write("new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert not list(tmp_path.iterdir())


def test_other_troubles_are_not_taken_for_it(tmp_path: Path) -> None:
    with pytest.raises(PermissionError) as raised, atomic_write(tmp_path / "a.txt"):
        raise PermissionError(errno.EACCES, "Permission denied", "/elsewhere/pairs.jsonl")
    assert not isinstance(raised.value, CannotWrite)
    with pytest.raises(ZeroDivisionError), held(tmp_path / "run"):
        raise ZeroDivisionError


@pytest.fixture(scope="module")
def filled(commands: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict]]:
    """A folder with every stage's two runs, and what was said while the disk was full."""
    folder = tmp_path_factory.mktemp("full")
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted here")
    with teaching() as teacher:
        stages = {name: [word.replace("{teacher}", teacher.url) for word in commands[name]] for name in STAGES}
        done = subprocess.run(
            [sys.executable, "-m", "tests.faults.full", str(folder)],
            input=json.dumps(stages),
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            check=False,
        )
    said: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        said |= json.loads(line)
    print(done.stderr)
    try:
        yield folder, said
    finally:
        for place in (*folder.glob("*/disk"), folder):
            subprocess.run(["umount", "-l", str(place)], capture_output=True, check=False)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("stage", STAGES)
def test_full_at_each_write_and_gone_on_with_is_never_full(stage: str, filled: tuple[Path, dict]) -> None:
    folder, said = filled
    assert stage in said, "the run of this stage failed, see what was printed"
    texts = ["\n".join(line for line in text.splitlines() if line.startswith("smidgen:")) for text in said[stage]]
    named = set()
    for text, whole in zip(texts, said[stage], strict=True):
        found = re.fullmatch(THREE_PARTS, text)
        assert found and "Traceback" not in whole, whole
        named.add(Path(found[1]).name)
    if stage in ONE_FILE:
        assert texts
    else:  # at more than one place, all of them this stage's own
        assert len(texts) > 3 and len(named) > 1, named
    expected, found = (left_by(stage, folder / stage / place) for place in ("whole", "disk"))
    for name, value in expected.items():
        assert found[name] == value, name
