"""Chain of Hindsight: learn good and bad answers alike, each behind a marker that says which it is; ask for the good.

A pair gives four rows: good, bad, good then bad, bad then good. The loss is on the answers and their ends of text,
never on prompts or markers. Two things keep the model from narrowing: a language-modelling term on general text, and
past tokens hidden at random, so that the second answer of a row is not copied from the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import Unpack

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from smidgen.data.markers import EncodedMarkers, Side
from smidgen.data.tokens import EncodedPair, TokenIds, end_of_text
from smidgen.errors import InvalidData, UsageError
from smidgen.models.load import LanguageModel
from smidgen.models.logprobs import AnswerLogps, find_layout
from smidgen.models.rows import Layout, RowBatch, collate_rows, hide_tokens
from smidgen.pairs import random_key
from smidgen.training.loop import Around, LossTerms, Recipe, TrainingLog, draw_batches, train, trainable
from smidgen.training.parts import Parts, step_parts
from smidgen.training.sft import text_blocks

ROW_KINDS: dict[str, tuple[Side, ...]] = {
    "good": ("good",),
    "bad": ("bad",),
    "good_bad": ("good", "bad"),
    "bad_good": ("bad", "good"),
}
TEXT = "text"


@dataclass(frozen=True, slots=True)
class HindsightRow:
    """One sequence to learn from.

    Attributes:
        idx: Of the pair, times four, plus the kind's place; of general text, the block's place.
        kind: One of `ROW_KINDS`, or "text".
        prompt: The pair's prompt and the first marker.
        answer: All that follows: an answer, and where there are two, the second marker and answer.
        learned: For each token of `answer` whether it is learned: all but the second marker's.
    """

    idx: int
    kind: str
    prompt: TokenIds
    answer: TokenIds
    learned: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


def hindsight_rows(pairs: Sequence[EncodedPair], markers: EncodedMarkers, *, seed: int) -> list[HindsightRow]:
    """Four rows a pair, in the order of `ROW_KINDS`; which of a side's markers stands where is drawn from the seed.

    Source: Liu, Sferrazza and Abbeel 2023, arXiv:2302.02676, Section 2 and Eq. 2. Their code ends a row, not each
        answer, with end of text; here both answers end in it, since a model asked for one should stop after it.
    """
    return [
        _row(pair, kind, len(ROW_KINDS) * pair.idx + number, markers, seed)
        for pair in pairs
        for number, kind in enumerate(ROW_KINDS)
    ]


def fitting(rows: Sequence[HindsightRow], most_tokens: int) -> tuple[list[HindsightRow], list[HindsightRow]]:
    """Rows of at most so many tokens, and the longer ones: a pair may fit with one answer and not with two."""
    sides: tuple[list[HindsightRow], list[HindsightRow]] = ([], [])
    for row in rows:
        sides[len(row) > most_tokens].append(row)
    return sides


def _row(pair: EncodedPair, kind: str, idx: int, markers: EncodedMarkers, seed: int) -> HindsightRow:
    answers: dict[Side, TokenIds] = {"good": pair.chosen, "bad": pair.rejected}
    prompt, tokens, learned = pair.prompt, (), ()
    for place, side in enumerate(ROW_KINDS[kind]):
        marker = markers[side][random_key(f"{seed}/marker/{place}", idx) % len(markers[side])]
        if place == 0:
            prompt += marker
        else:
            tokens, learned = tokens + marker, learned + (False,) * len(marker)
        tokens, learned = tokens + answers[side], learned + (True,) * len(answers[side])
    return HindsightRow(idx, kind, prompt, tokens, learned)


def general_rows(lm: LanguageModel, texts: Sequence[str]) -> list[HindsightRow]:
    """Running text as rows, all of it learned, in blocks as `sft.text_blocks` cuts them.

    Raises:
        InvalidData: Texts that hold nothing.
    """
    if not any(text.strip() for text in texts):
        raise InvalidData("expected general text, got none but white space; give a file with text, or leave it out.")
    end = end_of_text(lm.tokenizer)
    return [
        HindsightRow(number, TEXT, (end,), block, (True,) * len(block))
        for number, block in enumerate(text_blocks(lm, texts))
    ]


@dataclass(frozen=True, slots=True)
class HindsightBatch:
    """Rows of one step, or a part of them.

    Attributes:
        token_weight: What each answer token counts; 0 where it is not learned.
        weight: Sum of `token_weight`; 0 for a process that only keeps the others company.
        scale: What the weighted mean is multiplied by.
    """

    rows: RowBatch
    token_weight: Float[Tensor, "answers tokens"]
    weight: float
    scale: float
    n_tokens: int

    def __len__(self) -> int:
        return len(self.token_weight)


def hindsight_objective(scorer: nn.Module, batch: HindsightBatch) -> LossTerms:
    """Negative log-likelihood (nats), averaged over tokens by their weights, times the batch's scale."""
    values = scorer(batch.rows).values
    mean = -(values * batch.token_weight).sum() / batch.token_weight.sum()
    return LossTerms(batch.scale * mean, batch.n_tokens)


def hidden_tokens(n_tokens: int, most: float, *, seed: str, idx: int) -> Bool[np.ndarray, " tokens"]:
    """Which tokens of a row no other looks at: each by a chance that is drawn for the row, from 0 to `most`.

    The first token always stays, so that every token sees something.

    Source: forgetful causal masking, Liu et al. 2022, arXiv:2210.13432.
    """
    generator = np.random.default_rng(random_key(seed, idx))
    hidden = generator.random(n_tokens) < generator.uniform(0, most)
    hidden[0] = False
    return hidden


@dataclass(frozen=True, slots=True)
class Step:
    """What all parts of one optimiser step share.

    Attributes:
        text_weight: What a token of general text counts, where one of an answer counts 1.
        scale: Of the loss; see `HindsightBatch`.
        mask_share: Largest share of a row's tokens to hide.
        lot: Seed of what is hidden in this step.
    """

    text_weight: float = 0.0
    scale: float = 1.0
    mask_share: float = 0.0
    lot: str = ""


def step_of(
    rows: Sequence[HindsightRow], *, general_weight: float = 0.0, mask_share: float = 0.0, lot: str = ""
) -> Step:
    """How the rows of one step weigh: the mean over learned tokens, plus `general_weight` times that over text."""
    n_answer, n_text = (sum(sum(row.learned) for row in rows if (row.kind == TEXT) == text) for text in (False, True))
    if not n_text:
        return Step(mask_share=mask_share, lot=lot)
    return Step(general_weight * n_answer / n_text, 1 + general_weight, mask_share, lot)


def collate_hindsight(rows: Sequence[HindsightRow], step: Step, *, layout: Layout) -> HindsightBatch:
    """Rows as one batch; hides tokens in the layouts `separate` and `model` only."""
    batch = collate_rows([row.prompt for row in rows], [(row.answer,) for row in rows], layout=layout)
    n_tokens = batch.n_tokens
    if step.mask_share:
        batch = hide_tokens(
            batch, [hidden_tokens(len(row) - 1, step.mask_share, seed=step.lot, idx=row.idx) for row in rows]
        )
    weight = torch.zeros(batch.answer_mask.shape)
    weight[batch.answer_mask] = torch.tensor(
        [learned * (step.text_weight if row.kind == TEXT else 1.0) for row in rows for learned in row.learned]
    )
    return HindsightBatch(batch, weight, float(weight.sum()), step.scale, n_tokens)


def train_hindsight(
    lm: LanguageModel,
    rows: Sequence[HindsightRow],
    *,
    text: Sequence[HindsightRow] = (),
    general_weight: float = 0.01,
    mask_share: float = 0.05,
    recipe: Recipe,
    seed: int,
    layout: Layout | None = None,
    **around: Unpack[Around],
) -> TrainingLog:
    """Train `lm` in place.

    A step costs the mean over its learned tokens, plus `general_weight` times that over as many rows of text.

    Args:
        rows: From `hindsight_rows`; at least one.
        text: From `general_rows`; none for no such term.
        general_weight: λ; 0.01 in the authors' code. Positive.
        mask_share: Past tokens are hidden from attention, in each row a share between 0 and this; the paper's is 0.05.
            A hidden token is hidden from every later one (the authors' code draws for each of those anew), and still
            predicts its own successor. 0 hides none, and is faster.
        seed: Decides the order and what is hidden.
        layout: Of rows without hidden tokens; those have one row a sequence.

    Raises:
        UsageError: A setting out of range.
        InvalidData: No rows, or one longer than the model's positions.

    Source: Liu, Sferrazza and Abbeel 2023, arXiv:2302.02676, Eq. 2 and 3.
    """
    _check(lm, rows, text, general_weight, mask_share)
    layout = layout or find_layout(lm.model)
    if mask_share and layout != "model":
        layout = "separate"
    everything = [*rows, *text]
    lengths = [len(row) for row in everything]
    steps = recipe.total_steps(len(rows))
    draw = partial(draw_batches, batch_size=recipe.batch_size, steps=steps, seed=seed)
    drawn = draw([row.idx for row in rows], lengths[: len(rows)])
    beside = draw([row.idx for row in text], lengths[len(rows) :]) if text else [[]] * steps

    def batches(first: int) -> Iterator[Parts[HindsightBatch]]:
        for number, (own, others) in enumerate(zip(drawn[first:], beside[first:], strict=True), start=first):
            members = own + [len(rows) + i for i in others]
            step = step_of(
                [everything[i] for i in members],
                general_weight=general_weight,
                mask_share=mask_share,
                lot=f"{seed}/hidden/{number}",
            )
            yield step_parts(members, lengths, recipe, partial(one_batch, step))

    def one_batch(step: Step, part: list[int]) -> HindsightBatch:
        batch = collate_hindsight([everything[i] for i in part], step, layout=layout)
        return replace(batch, rows=batch.rows.to(lm.device), token_weight=batch.token_weight.to(lm.device))

    with trainable(lm, recipe, seed):
        return train(AnswerLogps(lm.model, layout), hindsight_objective, batches, recipe=recipe, steps=steps, **around)


def _check(
    lm: LanguageModel,
    rows: Sequence[HindsightRow],
    text: Sequence[HindsightRow],
    general_weight: float,
    mask_share: float,
) -> None:
    if not 0 < general_weight < inf:
        raise UsageError(f"expected general_weight above 0, got {general_weight}; leave out the text for no such term.")
    if not 0 <= mask_share < 1:
        raise UsageError(f"expected mask_share from 0 to below 1, got {mask_share}; the paper's is 0.05.")
    if not rows:
        raise InvalidData("expected at least one row to train on, got none; check what the data checks dropped.")
    # The last token is predicted, not fed.
    if (longest := max(map(len, (*rows, *text)))) - 1 > lm.max_positions:
        raise InvalidData(
            f"a row has {longest} tokens; expected at most {lm.max_positions + 1}. Leave out what `fitting` does."
        )
