"""Single answers marked good or bad, for training that needs no pairs: read, checked and encoded as pairs are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from smidgen.data.checks import BadRow, Quarantined, excerpt
from smidgen.data.prepare import refuse_bad_data
from smidgen.data.rows import answer_messages, own_row, own_source, prompt_messages
from smidgen.data.sources import Loaded, RawRow, Source, load_rows
from smidgen.data.templates import Template
from smidgen.data.tokens import TokenIds, check_lengths, end_of_text, tokenise
from smidgen.errors import UsageError
from smidgen.pairs import Messages, PreferencePair

# The answer's column, by the names that data has for it; the first is TRL's.
ANSWER_COLUMNS = ("completion", "response", "answer")
_LABELS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedAnswer:
    """A prompt, one answer, and whether it is a desirable one.

    Attributes:
        idx: Position in the data as loaded. Never changes.
        weight: How many times its loss counts.
        source: Where it came from.
        source_row: Zero-based row within that source.
    """

    idx: int
    prompt: Messages
    answer: Messages
    desirable: bool
    weight: float = 1.0
    source: str = ""
    source_row: int = -1


@dataclass(frozen=True, slots=True)
class EncodedAnswer:
    """A marked answer's token ids; the answer ends in end of text unless it was cut."""

    idx: int
    prompt: TokenIds
    answer: TokenIds
    desirable: bool
    weight: float = 1.0

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


@dataclass(frozen=True, slots=True)
class PreparedAnswers:
    """Checked answers, the same as token ids in the same order, and the rows left out."""

    answers: list[MarkedAnswer]
    encoded: list[EncodedAnswer]
    quarantine: list[Quarantined]


def unpaired(pairs: Iterable[PreferencePair]) -> list[MarkedAnswer]:
    """Two marked answers a pair: the chosen one, desirable, with twice the pair's idx, and next the rejected one."""
    return [
        MarkedAnswer(
            idx=2 * pair.idx + place,
            prompt=pair.prompt,
            answer=answer,
            desirable=place == 0,
            source=pair.source,
            source_row=pair.source_row,
        )
        for pair in pairs
        for place, answer in enumerate((pair.chosen, pair.rejected))
    ]


def answer_from_row(columns: Any, *, idx: int, source: str, source_row: int) -> MarkedAnswer:
    """The marked answer that a row holds: prompt, label, and one of `ANSWER_COLUMNS`; a weight if it has one.

    Raises:
        BadRow: The row holds no usable answer.
    """
    if not isinstance(columns, Mapping):
        raise BadRow("not_an_object", f"got {type(columns).__name__}: {excerpt(columns)}")
    name = next((name for name in ANSWER_COLUMNS if name in columns), ANSWER_COLUMNS[0])
    if missing := [column for column in ("prompt", name, "label") if column not in columns]:
        raise BadRow("missing_column", f"no {' and no '.join(missing)} among {excerpt(list(columns), 80)}")
    return MarkedAnswer(
        idx=idx,
        prompt=prompt_messages(columns["prompt"]),
        answer=answer_messages(columns[name], name),
        desirable=_label(columns["label"]),
        weight=_weight(columns.get("weight", 1)),
        source=own_source(columns) or source,
        source_row=source_row if (own := own_row(columns)) is None else own,
    )


def _label(value: Any) -> bool:
    found = _LABELS.get(str(value).strip().lower()) if isinstance(value, str | bool | int | float) else None
    if found is None:
        raise BadRow("bad_label", f"got {excerpt(value)}")
    return found


def _weight(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if not 0 <= number < inf:
        raise BadRow("bad_weight", f"got {excerpt(value)}")
    return number


def prepare_answers(
    sources: Source | Sequence[Source] | Loaded,
    *,
    template: Template,
    tokenizer: Any,
    max_length: int | None = None,
    answer_head: int | None = None,
    max_bad_fraction: float = 0.5,
    split: str = "train",
) -> PreparedAnswers:
    """Load marked answers, leave out what cannot be trained on, and say what and why.

    Two rows that mark the same answer differently both stay: people may disagree.

    Args:
        sources: See `sources.load_rows`; or what `sources.rows_in_memory` made of rows.
        template: Sets the text.
        tokenizer: With an end-of-text token.
        max_length: Most tokens of prompt and answer, end of text counted. None: no limit.
        answer_head: Of an answer above `max_length` (of every one, where that is None), keep the first so many tokens,
            without end of text. None: it is quarantined.
        max_bad_fraction: Share of rows, over-long ones not counted, above which the data is refused.
        split: Of hub datasets.

    Raises:
        UsageError: A source or length that cannot be taken as given, or a tokenizer without end of text.
        InvalidData: A source that is empty or unreadable; or, as a TooManyBadRows, too many bad rows or none good.
    """
    check_lengths(max_length, answer_head)
    if not 0 <= max_bad_fraction <= 1:
        raise UsageError(f"expected max_bad_fraction from 0 to 1, got {max_bad_fraction}; 0.5 allows half the rows.")
    loaded = sources
    if not isinstance(loaded, Loaded):
        loaded = load_rows(loaded, split=split, columns=("prompt", "label"))
    answers, rows, bad = _checked(loaded.rows)
    encoded = encode_answers(answers, template, tokenizer, max_length=max_length, answer_head=answer_head)
    kept: list[tuple[MarkedAnswer, EncodedAnswer]] = []
    for answer, row, tokens in zip(answers, rows, encoded, strict=True):
        if max_length is not None and len(tokens) > max_length:
            detail = f"{len(tokens)} tokens, above {max_length}"
            bad.append(Quarantined(row.source, row.line, row.idx, "over_long", detail))
        else:
            kept.append((answer, tokens))
    quarantine = sorted(loaded.quarantine + bad, key=lambda q: (q.source, q.line))
    refuse_bad_data(loaded.n_rows, len(kept), quarantine, max_bad_fraction, what="answer")
    return PreparedAnswers([answer for answer, _ in kept], [tokens for _, tokens in kept], quarantine)


def _checked(rows: Iterable[RawRow]) -> tuple[list[MarkedAnswer], list[RawRow], list[Quarantined]]:
    """Usable answers, the row of each, and the other rows."""
    answers: list[MarkedAnswer] = []
    places: list[RawRow] = []
    bad: list[Quarantined] = []
    idxs: set[int] = set()
    seen: dict[tuple[Messages, Messages, bool], int] = {}
    for row in rows:
        try:
            answer = answer_from_row(row.columns, idx=row.idx, source=row.source, source_row=row.row)
            content = (answer.prompt, answer.answer, answer.desirable)
            if row.idx in idxs:
                raise BadRow("duplicate_idx", f"idx {row.idx} stands in an earlier row")
            if content in seen:
                raise BadRow("duplicate_answer", f"same as idx {seen[content]}")
        except BadRow as error:
            bad.append(Quarantined(row.source, row.line, row.idx, error.reason, error.detail))
            continue
        seen[content] = row.idx
        idxs.add(row.idx)
        answers.append(answer)
        places.append(row)
    return answers, places, bad


def encode_answers(
    answers: Sequence[MarkedAnswer],
    template: Template,
    tokenizer: Any,
    *,
    max_length: int | None = None,
    answer_head: int | None = None,
) -> list[EncodedAnswer]:
    """Tokenise marked answers, all of them; those that are too long are cut where `answer_head` says so.

    Raises:
        UsageError: The tokenizer has no end-of-text token.
    """
    eos = end_of_text(tokenizer)
    prompts = tokenise([template.prompt(a.prompt) for a in answers], template, tokenizer, opens=True)
    texts = tokenise([template.response(a.answer) for a in answers], template, tokenizer, closing=(eos,))
    whole = [
        EncodedAnswer(a.idx, prompt, text, a.desirable, a.weight)
        for a, prompt, text in zip(answers, prompts, texts, strict=True)
    ]
    if answer_head is None:
        return whole
    return [
        replace(a, answer=a.answer[:answer_head]) if max_length is None or len(a) > max_length else a for a in whole
    ]
