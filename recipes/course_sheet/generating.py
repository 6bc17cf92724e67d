"""What both of the sheet's generating scripts do: `smidgen generate`, and its text under the sheet's name."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from smidgen.cli import main as smidgen
from smidgen.evaluation.completions_files import model_name
from smidgen.models.load import wanted_device


def generate(
    argv: Sequence[str] | None, *, about: str | None, model: str, prompts: str, output: str, flags: Sequence[str]
) -> int:
    """Write what a model says to a file of prompts beside that file; the exit code.

    Args:
        argv: The script's arguments; those that are not its own go to `smidgen generate`.
        about: The script's docstring.
        model: Where `--model` is not given: a folder in Hugging Face format, or a hub name.
        prompts: Name of the prompt file.
        output: Start of the output's name, before the model's.
        flags: For `smidgen generate`; those in `argv` go first.
    """
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=about,
        epilog="Further flags, such as --prompt-format blocks, go to `smidgen generate`.",
    )
    parser.add_argument("--model", default=model, help="a folder in Hugging Face format, or a hub name (%(default)s)")
    parser.add_argument("--folder", type=Path, default=Path(), help="has the prompts, gets the output (here)")
    own, further = parser.parse_known_args(argv)

    name = sheet_name(own.model)
    kept = own.folder / "runs" / f"{output}_{name}"
    # Half the memory, without which neither model fits a T4; processors are slow at it.
    dtype = "float32" if wanted_device() == "cpu" else "float16"
    given = {word.partition("=")[0] for word in further}
    defaults = [*flags, f"--dtype={dtype}", "--template=verbatim"]
    code = smidgen([
        "generate", "--model", own.model, "--prompts", str(own.folder / prompts), "--out", str(kept),
        "--name", output.removeprefix("output_"),
        *(flag for flag in defaults if flag.partition("=")[0] not in given), *further,
    ])  # fmt: skip
    written = kept / f"{output}_{model_name(own.model)}.txt"
    if code == 0 and written.exists():
        target = own.folder / f"{output}_{name}.txt"
        shutil.copyfile(written, target)
        print(target)
    return code


def sheet_name(model: str) -> str:
    """What the sheet calls a model: the last part of its name, but for the two summarisers.

    >>> sheet_name("CarperAI/openai_summarize_tldr_ppo"), sheet_name("course-genai-w24/week4-phi-1.5-sft-shakespeare")
    ('week5-ppo-tldr', 'week4-phi-1.5-sft-shakespeare')
    """
    name = model_name(model)
    return {"openai_summarize_tldr_sft": "week5-sft-tldr", "openai_summarize_tldr_ppo": "week5-ppo-tldr"}.get(
        name, name
    )
