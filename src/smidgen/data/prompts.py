"""Prompt lists: reading them, and splitting them into a part to search on and a part to confirm on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from smidgen.data.checks import BadRow, check_text, normal_words
from smidgen.data.literals import read_literals, split_reference
from smidgen.data.readers import read_lines, read_records
from smidgen.errors import InvalidData, UsageError

PromptFormat = Literal["lines", "blocks"]


def load_prompts(path: Path | str, *, form: PromptFormat | None = "lines") -> list[str]:
    """The prompts of a file, in its order: text, a JSON list, or JSONL or CSV with a `prompt` column.

    Any of them may be gzipped. `FILE.py#NAME` is the list NAME that a Python file writes out; the file is not run.
    Blank lines of a text file are no prompts; a repeated prompt stays. A benchmark with holes is not the benchmark its
    user named, so one bad prompt refuses the file.

    Args:
        path: The file.
        form: What a prompt is in a text file: a line, or a block of lines between blank ones. None for lines, unless
            the file might be meant as blocks: has blank lines between others, and several lines together.

    Raises:
        UsageError: No such file, or without a form one that might be meant as blocks.
        InvalidData: An unreadable line, a prompt that is empty or not text, or no prompt at all; says which line.
    """
    path, name = split_reference(path)
    if not path.is_file():
        raise UsageError(f"expected a prompt file at {path}, found none; give a .txt, .json, .jsonl or .csv file.")
    if name:
        values = read_literals(path, name)
    else:
        values = _text_values(path, form) if _is_text(path) else read_records(path, columns=("prompt",))
    prompts = []
    for line, value in values:
        try:
            prompts.append(_prompt(value))
        except BadRow as bad:
            raise InvalidData(
                f"{path}, line {line}: expected a prompt, got {bad.reason}: {bad.detail}. Correct or remove that line."
            ) from None
    if not prompts:
        raise InvalidData(f"{path}: expected at least one prompt, found none; put one prompt a line.")
    return prompts


def split_prompts(
    prompts: Sequence[str], *, confirm_fraction: float = 0.5, seed: int = 0
) -> tuple[list[str], list[str]]:
    """Split prompts into dev and confirm by a hash of their words, so that neither order nor company matters.

    Prompts that differ only in case, spacing or punctuation fall on the same side.

    Returns:
        (dev, confirm), each in the order given; the share of confirm is `confirm_fraction` on average, not exactly.

    Raises:
        UsageError: `confirm_fraction` is not inside (0, 1), or one side stays empty.
    """
    if not 0 < confirm_fraction < 1:
        raise UsageError(f"expected a confirm fraction between 0 and 1, got {confirm_fraction}; 0.5 halves the list.")
    sides: tuple[list[str], list[str]] = ([], [])
    for prompt in prompts:
        sides[_fraction(prompt, seed) < confirm_fraction].append(prompt)
    if not all(sides):
        raise UsageError(
            f"expected prompts for both dev and confirm, got {len(sides[0])} and {len(sides[1])} of {len(prompts)}. "
            "Give more prompts, or a separate file for confirm."
        )
    return sides


def _fraction(prompt: str, seed: int) -> float:
    """A number in [0, 1) that depends on the prompt's words and the seed alone."""
    words = " ".join(normal_words(prompt)) or prompt.strip()
    digest = hashlib.sha256(f"{seed}\n{words}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _is_text(path: Path) -> bool:
    return path.suffix in (".txt", "") or path.name.endswith(".txt.gz")


def _text_values(path: Path, form: PromptFormat | None) -> Iterator[tuple[int, str | BadRow]]:
    blocks = _blocks(path)
    if form is None and len(blocks) > 1 and (several := [block for block in blocks if len(block) > 1]):
        lines = sum(map(len, blocks))
        raise UsageError(
            f"{path}: expected to know whether a prompt is a line or a block, since blank lines part its {lines} lines "
            f"into {len(blocks)} blocks, that of line {several[0][0][0]} with {len(several[0])} lines. Give "
            f"--prompt-format blocks for {len(blocks)} prompts, or --prompt-format lines for {lines}."
        )
    for block in blocks:
        if form == "blocks":
            bad = next(((line, text) for line, text in block if isinstance(text, BadRow)), None)
            yield bad or (block[0][0], "\n".join(str(text) for _, text in block))
        else:
            yield from block


def _blocks(path: Path) -> list[list[tuple[int, str | BadRow]]]:
    """Numbered lines of a text file, those together between which there is no blank one."""
    blocks: list[list[tuple[int, str | BadRow]]] = []
    last = None
    for line, raw in read_lines(path):
        try:
            text = raw if isinstance(raw, BadRow) else raw.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            text = BadRow("wrong_encoding", f"not UTF-8 at byte {error.start}")
        if isinstance(text, BadRow) or text.strip():
            if last != line - 1:
                blocks.append([])
            blocks[-1].append((line, text))
            last = line
    return blocks


def _prompt(value: Any) -> str:
    if isinstance(value, BadRow):
        raise value
    if isinstance(value, dict):
        if "prompt" not in value:
            raise BadRow("missing_column", f"no prompt among the columns {', '.join(map(str, value)) or '(none)'}")
        value = value["prompt"]
    return check_text(value, "prompt")
