"""From sources to checked pairs: load, check, encode, and account for every row that was left out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from smidgen.data.checks import EXPLANATIONS, BadRow, Places, Quarantined, split_repeats
from smidgen.data.encoded import EncodedTable
from smidgen.data.rows import pair_from_row
from smidgen.data.shapes import SYSTEMS
from smidgen.data.sources import Loaded, RawRow, Source, load_rows
from smidgen.data.templates import Template, load_template
from smidgen.data.tokens import count_cut_answers, encode_pairs
from smidgen.errors import InvalidData, UsageError
from smidgen.pairs import Messages, PairTable, PreferencePair, as_turns
from smidgen.runs import atomic_write, write_json

UNASKED = frozenset({"over_long", "several_turns"})
"""Reasons that say nothing against a row, so that they do not count towards `max_bad_fraction`."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Checked pairs, and an account of the rest.

    Attributes:
        pairs: In the order loaded.
        encoded: The same pairs as token ids, in the same order; empty where no tokenizer was given.
        quarantine: Rows left out, by file and line.
        counts: `rows` read, `pairs` kept, `quarantined`, `cut_answers`, and each reason with its number of rows.
        explanations: One sentence for each reason that occurs.
        dropped_columns: Columns that hold neither text nor number, which pairs do not carry.
    """

    pairs: PairTable
    encoded: EncodedTable
    quarantine: list[Quarantined]
    counts: dict[str, int]
    explanations: Mapping[str, str] = field(default_factory=dict)
    dropped_columns: tuple[str, ...] = ()


class TooManyBadRows(InvalidData):
    """More rows are bad than was allowed; carries them, so that they can be written down."""

    def __init__(self, message: str, quarantine: list[Quarantined]) -> None:
        super().__init__(message)
        self.quarantine = quarantine


def prepare_pairs(
    sources: Source | Sequence[Source] | Loaded,
    *,
    max_bad_fraction: float = 0.5,
    split: str = "train",
    template: Template | str = "plain",
    tokenizer: Any = None,
    max_length: int | None = None,
    answer_head: int | None = None,
    single_turn: bool = False,
    first: int | None = None,
) -> Prepared:
    """Load pairs, leave out what cannot be trained on, and say what and why.

    Args:
        sources: See `sources.load_rows`; or what `sources.rows_in_memory` made of rows.
        max_bad_fraction: Share of rows, over-long ones not counted, above which the data is refused.
        split: Of hub datasets.
        template: A template or its name; used only with a tokenizer.
        tokenizer: None skips everything about tokens.
        max_length: See `tokens.encode_pairs`.
        answer_head: See `tokens.encode_pairs`.
        single_turn: Leave out pairs whose prompt is more than one turn of the user.
        first: Keep the first so many usable pairs, in the order loaded; rows behind the last of them are not looked
            at. None: all.

    Raises:
        UsageError: A source, template or length that cannot be taken as given.
        InvalidData: A source that is empty or unreadable.
        TooManyBadRows: An InvalidData, where too many rows are bad or none is good.
    """
    if not 0 <= max_bad_fraction <= 1:
        raise UsageError(f"expected max_bad_fraction from 0 to 1, got {max_bad_fraction}; 0.5 allows half the rows.")
    if first is not None and first < 1:
        raise UsageError(f"expected first of at least 1 pair, got {first}; leave it out for all.")
    loaded = sources if isinstance(sources, Loaded) else load_rows(sources, split=split)
    if tokenizer is not None and isinstance(template, str):
        template = load_template(template, tokenizer)
    limits = {"max_length": max_length, "answer_head": answer_head}

    def usable(rows: Iterable[RawRow]) -> Usable:
        pairs, quarantine, places = _check(rows, single_turn=single_turn)
        if tokenizer is None:
            return pairs, EncodedTable(), quarantine
        encoded, unusable = encode_pairs(pairs, template, tokenizer, **limits)  # pyright: ignore[reportArgumentType]
        kept = set(encoded.idxs)
        return [p for p in pairs if p.idx in kept], encoded, quarantine + [_at(places, q) for q in unusable]

    if first is not None:
        loaded = _head(loaded, first, usable)
    pairs, encoded, quarantine = usable(loaded.rows if loaded is sources else _taken(loaded.rows))
    n_cut = count_cut_answers(encoded, tokenizer) if tokenizer is not None else 0
    quarantine = sorted([*loaded.quarantine, *quarantine], key=lambda q: (q.source, q.line))
    reasons = Counter(q.reason for q in quarantine)
    refuse_bad_data(loaded.n_rows, len(pairs), quarantine, max_bad_fraction)
    counts = {"rows": loaded.n_rows, "pairs": len(pairs), "quarantined": len(quarantine), "cut_answers": n_cut}
    return Prepared(
        pairs=PairTable(pairs),
        encoded=encoded,
        quarantine=quarantine,
        counts=counts | dict(sorted(reasons.items())),
        explanations={reason: EXPLANATIONS[reason] for reason in sorted(reasons)},
        dropped_columns=loaded.dropped_columns,
    )


Usable = tuple[list[PreferencePair], EncodedTable, list[Quarantined]]


def _head(loaded: Loaded, n_pairs: int, usable: Callable[[Iterable[RawRow]], Usable]) -> Loaded:
    """The rows up to the one that holds the last of the first `n_pairs` usable pairs; all where there are fewer."""
    # Ever longer heads, so that nobody waits for the tokens of rows that are not wanted.
    size = 2 * n_pairs
    while True:
        idxs = [pair.idx for pair in usable(loaded.rows[:size])[0]]
        if len(idxs) >= n_pairs:
            break
        if size >= len(loaded.rows):
            return loaded
        size *= 2
    last = next(i for i, row in enumerate(loaded.rows) if row.idx == idxs[n_pairs - 1])
    rows, end = loaded.rows[: last + 1], loaded.rows[last]
    sources = {row.source for row in rows}
    bad = [q for q in loaded.quarantine if q.source in sources and (q.source != end.source or q.line < end.line)]
    return replace(loaded, rows=rows, quarantine=bad, n_rows=len(rows) + len(bad))


def prepare_into(out: Path | str, sources: Source | Sequence[Source], **settings: Any) -> Prepared:
    """`prepare_pairs` and `write_prepared`; where too many rows are bad, writes quarantine.jsonl alone and raises."""
    try:
        prepared = prepare_pairs(sources, **settings)
    except TooManyBadRows as error:
        write_quarantine(error.quarantine, out)
        raise
    write_prepared(prepared, out)
    return prepared


def write_prepared(prepared: Prepared, out: Path | str) -> None:
    """Write pairs.jsonl (which loads as the same pairs), quarantine.jsonl and summary.json into the folder `out`."""
    write_quarantine(prepared.quarantine, out)
    write_json(
        Path(out) / "summary.json",
        {
            "counts": prepared.counts,
            "explanations": dict(prepared.explanations),
            "dropped_columns": list(prepared.dropped_columns),
        },
    )
    write_pairs(prepared.pairs, Path(out) / "pairs.jsonl")


def write_quarantine(quarantine: Sequence[Quarantined], out: Path | str) -> None:
    """Write one line a row left out: source, line, idx, reason, detail."""
    with atomic_write(Path(out) / "quarantine.jsonl") as file:
        file.writelines(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in quarantine)


def write_pairs(pairs: Sequence[PreferencePair], path: Path | str) -> None:
    """Write pairs as JSONL that loads as the same pairs: own columns first, then meta."""
    with atomic_write(path) as file:
        file.writelines(json.dumps(pair_row(pair), ensure_ascii=False) + "\n" for pair in pairs)


def pair_row(pair: PreferencePair) -> dict[str, Any]:
    """A pair as the row that loads as the same pair: own columns first, then meta."""
    # A text beside a further column of this name would be read as a system prompt and its question.
    has_system = any(name in pair.meta for name in SYSTEMS)
    row = {
        "idx": pair.idx,
        "prompt": as_turns(pair.prompt) if has_system else _plain(pair.prompt, "user"),
        "chosen": _plain(pair.chosen, "assistant"),
        "rejected": _plain(pair.rejected, "assistant"),
        "source": pair.source,
        "source_row": pair.source_row,
    }
    return row | dict(pair.meta)


def _plain(messages: Messages, role: str) -> str | list[dict[str, str]]:
    if len(messages) == 1 and messages[0].role == role:
        return messages[0].content
    return as_turns(messages)


def _check(rows: Iterable[RawRow], *, single_turn: bool) -> tuple[list[PreferencePair], list[Quarantined], Places]:
    bad_rows: list[Quarantined] = []

    def good() -> Iterator[tuple[PreferencePair, int, str]]:
        for row in rows:
            try:
                pair = pair_from_row(row.columns, idx=row.idx, source=row.source, source_row=row.row, extra=row.meta)
                if single_turn and len(pair.prompt) > 1:
                    raise BadRow("several_turns", f"the prompt has {len(pair.prompt)} turns")
                yield pair, row.line, row.source
            except BadRow as bad:
                bad_rows.append(Quarantined(row.source, row.line, row.idx, bad.reason, bad.detail))

    pairs, repeated, places = split_repeats(good())
    return pairs, bad_rows + repeated, places


def _taken(rows: list[RawRow]) -> Iterator[RawRow]:
    """Rows out of their list, so that none is kept beside the pair that is made of it."""
    rows.reverse()
    while rows:
        yield rows.pop()


def _at(places: Places, row: Quarantined) -> Quarantined:
    source, line = places[row.idx] if row.idx is not None else (row.source, row.line)
    return replace(row, source=source, line=line)


def refuse_bad_data(
    n_rows: int, n_good: int, quarantine: list[Quarantined], max_bad_fraction: float, *, what: str = "pair"
) -> None:
    """TooManyBadRows where more than that share of the rows is bad, over-long ones not counted, or none is good."""
    reasons = Counter(q.reason for q in quarantine)
    n_bad = sum(count for reason, count in reasons.items() if reason not in UNASKED)
    if n_bad <= max_bad_fraction * n_rows and n_good:
        return
    listed = "; ".join(f"{count} {reason} ({EXPLANATIONS[reason]})" for reason, count in reasons.most_common(3))
    first = quarantine[0]
    expected = f"at most {max_bad_fraction:.0%} bad rows" if n_good else f"at least one usable {what}"
    came = f"{n_bad} of {n_rows}" if n_good else f"none in {n_rows} rows"
    raise TooManyBadRows(
        f"expected {expected}, got {came}: {listed}; the first is {first.source}, line "
        f"{first.line}: {first.detail}. Correct those rows (`smidgen prepare` lists them in quarantine.jsonl), or "
        "allow more with a higher max_bad_fraction or max_length.",
        quarantine,
    )
