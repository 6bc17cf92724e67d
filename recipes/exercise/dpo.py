"""The exercise's DPO under its names, by Smidgen's engine: one batch, a loader, or the whole of it."""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal, Protocol

import torch
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from data import HH_RLHF, MAX_LEN, SFT_MODEL, benchmark_performance, collate_dpo, prepare_dpo_data
from smidgen.data.templates import load_template
from smidgen.data.tokens import EncodedPair, encode_pairs
from smidgen.errors import InvalidData
from smidgen.models.load import language_model, load_language_model
from smidgen.models.logprobs import AnswerLogps, find_layout
from smidgen.pairs import plain_pair
from smidgen.trainers.rows import scratch_store
from smidgen.training.heldout import heldout_measure
from smidgen.training.loop import Evaluation, Recipe, train
from smidgen.training.losses import loss
from smidgen.training.preference import PairBatch, collate_pairs, preference_objective, reference_logps
from smidgen.training.record import Row

# Prompts, chosen answers and rejected answers.
Batch = tuple[Sequence[str], Sequence[str], Sequence[str]]
_NO_CLIPPING = 1e6


class Loader(Protocol):
    """Batches with a length, to be gone through more than once: a DataLoader or a list."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...


def train_dpo(
    model: PreTrainedModel,
    ref_model: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerBase,
    train_loader_or_batch: Loader | Batch,
    val_loader_or_batch: Loader | Batch | None = None,
    num_epochs: int = 2,
    lr: float = 5e-5,
    weight_decay: float = 0.01,
    beta: float = 0.5,
    *,
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
) -> PreTrainedModel:
    """Train `model` in place with DPO on summed log-probabilities, without dropout, schedule or clipping.

    Args:
        model: The policy, on whichever device it is.
        ref_model: The reference; the policy as it starts where None.
        train_loader_or_batch: One batch (a tuple of prompts, chosen and rejected answers), which is one step an epoch;
            or a loader of such batches with a length, a step each, in its order.
        val_loader_or_batch: The same, to measure after every epoch.
        num_epochs: Passes over the loader.
        lr: Of AdamW, constant.
        weight_decay: AdamW's.
        beta: Strength of the pull to the reference.
        dtype: Of the computation: "auto" is bfloat16 where the device has it, float16 on a GPU without (a T4).

    Returns:
        `model` itself.

    Raises:
        InvalidData: A batch without a usable pair.
    """
    reference = language_model(copy.deepcopy(model) if ref_model is None else ref_model, tokenizer)
    policy = language_model(model, tokenizer)
    batches = _batches(train_loader_or_batch)
    recipe = Recipe(learning_rate=lr, weight_decay=weight_decay, max_grad_norm=_NO_CLIPPING, dtype=dtype)
    layout, store, objective = find_layout(policy.model), scratch_store(), f"dpo:beta={beta}"

    def with_reference(pairs: list[EncodedPair]) -> PairBatch:
        values = reference_logps(reference, pairs, store, dtype=recipe.dtype, layout=layout)
        return collate_pairs(pairs, values, layout=layout).to(policy.device)

    def steps() -> Iterator[list[PairBatch]]:
        for _ in range(num_epochs):
            for batch in batches:
                yield [with_reference(encode(batch, tokenizer))]

    evaluation = None
    if val_loader_or_batch is not None:
        unseen = [pair for batch in _batches(val_loader_or_batch) for pair in encode(batch, tokenizer)]
        values = reference_logps(reference, unseen, store, dtype=recipe.dtype, layout=layout)
        measure = heldout_measure(policy, unseen, values, objective=objective, recipe=recipe, layout=layout)
        evaluation = Evaluation(measure=measure, every_steps=len(batches))
    train(
        AnswerLogps(policy.model, layout),
        preference_objective(loss.bind(objective)),
        steps(),
        recipe=recipe,
        steps=num_epochs * len(batches),
        evaluation=evaluation,
        log_every=len(batches),
        on_log=_print_epoch,
    )
    return model


def encode(batch: Batch, tokenizer: PreTrainedTokenizerBase) -> list[EncodedPair]:
    """A batch's pairs as token ids, without end of text, as the exercise has them; pairs above 128 tokens are left out.

    Raises:
        InvalidData: No usable pair.
    """
    pairs = [plain_pair(i, *texts) for i, texts in enumerate(zip(*batch, strict=True))]
    found, unusable = encode_pairs(pairs, load_template("plain"), tokenizer, max_length=MAX_LEN + 1)
    reasons = dict(Counter(row.reason for row in unusable))
    if not found:
        raise InvalidData(
            f"expected a batch with at least one usable pair, got {reasons or 'an empty one'}. Leave it out."
        )
    if reasons:
        warnings.warn(f"pairs of a batch left out: {reasons}", UserWarning, stacklevel=2)
    return [replace(pair, chosen=pair.chosen[:-1], rejected=pair.rejected[:-1]) for pair in found]


def train_dpo_hh_rlhf(
    split_sizes: Sequence[int] = (5000, 500),
    batch_size: int = 8,
    num_epochs: int = 2,
    lr: float = 5e-5,
    weight_decay: float = 0.01,
    beta: float = 0.5,
    seed: int = 42,
    perf_verbose: bool = True,
    *,
    model_name: str = SFT_MODEL,
    source: str = HH_RLHF,
    validation_source: str | None = None,
) -> PreTrainedModel:
    """Download model and data, filter, train on all of it, and print the benchmark; the trained model.

    Args:
        split_sizes: Most pairs to train on, and most to validate on.
        seed: Of the order of the pairs.
        perf_verbose: Print the honest numbers beside the compatible one.
        model_name: The SFT model, a hub name or a folder.
        source: See `prepare_dpo_data`; so too `validation_source`.
    """
    lm = load_language_model(model_name, device="cuda" if torch.cuda.is_available() else "cpu")
    training, validation = prepare_dpo_data(
        lm.tokenizer, split_sizes, source=source, validation_source=validation_source
    )
    order = torch.Generator().manual_seed(seed)
    loaders = (
        DataLoader(training, batch_size=batch_size, shuffle=True, collate_fn=collate_dpo, generator=order),  # pyright: ignore[reportArgumentType]
        DataLoader(validation, batch_size=batch_size, collate_fn=collate_dpo),  # pyright: ignore[reportArgumentType]
    )
    train_dpo(
        lm.model, None, lm.tokenizer, *loaders, num_epochs=num_epochs, lr=lr, weight_decay=weight_decay, beta=beta
    )
    print(f"Performance: {benchmark_performance(lm.model, lm.tokenizer, verbose=perf_verbose):.3f}")
    return lm.model


def _batches(given: Loader | Batch) -> Loader:
    return [given] if isinstance(given, tuple) else given


def _print_epoch(row: Row) -> None:
    unseen = f", validation {row['heldout_loss']:.4f}" if "heldout_loss" in row else ""
    print(f"step {row['step']:.0f}: mean DPO loss {row['loss']:.4f}{unseen}")
