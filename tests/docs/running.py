"""Running a page: its blocks from top to bottom in one folder. What fails names the page, the line, the output."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.docs.checking import check_block, console_commands
from tests.docs.pages import Block
from tests.docs.session import python_session

SECONDS = 500
# Commands that would change the machine, or reach beyond it, if a block that should not run did.
KEPT_AWAY = ("apt-get", "curl", "git", "make", "pip", "pip3", "sudo", "wget")
ELIDED = "…"
# Says in which line of the page a command failed; $0 is the page.
_TRAP = "trap 'echo \"failed at line $LINENO\" >&2' ERR;"

# For hidden code: puts a small finished study where it is told to; made once, in the first page that asks for it.
FINISHED_STUDY = """\
#!/bin/sh
set -e
made="${0%/*}/study"
test -f "$made/report.html" || smidgen minimize --pairs pairs.jsonl --model my-sft-model --out "$made" \\
  --harmful harmful.txt --harmless harmless.txt --recipe.steps 2 --sizes 24 --selector random --swap-rounds 0 \\
  --refine-groups 0 --confirm-seeds 2 >&2
mkdir -p "$(dirname "$1")"
cp -r "$made" "$1"
"""


@dataclass(frozen=True, slots=True)
class Shell:
    """Where the commands of blocks run.

    Attributes:
        folder: The page's own.
        environment: What they find there, `smidgen` and `python` on PATH.
        rewrite: Puts the addresses of the test's own servers in place of the page's.
    """

    folder: Path
    environment: dict[str, str]
    rewrite: Callable[[str], str] = str


def run_page(blocks: Sequence[Block], shell: Shell) -> None:
    """Run, write or check every block of a page, in order.

    Raises:
        PageError: A block does not do what it says.
    """
    with python_session(shell.folder, shell.environment) as run_python:
        for block in blocks:
            check_block(block)
            if block.mode == "not":
                continue
            if block.title:
                _write(block, shell)
            elif block.language == "bash":
                run_bash(block, shell)
            elif block.language == "console":
                run_console(block, shell)
            elif block.language == "python":
                run_python(block, shell.rewrite(block.code))


def _write(block: Block, shell: Shell) -> None:
    path = shell.folder / str(block.title)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(shell.rewrite(block.code), encoding="utf-8")


def run_bash(block: Block, shell: Shell) -> str:
    """Run a block by bash, stopping at the first command that fails; what it printed.

    Raises:
        PageError: A command failed.
    """
    environment = shell.environment | {"BLOCK_FLAGS": shlex.join(block.flags), "BLOCK_MODE": block.mode}
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / Path(block.page).name
        # Blank lines put the code where it stands, so that bash names the page's own lines.
        script.write_text(_TRAP + "\n" * (block.line - 1) + shell.rewrite(block.code), encoding="utf-8")
        code, printed, said = _run(["bash", "-Eeuo", "pipefail", str(script)], shell.folder, environment)
    said = said.replace(str(script), block.page)
    if code is None:
        raise block.error(f"expected this to end within {SECONDS} s, got no end:\n{printed}{said}")
    if code:
        places = re.findall(r"failed at line (\d+)|line (\d+):", said)
        line = int(next((number for pair in places for number in pair if number), block.line))
        raise block.error(f"expected this to run, got exit code {code}:\n{printed}{said}", line)
    return printed


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[int | None, str, str]:
    """Exit code, or None where it did not end in time and was stopped with all it had started; both outputs."""
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            printed, said = process.communicate(timeout=SECONDS)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGTERM)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            return None, *process.communicate()
        return process.returncode, printed, said


def run_console(block: Block, shell: Shell) -> None:
    """Run a transcript's commands, each behind `$ `; each must print what stands below it, … for what is left out.

    Raises:
        PageError: A command failed, or printed something else.
    """
    commands = console_commands(block.code)
    lines = block.code.splitlines()
    starts = [at for at, line in enumerate(lines) if line.startswith("$ ")]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        after = next((at for at in range(start, end) if not commands[at]), end)
        command = _at(block, "\n".join(commands[start:after]) + "\n", start)
        _compare(_at(block, "\n".join(lines[after:end]), after), run_bash(command, shell))


def _at(block: Block, code: str, offset: int) -> Block:
    return replace(block, code=code, line=block.line + offset)


def _compare(expected: Block, printed: str) -> None:
    place = 0
    for part in re.split(rf"^[ ]*{ELIDED}$\n?", expected.code, flags=re.MULTILINE):
        wanted = part.strip("\n")
        if wanted not in printed[place:]:
            raise expected.error(f"expected the output\n{wanted}\n\ngot\n{printed}")
        place = printed.index(wanted, place) + len(wanted)


@contextmanager
def warm_environment() -> Iterator[dict[str, str]]:
    """The environment of blocks: the waiting command line, `smidgen` and `python` on PATH, no hub and no keys."""
    root = Path(__file__).parents[2]
    inherited = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_TOKEN"))}
    with tempfile.TemporaryDirectory(prefix="blocks-") as folder:
        tools = Path(folder)
        client = tools / "smidgen"
        client.write_text(f"#!{sys.executable} -S\n" + Path(__file__).with_name("on_path.py").read_text("utf-8"))
        client.chmod(0o755)
        refusal = '#!/bin/sh\necho "${0##*/} is not for a page\'s test: say not run" >&2; exit 1\n'
        for name, script in {"finished_study": FINISHED_STUDY, **dict.fromkeys(KEPT_AWAY, refusal)}.items():
            (tools / name).write_text(script)
            (tools / name).chmod(0o755)
        environment = inherited | {
            "ACCELERATE_USE_CPU": "true",
            "BLOCK_SOCKET": str(tools / "socket"),
            "BROWSER": "true",
            "CHECKOUT": str(root),
            "COLUMNS": "80",
            "HF_DATASETS_CACHE": str(tools / "datasets"),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "PATH": os.pathsep.join([folder, str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TQDM_DISABLE": "1",
        }
        command: list[Any] = [sys.executable, "-m", "tests.docs.warm", environment["BLOCK_SOCKET"]]
        with subprocess.Popen(
            command,
            cwd=root,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
        ) as server:
            assert server.stdin and server.stdout
            assert server.stdout.readline() == "ready\n"
            yield environment
            server.stdin.close()
