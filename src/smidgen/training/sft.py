"""Supervised fine-tuning, from a checkpoint or from nothing: a small named shape with a tokenizer of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Unpack

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from smidgen.data.tokens import end_of_text
from smidgen.errors import InvalidData, UsageError
from smidgen.models.load import LanguageModel, language_model
from smidgen.models.logprobs import AnswerLogps, find_layout
from smidgen.models.rows import Layout, RowBatch, Tokens, collate_rows
from smidgen.training.heldout import heldout_loss
from smidgen.training.loop import Around, LossTerms, Recipe, TrainingLog, draw_batches, train, trainable
from smidgen.training.parts import Parts, step_parts

END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True, slots=True)
class Shape:
    """Size of a GPT-2-architecture model: layers, width, attention heads."""

    layers: int
    width: int
    heads: int


SHAPES = {"nano": Shape(2, 128, 4), "tiny": Shape(4, 128, 4), "mini": Shape(6, 256, 4), "small": Shape(12, 768, 12)}


@dataclass(frozen=True, slots=True)
class AnswerBatch:
    """Prompts with one answer each, for one step."""

    rows: RowBatch
    weight: float
    idx: Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows.answer_mask)


def answer_nll(scorer: nn.Module, batch: AnswerBatch) -> LossTerms:
    """Negative log-likelihood of the answers given their prompts, averaged over answer tokens (nats)."""
    logps = scorer(batch.rows)
    return LossTerms(-logps.sum().sum() / logps.tokens().sum(), batch.rows.n_tokens)


def train_on_answers(
    lm: LanguageModel,
    prompts: Sequence[Tokens],
    answers: Sequence[Tokens],
    *,
    recipe: Recipe,
    seed: int,
    idxs: Sequence[int] | None = None,
    layout: Layout | None = None,
    **around: Unpack[Around],
) -> TrainingLog:
    """Train `lm` in place on the answers, never on the prompts.

    Args:
        prompts: Token ids, at least one each.
        answers: Token ids, at least one each, end of text included where the model is to learn to stop.
        seed: Decides the order, together with `idxs`.
        idxs: A stable number for each example; its position where None.

    Raises:
        InvalidData: No examples, or one longer than the model's positions.
    """
    lengths = _lengths(lm, prompts, answers)
    layout = layout or find_layout(lm.model)
    steps = recipe.total_steps(len(lengths))
    idxs = range(len(lengths)) if idxs is None else idxs
    drawn = draw_batches(idxs, lengths, batch_size=recipe.batch_size, steps=steps, seed=seed)

    def batches(start: int) -> Iterator[Parts[AnswerBatch]]:
        for examples in drawn[start:]:
            yield step_parts(examples, lengths, recipe, one_batch)

    def one_batch(part: list[int]) -> AnswerBatch:
        return _collated(lm, prompts, answers, idxs, layout, part)

    with trainable(lm, recipe, seed):
        return train(AnswerLogps(lm.model, layout), answer_nll, batches, recipe=recipe, steps=steps, **around)


def heldout_nll(
    lm: LanguageModel, prompts: Sequence[Tokens], answers: Sequence[Tokens], *, recipe: Recipe
) -> Callable[[nn.Module], dict[str, float]]:
    """Make a measure of `answer_nll` on held-out answers, as `heldout_loss`; arguments as for `train_on_answers`."""
    lengths, layout = _lengths(lm, prompts, answers), find_layout(lm.model)
    collate = partial(_collated, lm, prompts, answers, range(len(lengths)), layout)
    return heldout_loss(answer_nll, collate, lengths, recipe=recipe, device=lm.device)


def _lengths(lm: LanguageModel, prompts: Sequence[Tokens], answers: Sequence[Tokens]) -> list[int]:
    """Of prompt and answer together, in tokens; InvalidData where there are none, or one is too long."""
    lengths = [len(p) + len(a) for p, a in zip(prompts, answers, strict=True)]
    if not lengths:
        raise InvalidData("expected at least one example to train on, got none; check what the data checks dropped.")
    # The last token is predicted, not fed.
    if max(lengths) - 1 > lm.max_positions:
        raise InvalidData(
            f"an example has {max(lengths)} tokens; expected at most {lm.max_positions + 1}. "
            "Give a smaller --max-length so that it is dropped and counted."
        )
    return lengths


def _collated(
    lm: LanguageModel,
    prompts: Sequence[Tokens],
    answers: Sequence[Tokens],
    idxs: Sequence[int],
    layout: Layout,
    part: list[int],
) -> AnswerBatch:
    rows = collate_rows([prompts[i] for i in part], [(answers[i],) for i in part], layout=layout)
    return AnswerBatch(rows.to(lm.device), weight=len(rows.targets), idx=torch.tensor([idxs[i] for i in part]))


def new_language_model(
    texts: Sequence[str], *, shape: str = "mini", vocabulary: int = 4096, positions: int = 256, seed: int = 0
) -> LanguageModel:
    """An untrained GPT-2-architecture model, with a byte-level BPE tokenizer trained on `texts`.

    Args:
        texts: What the tokenizer learns from; any iterable of strings.
        shape: One of `SHAPES`.
        vocabulary: Most tokens, end of text included; at least 257.
        positions: Longest sequence the model will take.
        seed: Of the weights.

    Raises:
        UsageError: Unknown shape.
    """
    if shape not in SHAPES:
        raise UsageError(f"unknown shape {shape!r}; expected one of: {', '.join(SHAPES)}")
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[END_OF_TEXT],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        model_max_length=positions,
    )
    end = bpe.token_to_id(END_OF_TEXT)
    size = SHAPES[shape]
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=positions,
        n_embd=size.width,
        n_layer=size.layers,
        n_head=size.heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPT2LMHeadModel(config)
    return language_model(model, tokenizer)


def train_language_model(
    lm: LanguageModel,
    texts: Sequence[str],
    *,
    recipe: Recipe,
    seed: int,
    block_tokens: int | None = None,
    **around: Unpack[Around],
) -> TrainingLog:
    """Train `lm` in place on running text, texts parted by end of text, in blocks of at most 128 tokens by default."""
    blocks = text_blocks(lm, texts, block_tokens=block_tokens)
    end = end_of_text(lm.tokenizer)
    return train_on_answers(lm, [(end,)] * len(blocks), blocks, recipe=recipe, seed=seed, **around)


def text_blocks(lm: LanguageModel, texts: Sequence[str], *, block_tokens: int | None = None) -> list[tuple[int, ...]]:
    """Texts one after the other, parted by end of text, cut into blocks of at most 128 tokens by default."""
    block_tokens = block_tokens or min(128, lm.max_positions)
    end = end_of_text(lm.tokenizer)
    stream: list[int] = []
    for ids in lm.tokenizer(list(texts), verbose=False)["input_ids"]:
        stream += [*ids, end]
    return [tuple(stream[i : i + block_tokens]) for i in range(0, len(stream), block_tokens)]
