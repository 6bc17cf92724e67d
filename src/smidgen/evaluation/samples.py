"""Sample preferences: what "better" means, shown by examples. Pairs in any file of records, or text in sections."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from smidgen.data.checks import BadRow
from smidgen.data.readers import read_lines, read_records
from smidgen.errors import InvalidData, UsageError

_HEADING = re.compile(r"\s*[#*\-=]*\s*(prompt|chosen|rejected)\s*\d*\s*:?\s*[*\-=]*\s*$", re.IGNORECASE)
_INLINE = re.compile(r"\s*(prompt|chosen|rejected)\s*(?:\d+\s*)?:\s?(.*)$", re.IGNORECASE)
_PARTS = ("prompt", "chosen", "rejected")
_AFTER = {"": "prompt", "prompt": "chosen", "chosen": "rejected", "rejected": "prompt"}


@dataclass(frozen=True, slots=True)
class Sample:
    """One preference, as texts."""

    prompt: str
    chosen: str
    rejected: str


def read_samples(path: Path | str) -> list[Sample]:
    r"""The preferences in a file, in its order.

    A file that ends in .txt holds sections: `PROMPT`, `CHOSEN` and `REJECTED`, each on a line of its own (a number and
    a colon may follow it), with its text below, or before its text after a colon; in this order, again and again. Any
    other file has records with prompt, chosen and rejected, whose texts may hold lines that read as these words.

    Raises:
        UsageError: No such file.
        InvalidData: A sample without one of its parts or with them in another order, or no sample at all; says where.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(
            f"expected a file of sample preferences at {path}, found none; give pairs or sections of text."
        )
    samples = []
    for place, parts in _sections(path) if ".txt" in path.suffixes else _records(path):
        missing = [name for name in _PARTS if not isinstance(parts.get(name), str) or not str(parts[name]).strip()]
        if missing:
            raise InvalidData(
                f"{path}, {place}: expected a prompt, a chosen and a rejected text, got none for {', '.join(missing)}. "
                "Complete that sample, or take it out."
            )
        samples.append(Sample(*(str(parts[name]) for name in _PARTS)))
    if not samples:
        raise InvalidData(f"{path}: expected at least one sample preference, found none; see PROMPT, CHOSEN, REJECTED.")
    return samples


def _records(path: Path) -> Iterator[tuple[str, dict[str, object]]]:
    for line, row in read_records(path, columns=_PARTS):
        if not isinstance(row, dict):
            got = f"{row.reason}: {row.detail}" if isinstance(row, BadRow) else type(row).__name__
            raise InvalidData(f"{path}, line {line}: expected a sample, got {got}. Correct or remove that line.")
        yield f"line {line}", row


def _sections(path: Path) -> Iterator[tuple[str, dict[str, object]]]:
    current: dict[str, list[str]] = {}
    name, begun, start = "", 0, 0
    for line, raw in read_lines(path):
        if isinstance(raw, BadRow):
            raise InvalidData(f"{path}, line {line}: expected text, got {raw.reason}: {raw.detail}. Correct that line.")
        try:
            text = raw.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise InvalidData(f"{path}, line {line}: expected UTF-8, got other bytes. Convert that file.") from None
        # One space for many: the heading's pattern tries every way to share them out among its parts.
        if found := _HEADING.match(" ".join(text.split())) or _INLINE.match(text):
            if found[1].lower() != (due := _AFTER[name]):
                last = f", after {name.upper()} on line {begun}" if name else ""
                raise InvalidData(
                    f"{path}, line {line}: expected {due.upper()}{last}, got {found[1].upper()}. Order the sections "
                    "so; samples with such a line within a text go into a file of records, such as JSONL."
                )
            name, begun = due, line
            if current and name == "prompt":
                yield f"line {start}", _joined(current)
                current = {}
            start = start if current else line
            current[name] = [found[2]] if found.re is _INLINE and found[2] else []
        elif name:
            current[name].append(text)
        elif text.strip():
            raise InvalidData(f"{path}, line {line}: expected PROMPT, CHOSEN or REJECTED, got {text[:40]!r}. Begin so.")
    if current:
        yield f"line {start}", _joined(current)


def _joined(parts: dict[str, list[str]]) -> dict[str, object]:
    return {name: "\n".join(lines).strip() for name, lines in parts.items()}
