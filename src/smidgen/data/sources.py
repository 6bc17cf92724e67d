"""Where rows come from: files, folders and hub datasets, one after the other, each row with its place.

A row's `idx` is its position in everything loaded, bad rows counted, so that it means the same whatever is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from smidgen.data.checks import BadRow, Quarantined
from smidgen.data.readers import SUFFIXES, data_suffix, read_records
from smidgen.data.records import PAIR_COLUMNS, Columns, Record, as_json
from smidgen.data.rows import is_scalar, whole_number
from smidgen.data.shapes import used_columns
from smidgen.errors import InvalidData, UsageError


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as it stood.

    Attributes:
        source: The file's name (its path, where two files share a name) or the dataset's.
        line: One-based line, see `checks.Quarantined`.
        row: Zero-based record within the source, bad ones counted, blank lines not.
        idx: Position in everything loaded, or the single source's own `idx`.
        columns: What was read; usually a dict.
        meta: The file's own idx as `source_idx`, where several sources make it ambiguous.
    """

    source: str
    line: int
    row: int
    idx: int
    columns: Any
    meta: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Loaded:
    """Rows, records that were none, how many records there were, and columns that no pair can carry."""

    rows: list[RawRow]
    quarantine: list[Quarantined]
    n_rows: int
    dropped_columns: tuple[str, ...] = ()


Source = str | Path


def load_rows(sources: Source | Sequence[Source], *, split: str = "train", columns: Columns = PAIR_COLUMNS) -> Loaded:
    """Read sources one after the other.

    Args:
        sources: A file (.jsonl, .json, .csv, .parquet, also .gz), a folder (its data files, sorted by path), or a hub
            dataset: `owner/name`, with `#folder` for a data_dir, or `#key=value,…` of name, data_dir, revision, split.
        split: Of hub datasets; also a slice such as `train[:5000]`.
        columns: What a CSV header or Parquet schema must name.

    Raises:
        UsageError: A source that is not there or not known.
        InvalidData: A source that is empty, unreadable or without the columns needed.
    """
    return _read([part for source in _as_list(sources) for part in _parts(source, split, columns)])


def rows_in_memory(rows: Iterable[Mapping[str, Any]], *, name: str = "rows") -> Loaded:
    """Rows that are there already, such as a list of dicts or a `datasets.Dataset`.

    Raises:
        InvalidData: No rows.
    """
    loaded = _read([(name, name, ((i, _own_values(row)) for i, row in enumerate(rows, start=1)))])
    if not loaded.n_rows:
        raise InvalidData(f"{name}: expected at least one row, got none; look at how the dataset was made.")
    return loaded


def _own_values(row: Mapping[str, Any]) -> dict[str, Any]:
    return {column: as_json(value) for column, value in row.items()}


def _read(parts: list[Part]) -> Loaded:
    rows: list[RawRow] = []
    bad: list[tuple[Quarantined, int]] = []
    n_rows = 0
    for name, records in _named(parts):
        for row, (line, columns) in enumerate(records):
            if isinstance(columns, BadRow):
                bad.append((Quarantined(name, line, n_rows, columns.reason, columns.detail), n_rows))
            else:
                rows.append(RawRow(name, line, row, n_rows, columns))
            n_rows += 1
    own_idx = any(isinstance(r.columns, Mapping) and "idx" in r.columns for r in rows)
    quarantine = [q for q, _ in bad]
    if own_idx and len(parts) == 1:
        rows, without = _honour_idx(rows)
        quarantine = [replace(q, idx=None) for q in quarantine] + without
    elif own_idx:
        rows = [_keep_own_idx(row) for row in rows]
    return Loaded(rows, quarantine, n_rows, _dropped_columns(rows))


def _as_list(sources: Source | Sequence[Source]) -> list[Source]:
    listed = [sources] if isinstance(sources, str | Path) else list(sources)
    if not listed:
        raise UsageError("expected at least one source of pairs, got none; give a file, a folder or a hub dataset.")
    return listed


def _honour_idx(rows: list[RawRow]) -> tuple[list[RawRow], list[Quarantined]]:
    """Every row's own idx; rows without a usable one are quarantined, since a position could be another row's idx."""
    kept: list[RawRow] = []
    without: list[Quarantined] = []
    for row in rows:
        given = row.columns.get("idx") if isinstance(row.columns, Mapping) else None
        if (idx := whole_number(given)) is None and isinstance(row.columns, Mapping):
            detail = f"got {given!a}" if "idx" in row.columns else "the row has no idx, unlike others of this source"
            without.append(Quarantined(row.source, row.line, None, "bad_idx", detail))
        elif idx is None:
            without.append(Quarantined(row.source, row.line, None, "not_an_object", f"got {row.columns!a:.40}"))
        else:
            kept.append(replace(row, idx=idx))
    return kept, without


def _keep_own_idx(row: RawRow) -> RawRow:
    own = whole_number(row.columns.get("idx")) if isinstance(row.columns, Mapping) else None
    return row if own is None else replace(row, meta={"source_idx": own})


def _dropped_columns(rows: list[RawRow]) -> tuple[str, ...]:
    names: set[str] = set()
    for row in rows:
        if isinstance(row.columns, Mapping) and (lists := {k for k, v in row.columns.items() if not is_scalar(v)}):
            names |= {str(name) for name in lists - used_columns(row.columns)}
    return tuple(sorted(names))


Part = tuple[Path | str, str, Iterator[Record]]
"""Where records come from, a short name for it, and the records, read only when asked for."""


def _named(parts: list[Part]) -> Iterator[tuple[str, Iterator[Record]]]:
    """Each part under its short name, or under its full one where two parts share the short."""
    short = [name for _, name, _ in parts]
    for where, name, records in parts:
        yield (str(where) if short.count(name) > 1 else name), records


def _parts(source: Source, split: str, columns: Columns) -> list[Part]:
    path = Path(source)
    if path.is_dir():
        return [
            (file, file.relative_to(path).as_posix(), read_records(file, columns=columns))
            for file in _folder_files(path)
        ]
    if path.is_file():
        return [(path, path.name, read_records(path, columns=columns))]
    return [(str(source), str(source), _hub_records(_hub_name(source, split)))]


# What stands beside data and says something of it.
_ABOUT_DATA = {"dataset_info.json", "dataset_infos.json", "quarantine.jsonl", "run.json", "state.json"}


def _folder_files(folder: Path) -> list[Path]:
    """A folder's data files, sorted; of a folder that `prepare` wrote, its pairs."""
    prepared = folder / "pairs.jsonl"
    if prepared.is_file() and (folder / "quarantine.jsonl").is_file():
        return [prepared]
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.is_file()
        and data_suffix(file)
        and file.name not in _ABOUT_DATA
        and not any(p.startswith(".") for p in file.relative_to(folder).parts)
    )
    if not files:
        raise InvalidData(
            f"{folder}: expected data files ending in {', '.join(SUFFIXES)} (or these and .gz), found none; "
            "give the folder that holds them."
        )
    return files


@dataclass(frozen=True, slots=True)
class HubName:
    """A dataset on the hub, and which part of it."""

    path: str
    split: str
    name: str | None = None
    data_dir: str | None = None
    revision: str | None = None


_HUB = re.compile(r"[\w.-]+/[\w.-]+")


def check_sources(sources: Source | Sequence[Source]) -> None:
    """Look whether sources can be there at all, before anything is loaded; a hub is not asked.

    Raises:
        UsageError: A source that is neither a file nor a folder nor written as a hub dataset.
    """
    for source in _as_list(sources):
        if not Path(source).exists():
            _hub_name(source, "train")


def _hub_name(source: Source, split: str) -> HubName:
    """`owner/name`, `owner/name#folder` or `owner/name#key=value,…`.

    Raises:
        UsageError: What cannot be a hub name, or reads as a path into a folder of this disk.
    """
    path, _, part = str(source).partition("#")
    if isinstance(source, Path) or not _HUB.fullmatch(path) or path.startswith(".") or data_suffix(Path(path)):
        raise UsageError(
            f"expected a file, a folder, or a hub dataset written owner/name, got {str(source)!r}, which is none. "
            "Check the path; data files end in " + ", ".join(SUFFIXES) + "."
        )
    folder, _, name = path.partition("/")
    if not part and Path(folder).is_dir():
        raise UsageError(
            f"expected a file or folder {name} in the folder {folder}, which is here, found none. Check the path; for "
            f"a hub's dataset of that name write {path}#split={split}."
        )
    given = {"data_dir": part} if part and "=" not in part else {}
    if not given:
        for item in filter(None, part.split(",")):
            key, equals, value = item.partition("=")
            if not equals or key not in ("name", "data_dir", "revision", "split"):
                raise UsageError(
                    f"{source}: expected name, data_dir, revision or split as key=value after #, got {item!r}; "
                    "for example Anthropic/hh-rlhf#data_dir=harmless-base,split=test."
                )
            given[key] = value
    return HubName(path, **{"split": split, **given})


def _hub_records(hub: HubName) -> Iterator[Record]:
    import datasets

    try:
        dataset = datasets.load_dataset(
            hub.path, hub.name, data_dir=hub.data_dir, revision=hub.revision, split=hub.split
        )
    except Exception as error:  # the loader raises errors of many libraries, down to the network's
        raise InvalidData(
            f"{hub.path}: expected a file, a folder or a dataset that the Hugging Face hub can give, split "
            f"{hub.split!r}, got {type(error).__name__}: {str(error).partition(chr(10))[0]}. Check the name and the "
            "connection, or download it and give its folder."
        ) from error
    for row, columns in enumerate(dataset, start=1):
        yield row, _own_values(dict(columns))
    if not len(dataset):  # type: ignore[arg-type]
        raise InvalidData(f"{hub.path}: expected rows in split {hub.split!r}, got none; give another split.")
