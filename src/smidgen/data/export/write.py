"""Pairs into a folder, in a format: rows that read back as they were, a card, and an account of what was left out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

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
_GROUP = 1 << 20  # rows in a Parquet file's group, its library's own choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """Pairs in a format, whose rows are made as they are written.

    Attributes:
        name: The dataset's.
        origin: What the card says of the pairs.
        layout: The format.
        pairs: Those that it can hold.
        left_out: Those that it cannot.
        meta: The further columns, and what was done to them.
        schema: Of the data as a table.
    """

    name: str
    origin: Origin
    layout: Layout
    pairs: Sequence[PreferencePair]
    left_out: list[Quarantined]
    meta: MetaColumns
    schema: pa.Schema

    def write(self, folder: Path | None) -> dict[str, int]:
        """Write the files, each whole or not at all; the card, which names the others, comes last.

        Args:
            folder: None to count only.

        Returns:
            Every file's size in bytes by its path in the folder.
        """
        sizes: dict[str, int] = {}
        with _opened(folder, self.layout.path) as file:
            table_bytes = self._write_data(file)
            sizes[self.layout.path] = file.tell()
        card = dataset_card(
            self.name,
            self.origin,
            self.schema,
            n_pairs=len(self.pairs),
            table_bytes=table_bytes,
            path=self.layout.path,
            file_bytes=sizes[self.layout.path],
            usage=self.layout.usage,
            remarks=list(_remarks(self.meta, self.left_out)),
        )
        for path, text in {**self.layout.files, "README.md": card}.items():
            with _opened(folder, path) as file:
                file.write(text.encode())
                sizes[path] = file.tell()
        return sizes

    def _write_data(self, file: IO[bytes]) -> int:
        """Write the rows; bytes that they take as a table."""
        table_bytes = 0

        def tables() -> Iterator[pa.Table]:
            nonlocal table_bytes
            for block in _blocks(self.pairs, self.layout, self.meta):
                # A block may lack what tells a column's type, or hold whole numbers only.
                table = pa.concat_tables([self.schema.empty_table(), block], promote_options="permissive")
                table = table.cast(self.schema)
                table_bytes += table.nbytes
                yield table

        if self.layout.path.endswith(".parquet"):
            _write_parquet(file, self.schema, tables())
        else:
            _write_json(file, tables(), is_list=not self.layout.path.endswith(".jsonl"))
        return table_bytes


def _opened(folder: Path | None, path: str) -> AbstractContextManager[Any]:
    return nullcontext(pa.MockOutputStream()) if folder is None else atomic_write(folder / path, "wb")


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
    schema = _schema(_blocks(good, layout, meta))
    return Exported(name=name, origin=origin, layout=layout, pairs=good, left_out=left_out, meta=meta, schema=schema)


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


def _blocks(pairs: Sequence[PreferencePair], layout: Layout, meta: MetaColumns) -> Iterator[pa.Table]:
    """All rows, block by block: as Python's own objects a million of them take many times the pairs' memory."""
    for start in range(0, len(pairs), _BLOCK):
        rows = range(start, min(start + _BLOCK, len(pairs)))
        yield pa.Table.from_pylist([_complete(pairs[i], layout, meta, i) for i in rows])


def _schema(blocks: Iterable[pa.Table]) -> pa.Schema:
    """Columns with types that hold every block's values."""
    found = pa.unify_schemas([block.schema for block in blocks], promote_options="permissive")
    # A column that holds nothing has no type of its own; text is what most would have held.
    return pa.schema([(field.name, _named_type(field.type)) for field in found])


def _named_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_named_type(kind.value_type))
    return kind


def _write_parquet(file: IO[bytes], schema: pa.Schema, tables: Iterator[pa.Table]) -> None:
    with pq.ParquetWriter(file, schema) as writer:
        # A group of rows is written column by column, so it has to be there whole.
        while group := list(islice(tables, max(1, _GROUP // _BLOCK))):
            writer.write_table(pa.concat_tables(group))


def _write_json(file: IO[bytes], tables: Iterator[pa.Table], *, is_list: bool) -> None:
    opening, between, closing = (b"[\n", b",\n", b"\n]\n") if is_list else (b"", b"\n", b"\n")
    for table in tables:
        file.write(opening + between.join(map(_line, table.to_pylist())))
        opening = between
    file.write(closing)


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
