"""What must hold of a block whether or not it runs: commands and flags that there are, and data that parses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import yaml
from tests.docs.commands import complaint, find_commands, known_flags, split_flags
from tests.docs.pages import Block


def check_block(block: Block) -> None:
    """What must hold of a block whether or not it runs: known flags, and data that parses.

    Raises:
        PageError: An unknown command or flag, a quotation that is not closed, Python, JSON or YAML that does not parse.
    """
    try:
        if block.language in ("bash", "console", "text"):
            _check_commands(block)
        elif block.language == "python" and block.mode == "not":
            compile(block.code, block.page, "exec")
        elif block.language == "json":
            _parse_json(block.code)
        elif block.language == "yaml":
            list(yaml.safe_load_all(block.code))
    except (ValueError, SyntaxError, yaml.YAMLError) as error:
        raise block.error(f"expected {block.language}, got what does not parse: {error}") from error


def _check_commands(block: Block) -> None:
    text = block.code
    if block.language == "console":
        text = "".join(line + "\n" if line else "\n" for line in console_commands(text))
    commands = list(find_commands(text) if block.language != "text" else _told_commands(text))
    for line, words in commands:
        if found := complaint(words):
            raise block.error(found, block.line + line)
    for flag in split_flags(block.flags):
        if not any(known_flags(words, flag) for _, words in commands):
            raise block.error(f"expected a smidgen command that takes {flag[0]}, got none in this block")


def _told_commands(text: str) -> Iterator[tuple[int, list[str]]]:
    """Commands in prose or output: lines that begin with one, up to what is told beside it."""
    for at, line in enumerate(text.splitlines()):
        if re.match(r"smidgen [a-z]", line):
            yield at, line.split()[1:]


def _parse_json(text: str) -> None:
    try:
        json.loads(text)
    except ValueError:
        for line in filter(str.strip, text.splitlines()):
            json.loads(line)


def console_commands(text: str) -> list[str]:
    """The commands of a transcript, each at its line; other lines empty."""
    lines, going_on = [], False
    for line in text.splitlines():
        is_command = line.startswith("$ ") or going_on
        lines.append(line.removeprefix("$ ") if is_command else "")
        going_on = is_command and line.endswith("\\")
    return lines
