"""A planted key stands in nothing that a command leaves behind: no file, no log, no output, no error."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.hostile.readers import OTHER, PAIR
from tests.servers.faulty import FaultyServer, broken, changed, cut_connection, rate_limited, refused, wrong_json

KEY = "sk-planted-0123456789-abcdefghij-ZYXWV"
# Every name under which a key is looked for, here or by a library that is used.
NAMES = ("OPENAI_API_KEY", "TEACHER_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "ANTHROPIC_API_KEY")
_FORMS = (
    KEY.encode(),
    KEY[3:27].encode(),
    base64.b64encode(KEY.encode())[:-4],
    KEY.encode("utf-16-le"),
    KEY[::-1].encode(),
)

_ALL_LOGGED = """
import logging, sys
logging.basicConfig(level=1)
from smidgen.cli import main
sys.exit(main(sys.argv[1:]))
"""


def said_by(folder: Path, *argv: str) -> bytes:
    """All that a command says, in a process of its own with everything that can be logged turned on."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _ALL_LOGGED,
         *argv],
        cwd=folder, capture_output=True, timeout=200,
        env=os.environ | dict.fromkeys(NAMES, KEY) | {"OPENAI_LOG": "debug", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return done.stdout + done.stderr


def echo() -> object:
    """A reply that says the key back, where it is kept and where it is shown."""
    return changed(
        lambda a: (a["choices"][0]["message"].update(content=f"The key: {KEY}"), a.update(model=KEY, id=KEY))
    )


PLANS = {
    "well": list,
    "says-it-back": lambda: [echo()] * 40,
    "refuses": lambda: [refused(401, f"Incorrect API key provided: {KEY}. See x.", param=KEY)],
    "fails": lambda: (
        [rate_limited("0.01"), broken(), wrong_json(KEY.encode()), cut_connection(), refused(400, KEY)] * 2
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("plan", PLANS)
def test_a_planted_key_stands_nowhere(plan: str, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("Name a tree.\nName a fish.\n")
    (tmp_path / "pairs.jsonl").write_text(f"{json.dumps(PAIR)}\n{json.dumps(OTHER)}\n")
    said = b""
    with FaultyServer(key=KEY, plan=PLANS[plan]()) as server:
        asked = ("--model", "m", "--seed", "1")
        said += said_by(tmp_path, "critique", "--task", "safety", "--prompts", "prompts.txt", "--out", "made.jsonl",
                        "--teacher", server.url, *asked)  # fmt: skip
        said += said_by(tmp_path, "score", "--pairs", "pairs.jsonl", "--out", "scored.jsonl", "--keep-replies",
                        "--task", "safety", "--judge", server.url, *asked)  # fmt: skip
        assert server.asked and all(KEY in str(one.headers) for one in server.asked), "the key was never used"
    left = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(left) > 2
    for form in _FORMS:
        assert form not in said, f"said: …{said[max(0, said.find(form) - 200) : said.find(form) + 40]!r}"
        assert [name for name, content in left.items() if form in content] == []


@pytest.mark.slow
def test_what_asks_nobody_keeps_no_key_either(tmp_path: Path) -> None:
    from smidgen.assets import DEMO

    (tmp_path / "prompts.txt").write_text("Name a tree.\n")
    said = said_by(tmp_path, "generate", "--model", str(DEMO / "model"), "--prompts", "prompts.txt", "--out", "made",
                   "--max-new-tokens", "4")  # fmt: skip
    said += said_by(tmp_path, "train", "dpo", "--model", str(DEMO / "model"), "--pairs", str(DEMO / "heldout.jsonl"),
                    "--steps", "1", "--out", "trained", "--track", "tensorboard")  # fmt: skip
    left = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert any("metrics.jsonl" in name for name in left) and any(name.startswith("made") for name in left)
    for form in _FORMS:
        assert form not in said and [name for name, content in left.items() if form in content] == []


def test_the_environment_file_names_no_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from smidgen.study.outputs import write_environment

    for name in NAMES:
        monkeypatch.setenv(name, KEY)
    write_environment(tmp_path)
    assert KEY not in (tmp_path / "environment.json").read_text()
