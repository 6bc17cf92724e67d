"""Texts into token ids: one prompt, two answers, each answer ending in end of text unless it was cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

from smidgen.data.checks import Quarantined
from smidgen.data.encoded import EncodedPair, EncodedTable, TokenIds
from smidgen.data.templates import Template
from smidgen.errors import UsageError
from smidgen.pairs import PreferencePair, Scalar, messages_from

_TEXTS_AT_ONCE = 4096
_PAIRS_AT_ONCE = 16_384


def encode_pairs(
    pairs: Iterable[PreferencePair],
    template: Template,
    tokenizer: Any,
    *,
    max_length: int | None = None,
    answer_head: int | None = None,
) -> tuple[EncodedTable, list[Quarantined]]:
    """Tokenise pairs; those that are too long, or whose answers become equal, are quarantined.

    Args:
        pairs: Checked pairs, in any order.
        template: Sets the text; prompt and response are tokenised apart.
        tokenizer: A Hugging Face tokenizer with an end-of-text token.
        max_length: Most tokens that prompt and one answer may have together, end of text counted. None: no limit.
        answer_head: Of a pair above `max_length` (of every pair, where that is None), keep the first so many tokens of
            both answers; an answer that this cuts has no end of text. None: such a pair is quarantined.

    Returns:
        The encoded pairs in the order given, and the quarantined ones; `line` there is one past the pair's source_row.

    Raises:
        UsageError: The tokenizer has no end-of-text token, or a length is not positive.
    """
    check_lengths(max_length, answer_head)
    end_of_text(tokenizer)
    pairs = list(pairs)
    quarantined: list[Quarantined] = []

    def kept() -> Iterator[EncodedPair]:
        for pair, whole in zip(pairs, _whole(pairs, template, tokenizer), strict=True):
            cut = whole
            if answer_head is not None and (max_length is None or _longest(whole) > max_length):
                cut = replace(whole, chosen=whole.chosen[:answer_head], rejected=whole.rejected[:answer_head])
            if problem := _problem(cut, max_length, was_cut=cut != whole):
                quarantined.append(Quarantined(pair.source, pair.source_row + 1, pair.idx, *problem))
            else:
                yield cut

    return EncodedTable(kept()), quarantined


def _whole(pairs: Sequence[PreferencePair], template: Template, tokenizer: Any) -> Iterator[EncodedPair]:
    """Every pair with all its tokens; in blocks, since what they are made through is many times the ids."""
    eos = end_of_text(tokenizer)
    group_of = {name: code for code, name in enumerate(sorted({_name(p.meta.get("group")) for p in pairs} - {""}))}
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        block = pairs[start : start + _PAIRS_AT_ONCE]
        prompts = tokenise([template.prompt(p.prompt) for p in block], template, tokenizer, opens=True)
        chosen = tokenise([template.response(p.chosen) for p in block], template, tokenizer, closing=(eos,))
        rejected = tokenise([template.response(p.rejected) for p in block], template, tokenizer, closing=(eos,))
        for pair, *ids in zip(block, prompts, chosen, rejected, strict=True):
            numbers = {name: _number(pair.meta.get(name)) for name in ("chosen_score", "rejected_score", "weight")}
            yield EncodedPair(pair.idx, *ids, group=group_of.get(_name(pair.meta.get("group"))), **numbers)


def encode_prompts(prompts: Sequence[str], template: Template, tokenizer: Any) -> list[TokenIds]:
    """Token ids of single-turn prompts, each ending where the answer begins."""
    texts = [template.prompt(messages_from(prompt, "user")) for prompt in prompts]
    return tokenise(texts, template, tokenizer, opens=True)


def count_cut_answers(encoded: Iterable[EncodedPair], tokenizer: Any) -> int:
    """How many answers `answer_head` cut: those that do not end in end of text."""
    eos = end_of_text(tokenizer)
    return sum((pair.chosen[-1] != eos) + (pair.rejected[-1] != eos) for pair in encoded)


def end_of_text(tokenizer: Any) -> int:
    """The id that ends an answer; UsageError where the tokenizer has none."""
    if tokenizer.eos_token_id is None:
        raise UsageError(
            "expected a tokenizer with an end-of-text token, since every answer ends in it; this one has none. "
            "Set eos_token in its tokenizer_config.json."
        )
    return tokenizer.eos_token_id


@dataclass(frozen=True, slots=True)
class JoinReport:
    """How often prompt and response, tokenised apart, are the tokens of the whole text.

    Attributes:
        n_answers: Answers looked at, two a pair.
        n_differ: Those whose tokens differ.
        first: The first of them: (idx, tokens around the boundary apart, and joined); None where none differ.
    """

    n_answers: int
    n_differ: int
    first: tuple[int, list[str], list[str]] | None

    @property
    def share(self) -> float:
        """Share of answers that join cleanly; 1 where there are none."""
        return 1.0 - self.n_differ / self.n_answers if self.n_answers else 1.0


def joins_cleanly(template: Template, tokenizer: Any, pairs: Iterable[PreferencePair]) -> JoinReport:
    """Measure, over real pairs, whether tokenising apart and joined agree."""
    halves = [
        (pair.idx, template.prompt(pair.prompt), template.response(answer))
        for pair in pairs
        for answer in (pair.chosen, pair.rejected)
    ]
    heads = tokenise([prompt for _, prompt, _ in halves], template, tokenizer, opens=True)
    tails = tokenise([response for _, _, response in halves], template, tokenizer)
    wholes = tokenise([prompt + response for _, prompt, response in halves], template, tokenizer, opens=True)
    differ = [i for i, whole in enumerate(wholes) if heads[i] + tails[i] != whole]
    if not differ:
        return JoinReport(len(halves), 0, None)
    first = differ[0]
    around = slice(max(0, len(heads[first]) - 2), len(heads[first]) + 3)
    apart, joined = (
        tokenizer.convert_ids_to_tokens(list(ids[around])) for ids in (heads[first] + tails[first], wholes[first])
    )
    return JoinReport(len(halves), len(differ), (halves[first][0], apart, joined))


def tokenise(
    texts: list[str], template: Template, tokenizer: Any, *, opens: bool = False, closing: TokenIds = ()
) -> list[TokenIds]:
    """Token ids of texts.

    Args:
        opens: Whether what the tokenizer sets before every text (beginning of text) is put in front.
        closing: Put behind every text.
    """
    if not texts:
        return []
    distinct = list(dict.fromkeys(texts))  # preference data repeats its prompts, and often its answers
    opening = _opening(tokenizer) if opens and not template.control_tokens else ()
    # Millions of tokens, but each id one object; and a tokenizer's own notes on a text are many times its ids.
    one: dict[int, int] = {}
    ids_of: dict[str, TokenIds] = {}
    for start in range(0, len(distinct), _TEXTS_AT_ONCE):
        block = distinct[start : start + _TEXTS_AT_ONCE]
        rows = tokenizer(
            block,
            add_special_tokens=False,
            split_special_tokens=not template.control_tokens,
            return_attention_mask=False,
            verbose=False,
        )["input_ids"]
        for text, row in zip(block, rows, strict=True):
            ids_of[text] = (*opening, *map(one.setdefault, row, row), *closing)
    return [ids_of[text] for text in texts]


def _opening(tokenizer: Any) -> TokenIds:
    with_special = tokenizer("a")["input_ids"]
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    length = next((i for i in range(len(with_special)) if with_special[i : i + len(bare)] == bare), 0)
    return tuple(with_special[:length])


def _name(value: Scalar) -> str:
    """A group's name as text; empty where there is none."""
    return "" if value is None else str(value)


def _number(value: Scalar) -> float | None:
    """A finite number, also from a table's text cell; None for anything else, which whoever needs it refuses."""
    try:
        number = float("" if value is None else value)
    except (ValueError, OverflowError):
        return None
    return number if isfinite(number) else None


def _longest(pair: EncodedPair) -> int:
    return len(pair.prompt) + max(len(pair.chosen), len(pair.rejected))


def _problem(pair: EncodedPair, max_length: int | None, *, was_cut: bool) -> tuple[str, str] | None:
    """Reason and detail where an encoded pair cannot be trained on."""
    if max_length is not None and _longest(pair) > max_length:
        if len(pair.prompt) >= max_length:
            return "over_long", f"the prompt alone has {len(pair.prompt)} tokens, above {max_length} with any answer"
        return "over_long", f"{_longest(pair)} tokens, above {max_length}"
    if pair.chosen == pair.rejected:
        if was_cut:
            return "equal_after_cut", f"the first {len(pair.chosen)} tokens of both answers are the same"
        return "equal_tokens", "both answers have the same token ids"
    return None


def check_lengths(max_length: int | None, answer_head: int | None) -> None:
    """UsageError for a limit in tokens that is not positive."""
    for name, value in (("max_length", max_length), ("answer_head", answer_head)):
        if value is not None and value < 1:
            raise UsageError(f"expected {name} of at least 1 token, got {value}; leave it out for no limit")
