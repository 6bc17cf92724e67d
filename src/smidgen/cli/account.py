"""A command whose result is one file: the account of its run stands beside it, in a folder of nearly the same name.

`pairs.jsonl` made by `critique` has its account in `pairs.critique/`. A file there that this very run did not write is
never overwritten.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from smidgen.errors import UsageError
from smidgen.runs import file_hash, json_lines, read_json, sweep_beside, write_json, write_text

# Which contents of the result are this run's own, by their hash: noted before they are written, so that a run killed
# between the two still knows its file.
OWN = "written.json"
SUMMARY = "summary.json"


def account_folder(out: Path, command: str) -> Path:
    """The folder of the account of `out`.

    Raises:
        UsageError: `out` is a folder, or not named as JSONL.
    """
    if out.is_dir() or out.suffix != ".jsonl":
        raise UsageError(f"expected --out to be a file that ends in .jsonl, got {out}; give for example pairs.jsonl.")
    return out.with_name(f"{out.stem}.{command}")


def refuse_foreign(out: Path, account: Path) -> None:
    """UsageError where a file stands at `out` that the run of this account did not write."""
    if out.exists() and not _is_own(out, account):
        raise UsageError(
            f"{out} stands there and is not what this run wrote; expected no file, or its own. "
            "Give another --out, or move that file away."
        )


def finished_before(out: Path, account: Path) -> dict[str, Any] | None:
    """The summary of a run that was done, where its result still stands as it was written.

    Done is what nothing waits in, and what has an answer to every question: asked again, others might come.
    """
    if not (account / SUMMARY).exists() or not out.exists() or not _is_own(out, account):
        return None
    summary = read_json(account / SUMMARY)
    return None if summary["counts"]["waiting"] or summary["counts"].get("unanswered") else summary


def write_result(out: Path, account: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSONL, whole or not at all, in place of what this run wrote before.

    Raises:
        UsageError: Another file stands there.
    """
    refuse_foreign(out, account)
    sweep_beside(out)
    text = json_lines(rows)
    hashes = [hashlib.sha256(text.encode()).hexdigest(), *([file_hash(out)] if out.exists() else [])]
    write_json(account / OWN, {"sha256": hashes})
    write_text(out, text)


def _is_own(out: Path, account: Path) -> bool:
    return (account / OWN).exists() and file_hash(out) in read_json(account / OWN)["sha256"]
