"""Pairs into a folder, in a format: rows that read back as they were, a card, and an account of what was left out."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from smidgen.data.checks import EXPLANATIONS, MAX_FIELD_CHARACTERS, BadRow, Quarantined, excerpt
from smidgen.data.export.base import Layout, Row, export_format
from smidgen.data.export.card import Origin, dataset_card
from smidgen.data.export.columns import MetaColumns, meta_columns
from smidgen.data.prepare import pair_row
from smidgen.data.rows import pair_from_row
from smidgen.errors import InvalidData
from smidgen.pairs import PreferencePair
from smidgen.runs import atomic_write

_BLOCK = 8192  # rows that are Python's own objects at one time


@dataclass(frozen=True, slots=True)
class Exported:
    """Pairs in a format.

    Attributes:
        files: Every file's content, by its path in the folder.
        n_pairs: Rows of the data file.
        left_out: Pairs that the format cannot hold.
        meta: The further columns, and what was done to them.
    """

    files: dict[str, bytes]
    n_pairs: int
    left_out: list[Quarantined]
    meta: MetaColumns

    def write(self, folder: Path) -> None:
        """Write the files, each whole or not at all; the card, which names the others, comes last."""
        for path, content in self.files.items():
            with atomic_write(folder / path, "wb") as file:
                file.write(content)


def export_pairs(
    pairs: Sequence[PreferencePair], spec: str, *, name: str, origin: Origin, keep_meta: bool = True
) -> Exported:
    """Pairs in a format, every row as the pair reads back, with `idx`, `source`, `source_row` and further columns.

    Args:
        pairs: With distinct idx.
        spec: A registered format with settings, such as `trl:template=plain`.
        name: Of the dataset, letters, digits, points, dashes and underscores: it may name a file.
        origin: What the card says of them.
        keep_meta: Whether further columns are written.

    Raises:
        UsageError: An unknown format, setting or template.
        InvalidData: No pair that the format can hold.
    """
    layout: Layout = export_format.bind(spec)(name)
    good: list[PreferencePair] = []
    left_out: list[Quarantined] = []
    for pair in pairs:
        try:
            _check(pair, layout)
            good.append(pair)
        except BadRow as bad:
            source = pair.source.encode("utf-8", "backslashreplace").decode()
            left_out.append(Quarantined(source, pair.source_row + 1, pair.idx, bad.reason, bad.detail))
    if not good:
        raise InvalidData(_nothing(left_out))
    meta = meta_columns(good if keep_meta else [])
    table = _table(good, layout, meta)
    data = _encoded(table, layout.path)
    card = dataset_card(
        name,
        origin,
        table,
        path=layout.path,
        file_bytes=len(data),
        usage=layout.usage,
        remarks=list(_remarks(meta, left_out)),
    )
    texts = {**layout.files, "README.md": card}
    files = {layout.path: data} | {path: text.encode() for path, text in texts.items()}
    return Exported(files, len(good), left_out, meta)


def _check(pair: PreferencePair, layout: Layout) -> None:
    """BadRow where it is no usable pair, cannot be said in the format, or would read back as another."""
    pair_from_row(pair_row(pair), idx=pair.idx, source=pair.source, source_row=pair.source_row)
    row = layout.row(pair)
    if layout.reads_back:
        again = pair_from_row(row, idx=pair.idx, source=pair.source, source_row=pair.source_row)
        if (again.prompt, again.chosen, again.rejected) != (pair.prompt, pair.chosen, pair.rejected):
            raise BadRow("not_expressible", f"it would read back as {excerpt(again.prompt_text)}")
    # A line is read back only up to this length, in bytes.
    if (
        not layout.path.endswith(".parquet")
        and len(_line(row | _beside(pair) | dict(pair.meta))) >= MAX_FIELD_CHARACTERS
    ):
        raise BadRow("huge_field", f"as a line it has {MAX_FIELD_CHARACTERS:,} bytes or more")


def _complete(pair: PreferencePair, layout: Layout, meta: MetaColumns, i: int) -> Row:
    further = {name: values[i] for name, values in meta.values.items()}
    return {"idx": pair.idx} | layout.row(pair) | _beside(pair) | further


def _beside(pair: PreferencePair) -> Row:
    return {"idx": pair.idx, "source": pair.source, "source_row": pair.source_row}


def _table(pairs: Sequence[PreferencePair], layout: Layout, meta: MetaColumns) -> pa.Table:
    """All rows, made block by block: as Python's own objects a million of them take many times the table's memory."""
    blocks = [
        pa.Table.from_pylist(
            [_complete(pairs[i], layout, meta, i) for i in range(start, min(start + _BLOCK, len(pairs)))]
        )
        for start in range(0, len(pairs), _BLOCK)
    ]
    # A block may lack what tells a column's type, or hold whole numbers only.
    table = pa.concat_tables(blocks, promote_options="permissive")
    # A column that holds nothing has no type of its own; text is what most would have held.
    return table.cast(pa.schema([(field.name, _named_type(field.type)) for field in table.schema]))


def _named_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_named_type(kind.value_type))
    return kind


def _encoded(table: pa.Table, path: str) -> bytes:
    sink = io.BytesIO()
    if path.endswith(".parquet"):
        pq.write_table(table, sink)
        return sink.getvalue()
    opening, between, closing = (b"", b"\n", b"\n") if path.endswith(".jsonl") else (b"[\n", b",\n", b"\n]\n")
    sink.write(opening)
    for start in range(0, len(table), _BLOCK):
        lines = [_line(row) for row in table.slice(start, _BLOCK).to_pylist()]
        sink.write((between if start else b"") + between.join(lines))
    sink.write(closing)
    return sink.getvalue()


def _line(row: Any) -> bytes:
    return json.dumps(row, ensure_ascii=False, allow_nan=False).encode()


def _remarks(meta: MetaColumns, left_out: Sequence[Quarantined]) -> Iterator[str]:
    yield from (
        f"The column {old} is here {new}: its own name means something else." for old, new in meta.renamed.items()
    )
    yield from (f"The column {name} had values of several kinds, and is text here." for name in meta.as_text)
    for reason, n in Counter(row.reason for row in left_out).items():
        yield f"Left out: {n:,} pairs. {EXPLANATIONS[reason]}"


def _nothing(left_out: Sequence[Quarantined]) -> str:
    if not left_out:
        return "expected at least one pair to export, got none; look at how the subset was made."
    reasons = "; ".join(
        f"{n} {reason} ({EXPLANATIONS[reason]})" for reason, n in Counter(row.reason for row in left_out).most_common(3)
    )
    first = left_out[0]
    return (
        f"expected at least one pair that the format can hold, got none of {len(left_out)}: {reasons}; the first "
        f"is idx {first.idx}: {first.detail}. Take another format or template."
    )
