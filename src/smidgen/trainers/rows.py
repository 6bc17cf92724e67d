"""Rows in TRL's formats, read as the project reads its own data; what is left out is counted in a warning."""

from __future__ import annotations

import shutil
import tempfile
import warnings
import weakref
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from smidgen.data.prepare import Prepared, prepare_pairs
from smidgen.data.shapes import SYSTEMS
from smidgen.data.sources import rows_in_memory
from smidgen.errors import UsageError
from smidgen.models.load import LanguageModel
from smidgen.models.reference_store import ReferenceStore

Row = Mapping[str, Any]
# Of `Row`s; a `datasets.Dataset` does not say so of itself.
Rows = Iterable[Any]


def listed(rows: Rows | None, tokenizer: Any, *, what: str) -> list[dict[str, Any]]:
    """Rows as dicts; every answer ends in end of text, so where the data writes it out it is taken off.

    Raises:
        UsageError: None, or several datasets by name.
    """
    if rows is None:
        raise UsageError(f"expected train_dataset, {what}, got None; give a datasets.Dataset or a list.")
    if isinstance(rows, Mapping):
        names = ", ".join(map(str, rows))
        raise UsageError(f"expected one dataset, got a dict of {names}; give one of them, such as a split.")
    end = str(tokenizer.eos_token)
    return [{k: v.removesuffix(end) if isinstance(v, str) else v for k, v in row.items()} for row in rows]


def template_of(rows: Sequence[Row], column: str, template: str | None) -> str:
    """The template given; or texts verbatim, and the tokenizer's own for lists of messages."""
    if template is not None:
        return template
    return "chat" if rows and isinstance(rows[0].get(column), list) else "verbatim"


def most_tokens(lm: LanguageModel, max_length: int | None) -> int:
    """Of an example; the last token is predicted and not fed, so it needs no position."""
    return min(max_length or lm.max_positions + 1, lm.max_positions + 1)


def counted(reasons: Iterable[str], n_rows: int, *, name: str = "train_dataset") -> dict[str, int]:
    """How many rows were left out for which reason; with a warning where any were."""
    counts = dict(sorted(Counter(reasons).items()))
    if counts:
        each = ", ".join(f"{count} {reason}" for reason, count in counts.items())
        warnings.warn(f"{sum(counts.values())} of {n_rows} rows left out: {each} ({name}).", UserWarning, stacklevel=4)
    return counts


def prepared_pairs(
    rows: Sequence[Row],
    tokenizer: Any,
    *,
    max_length: int | None,
    template: str | None,
    name: str = "train_dataset",
    encode: bool = True,
) -> tuple[Prepared, str]:
    """Checked pairs, as token ids too unless `encode` is off, and the name of their template.

    Raises:
        InvalidData: No usable pair.
    """
    dialogues = bool(rows) and "prompt" not in rows[0] and isinstance(rows[0].get("chosen"), str)
    template = template or ("hh" if dialogues else template_of(rows, "chosen", None))
    # TRL passes over a system prompt in a column of its own; the project's own sources put it before the prompt.
    known = [{key: value for key, value in row.items() if key not in SYSTEMS} for row in rows]
    prepared = prepare_pairs(
        rows_in_memory(known, name=name),
        template=template,
        tokenizer=tokenizer if encode else None,
        max_length=max_length,
        max_bad_fraction=1.0,
    )
    return prepared, template


def scratch_store() -> ReferenceStore:
    """A store of reference values that is gone with whoever holds it."""
    folder = tempfile.mkdtemp(prefix="smidgen-")
    store = ReferenceStore(Path(folder) / "reference.sqlite")
    weakref.finalize(store, shutil.rmtree, folder, ignore_errors=True)
    return store
