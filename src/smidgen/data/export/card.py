"""A dataset's card: README.md; its metadata names columns, files and licence, its text says how pairs were chosen.

Source: Hugging Face Hub documentation, "Dataset Cards" and "Data files Configuration".
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import yaml

from smidgen.errors import UsageError

_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
_LICENSE = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")
_TYPES = {pa.int64(): "int64", pa.float64(): "float64", pa.bool_(): "bool", pa.string(): "string"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a card says of where its pairs come from.

    Attributes:
        sources: Files or datasets, by name.
        license: Its identifier on hubs, such as cc-by-4.0; None where nobody stated one.
        how: How the pairs were chosen, in a sentence.
        facts: What belongs to that sentence, by name.
        limits: What it does not say.

    Raises:
        UsageError: A licence that is no identifier.
    """

    sources: Sequence[str]
    license: str | None = None
    how: str = "All usable pairs of the data."
    facts: Mapping[str, Any] = field(default_factory=dict)
    limits: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.license is not None and not _LICENSE.fullmatch(self.license):
            raise UsageError(
                f"expected a licence's identifier in lower case, such as mit or cc-by-4.0, got {self.license!r}; "
                "write other for one that has none."
            )


def dataset_card(
    name: str,
    origin: Origin,
    schema: pa.Schema,
    *,
    n_pairs: int,
    table_bytes: int,
    path: str,
    file_bytes: int,
    usage: str,
    remarks: Sequence[str],
) -> str:
    """The card of a dataset of one file.

    Args:
        name: The dataset's name.
        origin: Where it comes from.
        schema: Of the data as a table.
        n_pairs: Its rows.
        table_bytes: What the table takes in memory.
        path: Of the data file, beside the card.
        file_bytes: Its size.
        usage: What to do with it, in Markdown.
        remarks: What was done to columns or rows on the way, a sentence each.
    """
    metadata = _metadata(name, origin, schema, n_pairs, table_bytes, path, file_bytes)
    head = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)
    sources = ", ".join(_code(source) for source in origin.sources)
    licence = origin.license or "not stated; that of the source data applies"
    facts = "".join(f"| {_plain(str(key))} | {_plain(str(value))} |\n" for key, value in origin.facts.items())
    limits = "".join(f"- {_plain(limit)}\n" for limit in origin.limits)
    remarked = "".join(f"- {_plain(remark)}\n" for remark in remarks)
    return (
        f"---\n{head}---\n# {_plain(name)}\n\n{n_pairs:,} preference pairs from {sources}, written by Smidgen.\n"
        f"`idx` is a pair's position in that data. Licence: {licence}.\n\n"
        f"## How the pairs were chosen\n\n{_plain(origin.how)}\n"
        + (f"\n| | |\n|---|---|\n{facts}" if facts else "")
        + (f"\nLimits:\n\n{limits}" if limits else "")
        + f"\n## Use\n\n{usage}"
        + (f"\n## Remarks\n\n{remarked}" if remarked else "")
    )


def _metadata(
    name: str, origin: Origin, schema: pa.Schema, n_pairs: int, table_bytes: int, path: str, file_bytes: int
) -> dict[str, Any]:
    size = next((text for limit, text in _SIZES if n_pairs < limit), "n>10M")
    return {
        "pretty_name": name,
        **({"license": origin.license} if origin.license else {}),
        "task_categories": ["text-generation"],
        "size_categories": [size],
        "tags": ["preference", "dpo", "smidgen"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": path}]}],
        "dataset_info": {
            "config_name": "default",
            "features": [_feature(column) for column in schema],
            "splits": [{"name": "train", "num_bytes": table_bytes, "num_examples": n_pairs}],
            "download_size": file_bytes,
            "dataset_size": table_bytes,
        },
    }


def _feature(column: pa.Field) -> dict[str, Any]:
    found = _type(column.type)
    return {"name": column.name, **(found if isinstance(found, dict) else {"dtype": found})}


def _type(kind: pa.DataType) -> Any:
    """A column's type as a card names it: a word, or the fields of a structure."""
    if pa.types.is_list(kind):
        inner = _type(kind.value_type)
        return {"list": inner["struct"] if isinstance(inner, dict) and "struct" in inner else inner}
    if pa.types.is_struct(kind):
        return {"struct": [_feature(field) for field in kind]}
    return _TYPES[kind]


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line and in one cell."""
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def _code(text: str) -> str:
    return f"`{' '.join(text.replace('`', '').split())}`"
