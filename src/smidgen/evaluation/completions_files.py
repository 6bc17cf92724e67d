"""Files of completions: text blocks for people, and JSONL beside it, which also says how they were drawn."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from smidgen.data.checks import BadRow
from smidgen.data.readers import data_suffix, read_lines, read_records
from smidgen.errors import InvalidData, UsageError
from smidgen.evaluation.completions import Completed, Completions, letter
from smidgen.evaluation.completions_text import from_text, to_text
from smidgen.runs import json_lines, write_text

_COLUMNS = ("number", "model", "label", "prompt", "completions")
_PROMPT_KINDS = {"prompts", "prefixes", "posts", "questions", "inputs", "texts", "articles"}
_PLURALS = {"SUMMARY": "summaries"}


def plural(label: str) -> str:
    """What completions of this label are called in the name of their file.

    >>> plural("COMPLETION"), plural("SUMMARY")
    ('completions', 'summaries')
    """
    return _PLURALS.get(label, f"{label.lower()}s")


def name_for(prompts: Path | str, label: str) -> str:
    """What the completions of a file of prompts are called, from that file's name; what is one already stays.

    >>> name_for("input_shakespeare_prefixes.txt", "COMPLETION"), name_for("data/five.jsonl", "SUMMARY")
    ('shakespeare_completions', 'five_summaries')
    """
    name = Path(prompts).name.removesuffix(".gz")
    words = file_word(name.rpartition(".")[0] or name).removeprefix("input_")
    if words.endswith(f"_{plural(label)}"):
        return words
    topic, _, kind = words.rpartition("_")
    return f"{topic if topic and kind.lower() in _PROMPT_KINDS else words}_{plural(label)}"


def model_name(name_or_path: str | Path) -> str:
    """A model's name, for people and files: the last part of its path or hub name, or the run's whose model it is.

    >>> model_name("CarperAI/openai_summarize_tldr_sft"), model_name("runs/sft/model")
    ('openai_summarize_tldr_sft', 'sft')
    """
    path = Path(name_or_path)
    if path.is_dir():
        path = path.resolve()
    name = path.parent.name if path.name == "model" and path.parent.name else path.name
    return file_word(name) or "model"


def file_word(text: str) -> str:
    """A text as a word of a file's name: whatever else stands in it becomes a hyphen."""
    return re.sub(r"[^\w.+-]+", "-", text)


def write_completions_text(path: Path | str, completions: Completions) -> None:
    """Write blocks that `read_completions` reads back to the character; how they were drawn is not in them.

    Raises:
        InvalidData: A text with half a surrogate pair, which no text file can hold.
        UsageError: A label that is no word in capital letters.
    """
    text = to_text(completions)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise InvalidData(
            f"{path}, line {line}: expected text that UTF-8 can hold, got half a surrogate pair, "
            f"U+{ord(text[error.start]):04X}. Write JSONL instead, or replace that character."
        ) from None
    write_text(path, text)


def write_completions_jsonl(path: Path | str, completions: Completions) -> None:
    """Write one row a prompt, with its completions as a list and how they were drawn; any part of it stands alone."""
    write_text(path, json_lines(_json_rows(completions)))


def read_completions(
    path: Path | str, *, model: str | None = None, prompts: Sequence[str] | None = None
) -> Completions:
    """The completions in a file, of either form, or in the folder that `smidgen generate` made.

    Args:
        path: A `.jsonl` file, or else a text file; a `.gz` after it is fine.
        model: Who wrote them, in place of what the file or its name says. A text file's name tells it as in
            `output_shakespeare_completions_gpt2.txt`.
        prompts: What was asked, for text files that have no headings of prompts.

    Raises:
        UsageError: No such file, or a folder without such a file or with several.
        InvalidData: What is no completion where one is expected; says which line.
    """
    path = _file_in(Path(path))
    if data_suffix(path):
        return _from_records(path, model)
    text = "".join(_lines(path))
    found = from_text(text, source=str(path), model=model or "", prompts=prompts)
    return found if model else Completions(model=_model_in(path, found.label), rows=found.rows, label=found.label)


def _file_in(path: Path) -> Path:
    if path.is_file():
        return path
    found = sorted(path.glob("output_*.jsonl")) if path.is_dir() else []
    if len(found) != 1:
        got = f"{len(found)} files output_*.jsonl there" if path.is_dir() else "nothing there"
        raise UsageError(
            f"expected a file of completions at {path}, got {got}. Give the .txt or .jsonl file, or the folder that "
            "`smidgen generate` made."
        )
    return found[0]


def _lines(path: Path) -> Iterator[str]:
    for line, raw in read_lines(path):
        try:
            if isinstance(raw, BadRow):
                raise raw
            yield raw.decode("utf-8")
        except (UnicodeDecodeError, BadRow) as error:
            detail = error.detail if isinstance(error, BadRow) else f"another byte at {error.start}"
            raise InvalidData(
                f"{path}, line {line}: expected text in UTF-8, got {detail}. Convert that file."
            ) from None


def _model_in(path: Path, label: str) -> str:
    """The model that a text file's name tells: what stands behind the word for its completions, or at its end."""
    stem = path.name.removesuffix(".gz").removesuffix(".txt")
    words = {plural(label), *map(plural, ("COMPLETION", "SUMMARY"))}
    return re.split(rf"_(?:{'|'.join(sorted(words))})_", stem, maxsplit=1)[-1].removeprefix("output_")


def _json_rows(completions: Completions) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(completions.rows, start=1):
        found = {"number": number, "model": completions.model, "label": completions.label, "prompt": row.prompt}
        found |= {"completions": list(row.texts), "cut": list(row.cut) or None}
        yield found | {"settings": dict(completions.meta)}


def _from_records(path: Path, model: str | None) -> Completions:
    rows: list[dict[str, Any]] = []
    for line, row in read_records(path, columns=_COLUMNS):
        if problem := _problem(row, rows):
            raise InvalidData(
                f"{path}, line {line}: expected a row with {', '.join(_COLUMNS)} (a list of texts), got {problem}. "
                "Correct that line, or write the file anew."
            )
        rows.append(row)
    return Completions(
        model=model or rows[0]["model"],
        rows=tuple(Completed(row["prompt"], tuple(row["completions"]), tuple(row.get("cut") or ())) for row in rows),
        label=rows[0]["label"],
        meta=rows[0].get("settings") or {},
    )


def _problem(row: Any, before: Sequence[dict[str, Any]]) -> str:
    """What is wrong with a row after those before it; empty where nothing is."""
    if isinstance(row, BadRow):
        return f"{row.reason}: {row.detail}"
    if not isinstance(row, dict):
        return f"{type(row).__name__}"
    for name in _COLUMNS:
        if name not in row:
            return f"no {name}"
    texts = row["completions"]
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        return f"completions = {json.dumps(texts, default=str)[:50]}"
    for name in ("model", "label", "prompt"):
        if not isinstance(row[name], str):
            return f"{name} = {json.dumps(row[name], default=str)[:50]}"
    if row["number"] != len(before) + 1:
        return f"number {row['number']!r} where {len(before) + 1} comes next"
    for name in ("model", "label"):
        if before and row[name] != before[0][name]:
            return f"{name} {row[name]!r} behind rows of {before[0][name]!r}"
    if before and len(texts) != len(before[0]["completions"]):
        return f"completions A to {letter(len(texts) - 1)} behind rows of {len(before[0]['completions'])}"
    cut, settings = row.get("cut"), row.get("settings", {})
    if cut is not None and (not isinstance(cut, list) or [type(c) for c in cut] != [bool] * len(texts)):
        return f"cut = {json.dumps(cut, default=str)[:50]}"
    return "" if isinstance(settings, dict) else f"settings = {json.dumps(settings, default=str)[:50]}"
