"""Wrong flags and settings: told in words, with what is near, and before the engine is imported."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from smidgen.cli.app import COMMANDS

Run = Callable[..., tuple[int, str, str]]

# What each command is given that it cannot take: a bad value, and a file that is not there.
OUT = ("--out", "out")
MODEL = ("--model", "m")
PAIRS = ("--pairs", "pairs.jsonl")
WRONG = {
    "demo": (("--workers", "many"), ("--config", "none.yaml")),
    "prepare": ((*PAIRS, *OUT, "--max-length", "0"), ("--pairs", "none.jsonl", *OUT)),
    "critique": (("--task", "safety", "--seed", "x"), ("--task", "safety", "--prompts", "none.txt", *OUT)),
    "score": ((*PAIRS, *OUT, "--beta", "x"), ("--pairs", "none.jsonl", *OUT, "--rule", "length")),
    "generate": (("--seed", "x"), (*MODEL, "--prompts", "none.txt", "--out", "out.jsonl")),
    "bench": ((*MODEL, "--max-new-tokens", "0"), ("--model", "./none")),
    "select": ((*PAIRS, *MODEL, *OUT, "--budget", "0"), ("--pairs", "none.jsonl", *MODEL, *OUT, "--budget", "3")),
    "plan": (("--delta", "2"), ("--run", "none")),
    "minimize": ((*PAIRS, *MODEL, *OUT, "--delta", "7"), ("--pairs", "none.jsonl", *MODEL, *OUT)),
    "compare": (("a.jsonl", "b.jsonl", *OUT, "--seed", "x"), ("none.jsonl", "nothing.jsonl", *OUT)),
    "explain": (("beta", "--betas", "x"), ("ratings", "--comparisons", "none.csv")),
    "export": ((*OUT, "--format", "none", "pairs.jsonl"), (*OUT, "--format", "trl", "none.jsonl")),
    "view": (("--port", "x", "."), ("none",)),
    "report": (("a", "b"), ("none",)),
    "settings": (("schema", "a", "b"), ("--config", "none.yaml")),
    "completion": (("tcsh",), ("bash", "--config", "none.yaml")),
}
SCRIPT = """
import json, sys
from smidgen.cli import main
found = []
for argv in json.loads(sys.argv[1]):
    try:
        code = main(argv)
    except SystemExit as error:
        code = error.code
    engine = sorted({"torch", "transformers"} & sys.modules.keys())
    if engine or code != (0 if "--help" in argv else 2):
        found.append([argv, code, engine])
        if engine:
            break
print("FOUND", json.dumps(found))
"""


@pytest.mark.slow
def test_no_wrong_flag_or_missing_file_or_help_page_waits_for_the_engine(tmp_path: Path) -> None:
    # The losses are functions on tensors, and every loss is a command with its own flags.
    assert {*WRONG} == {*COMMANDS} - {"train"}
    row = {"prompt": "How?", "chosen": "So.", "rejected": "No."}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    argvs = [
        argv
        for name, (bad_value, no_file) in WRONG.items()
        for argv in ([name, "--help"], [name, "--modle", "x"], [name, *bad_value], [name, *no_file])
    ]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(argvs)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.rpartition("FOUND ")[2].strip() == "[]", done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("bench", "--modle", "X"), r"unknown flag --modle; did you mean --model\? See `smidgen bench --help`"),
        (("bench", "--modle=X"), r"unknown flag --modle; did you mean --model\?"),
        (("bench", "--model", "X", "--modle", "X"), r"unknown flag --modle; did you mean --model\?"),
        (("bench", "--model", "X", "--confg", "x"), r"unknown flag --confg; did you mean --config\?"),
        (("bench", "--model", "X", "--zzzzz"), r"unknown flag --zzzzz; leave it out\."),
        (("bench", "--model"), r"expected a value after --model, got none\."),
        (("bench",), r"expected --model, got none\."),
        (("settings", "schema", "select", "bench"), r"expected flags, each with its value behind it, got 'bench'"),
    ],
    ids=" ".join,
)
def test_a_wrong_flag_is_named_with_its_nearest(command_line: Run, argv: tuple[str, ...], said: str) -> None:
    code, out, err = command_line(*argv)
    assert (code, out) == (2, "")
    assert re.search(said, err), err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prompt: 3\nmodle: x\n", "bad.yaml: unknown settings modle, prompt; did you mean model for modle? See"),
        ("dleta: 1\nwhatever: 2\nwiterations: 3\n", "whatever, witerations; did you mean delta for dleta? See"),
        ("modle: x\n", "bad.yaml: unknown setting modle; did you mean model? See `smidgen minimize --help-all`"),
        ("recipe:\n  lerning_rate: 1\n", "unknown setting recipe.lerning_rate; did you mean recipe.learning_rate?"),
        ("recipe: {epochs: 1, x: 2}\ny: {z: 3}\n", "bad.yaml: unknown settings recipe.x, y; leave them out."),
        ("settings: {delta: 0.1}\n", "'settings' is no setting; name what stands below it at the top level"),
    ],
)
def test_all_unknown_settings_are_named_as_they_are_written(
    command_line: Run, tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
    code, _, err = command_line("minimize", "--config", "bad.yaml", "--pairs", "a", "--model", "m", "--out", "o")
    assert code == 2
    assert said in err


def test_settings_for_no_command_are_no_defect(command_line: Run) -> None:
    for argv in (("settings", "--set", "a=b"), ("--set", "a=b"), ("nothing", "--set", "a=b")):
        code, _, err = command_line(*argv)
        assert "Traceback" not in err
        assert code == (2 if "nothing" in argv else 0)


def test_a_path_into_a_folder_that_is_here_is_asked_of_no_hub(command_line: Run, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    code, _, err = command_line("prepare", "--pairs", "runs/nothere", "--out", "out")
    assert code == 2
    assert "expected a file or folder nothere in the folder runs, which is here, found none" in err
    assert "write runs/nothere#split=train" in err
