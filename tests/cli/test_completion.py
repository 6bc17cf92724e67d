"""Shell completion: the list that ships is the commands' own, no torch is imported, and shells complete from it."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from smidgen.assets import COMPLETION_FLAGS
from smidgen.cli.completion import completion_script
from smidgen.cli.completion_flags import listed_text

LISTED = json.loads(COMPLETION_FLAGS.read_text(encoding="utf-8"))
CHECKS = {"bash": ["bash", "-n"], "zsh": ["zsh", "-n"], "fish": ["fish", "--no-execute"]}


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bash's script, in a file."""
    path = tmp_path_factory.mktemp("completion") / "smidgen"
    path.write_text(completion_script("bash", LISTED), encoding="utf-8")
    return path


def test_the_list_is_what_the_commands_take() -> None:
    now = listed_text()
    assert COMPLETION_FLAGS.read_text(encoding="utf-8") == now, "run python -m smidgen.cli.completion_flags"


def test_no_shell_waits_for_torch() -> None:
    code = "import sys; from smidgen.cli import main; main(['completion', 'bash']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[0] == "# Bash completion for smidgen"


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("smidgen min", "minimize"),
        ("smidgen train refi", "refined_dpo"),
        ("smidgen minimize --confirm-har", "--confirm-harmful --confirm-harmless"),
        ("smidgen train dpo --label", "--label-smoothing"),
        ("smidgen train dpo --schedule c", "constant cosine"),
        ("smidgen select --selector contrast_", "contrast_cover"),
        ("smidgen export --format llama", "llama_factory"),
        ("smidgen view --no-b", "--no-browser"),
        ("smidgen completion f", "fish"),
        ("smidgen bench --patterns br", "broad"),
        ("smidgen minimize --public-patterns ex", "exercise"),
    ],
)
def test_bash_offers_commands_flags_and_values(script: Path, words: str, offered: str) -> None:
    last = len(words.split()) - 1
    ask = f'source {script}; COMP_WORDS=({words}); COMP_CWORD={last}; _smidgen; echo "${{COMPREPLY[*]}}"'
    done = subprocess.run(["bash", "--norc", "-c", ask], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == (offered, "")


def test_the_tab_key_completes_a_command_and_a_file_with_a_space(script: Path, tmp_path: Path) -> None:
    (tmp_path / "my pairs.jsonl").touch()
    parent, child = pty.openpty()
    keys = f"source {script}\nsmidgen min\t--pairs my\t\x01printf '[%s]' \x05\nexit\n"
    environment = {"PATH": os.environ["PATH"], "TERM": "dumb", "PS1": "", "INPUTRC": os.devnull}
    with subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        stdin=child,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
        env=environment,
    ) as shell:
        os.write(parent, keys.encode())
        out, _ = shell.communicate(timeout=30)
    os.close(child)
    os.close(parent)
    assert "[smidgen][minimize][--pairs][my pairs.jsonl]" in out.decode()


@pytest.mark.parametrize("shell", CHECKS)
def test_a_shell_that_is_installed_takes_its_script(shell: str, tmp_path: Path) -> None:
    text = completion_script(shell, LISTED)  # pyright: ignore[reportArgumentType]
    assert "minimize" in text and "label-smoothing" in text
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(text, encoding="utf-8")
    subprocess.run([*CHECKS[shell], str(tmp_path / "script")], check=True, capture_output=True)
