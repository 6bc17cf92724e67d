"""`smidgen prepare`: a dataset into checked pairs, with an account of every row left out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from smidgen.cli.flags import FLAT, DryRun, Harmful, Harmless, Out, PairData
from smidgen.cli.outcome import Outcome, claimed, left_out
from smidgen.runs import atomic_write

if TYPE_CHECKING:
    from smidgen.data.checks import Leak


def prepare(
    *,
    data: Annotated[PairData, FLAT],
    out: Out,
    model: Annotated[str | None, Parameter(metavar="MODEL")] = None,
    harmful: Harmful = None,
    harmless: Harmless = None,
    dry_run: DryRun = False,
) -> Outcome:
    """Turn a dataset into checked pairs, and list its bad rows.

    Writes pairs.jsonl, quarantine.jsonl (every row left out, with its line and reason) and summary.json; where
    prompts are given, also leaks.jsonl: training prompts that equal or nearly copy one of them.

    Args:
        model: Count tokens with its tokenizer; without it, lengths are not checked.
    """
    arguments = dict(locals())
    from smidgen.data.checks import find_leaks
    from smidgen.data.prepare import prepare_into
    from smidgen.data.prompts import load_prompts

    tokenizer = _tokenizer(model) if model else None
    lists = [path for path in (harmful, harmless) if path]
    benchmark = [prompt for path in lists for prompt in load_prompts(path)]
    if dry_run:
        prepared = data.prepared(tokenizer)
        leaks = find_leaks(prepared.pairs, benchmark)
    else:
        with claimed(out, "prepare", arguments, [*data.pairs, *lists, *([model] if model else [])]):
            prepared = prepare_into(out, data.pairs, **data.checks(tokenizer))
            leaks = find_leaks(prepared.pairs, benchmark)
            if lists:
                _write_leaks(out / "leaks.jsonl", leaks)
    lines = [
        f"{prepared.counts['pairs']} pairs of {prepared.counts['rows']} rows",
        *left_out(prepared),
        *([f"{len(leaks)} training prompts leak from the benchmark"] if lists else []),
        "dry run: nothing written" if dry_run else f"written to {out}",
    ]
    result = {
        "counts": prepared.counts,
        "explanations": dict(prepared.explanations),
        "leaks": len(leaks) if lists else None,
        "out": None if dry_run else str(out),
    }
    return Outcome(result, "\n".join(lines), n_quarantined=len(prepared.quarantine))


def _write_leaks(path: Path, leaks: Sequence[Leak]) -> None:
    with atomic_write(path) as file:
        file.writelines(json.dumps(asdict(leak), ensure_ascii=False) + "\n" for leak in leaks)


def _tokenizer(model: str):
    from smidgen.models.load import load_tokenizer

    return load_tokenizer(model)
