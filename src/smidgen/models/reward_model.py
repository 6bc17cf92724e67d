"""Reward models: a sequence-classification head that gives a conversation one number; any that Hugging Face loads.

The number is the one that the model's own code gives, so published reward models score here as they do elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from jinja2 import TemplateError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils import logging

from smidgen.data.templates import Template
from smidgen.errors import InvalidData, SmidgenError, UsageError
from smidgen.models.demands import refuse_demands
from smidgen.models.load import DTYPES, LanguageModel, language_model, load_tokenizer, said, save_language_model
from smidgen.models.logprobs import computing_in
from smidgen.models.names import model_name
from smidgen.models.rewards import Reward
from smidgen.models.rows import Tokens, token_budget_batches
from smidgen.pairs import Message, Messages


@dataclass(frozen=True, slots=True)
class PaddedRows:
    """Whole conversations, one a row, padded on the right with `pad`, which no row ends in unless the model says so."""

    input_ids: Int[Tensor, "rows length"]
    attention_mask: Int[Tensor, "rows length"]
    pad: int
    n_tokens: int

    def to(self, device: torch.device) -> PaddedRows:
        """The same on `device`."""
        return PaddedRows(self.input_ids.to(device), self.attention_mask.to(device), self.pad, self.n_tokens)


class RowRewards(nn.Module):
    """Computes rewards inside one forward of the model, as the loop takes it."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, rows: PaddedRows) -> Float[Tensor, " rows"]:
        """The model's own score of every row, float32."""
        config = self.model.config.get_text_config()
        own = config.pad_token_id
        # Without a padding token the model's code takes one row at a time; with it, the last token that is another.
        config.pad_token_id = rows.pad
        try:
            logits = self.model(input_ids=rows.input_ids, attention_mask=rows.attention_mask).logits
        finally:
            config.pad_token_id = own
        return logits.squeeze(-1).float()


@dataclass(frozen=True, slots=True)
class RewardModel:
    """A sequence classifier with one label, and its tokenizer, which need not be the policy's: it is given text.

    Attributes:
        lm: Both of them, as the training loop and the savers carry a model; its outputs are rewards, not logits.
    """

    lm: LanguageModel

    @property
    def max_tokens(self) -> int:
        """Longest conversation that the model takes, in tokens."""
        return min(self.lm.max_positions, self.lm.tokenizer.model_max_length)

    def encode(self, prompts: Sequence[Messages], answers: Sequence[str], template: Template) -> list[tuple[int, ...]]:
        """Token ids of whole conversations, as reward models are given them.

        The tokenizer's own chat template writes the conversation with its closing mark and every special token in it;
        any other template is plain text, in which a special token's name is text too, between what the tokenizer sets
        around every text, and ends in end of text where the tokenizer has one.

        Raises:
            UsageError: A conversation that the tokenizer's chat template does not take.
        """
        texts = [self._text(p, a, template) for p, a in zip(prompts, answers, strict=True)]
        if not texts:
            return []
        rows: Any = self.lm.tokenizer(
            texts,
            add_special_tokens=not template.control_tokens,
            split_special_tokens=not template.control_tokens,
            return_attention_mask=False,
            verbose=False,
        )["input_ids"]
        eos = None if template.control_tokens else self.lm.tokenizer.eos_token_id
        end: tuple[int, ...] = () if eos is None else (int(eos),)  # pyright: ignore[reportArgumentType]
        ids: list[tuple[int, ...]] = [tuple(row) for row in rows]
        return [row if row[-1:] == end else (*row, *end) for row in ids]

    def pad(self, rows: Sequence[Tokens]) -> PaddedRows:
        """One batch of rows.

        Raises:
            ValueError: No rows, or one without tokens.
        """
        if not rows or not all(rows):
            raise ValueError(f"expected rows of at least one token each, got lengths {[len(row) for row in rows]}")
        lengths = torch.tensor([len(row) for row in rows])
        pad = self.lm.model.config.get_text_config().pad_token_id
        if pad is None:
            pad = _not_among({row[-1] for row in rows})
        ids = torch.full((len(rows), int(lengths.max())), pad)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(list(row))
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        return PaddedRows(ids, mask, pad, int(lengths.sum()))

    def score(
        self,
        prompts: Sequence[Messages],
        answers: Sequence[str],
        template: Template,
        *,
        batch_tokens: int = 8192,
        dtype: str = "float32",
    ) -> Float[np.ndarray, " answers"]:
        """Rewards of answers, higher is better, float64; in batches of similar length, in the order given.

        Args:
            prompts: Conversations that end with the user.
            answers: One to each prompt.
            template: How a conversation becomes text; `load_template(name, rm.lm.tokenizer)`.
            batch_tokens: Tokens of a batch, padding counted.
            dtype: Of the computation, or "auto".

        Raises:
            InvalidData: Conversations longer than the model takes; nothing is ever cut.
            SmidgenError: A reward that is not finite.
        """
        return self.score_rows(self.encode(prompts, answers, template), batch_tokens=batch_tokens, dtype=dtype)

    @torch.no_grad()
    def score_rows(
        self, rows: Sequence[Tokens], *, batch_tokens: int = 8192, dtype: str = "float32"
    ) -> Float[np.ndarray, " rows"]:
        """As `score`, of conversations as token ids."""
        check_lengths(rows, self.max_tokens)
        scorer, found = RowRewards(self.lm.model), np.empty(len(rows))
        for batch in token_budget_batches([len(row) for row in rows], batch_tokens):
            with computing_in(dtype, self.lm.device):
                found[batch] = scorer(self.pad([rows[i] for i in batch]).to(self.lm.device)).cpu().numpy()
        if not np.isfinite(found).all():
            bad = int(np.flatnonzero(~np.isfinite(found))[0])
            raise SmidgenError(
                f"expected finite rewards, got {found[bad]} for answer {bad}. "
                "Compute in float32, or train the reward model with a lower learning rate."
            )
        return found

    def _text(self, prompt: Messages, answer: str, template: Template) -> str:
        whole = (*prompt, Message("assistant", answer))
        if not template.control_tokens:
            return template.prompt(prompt) + template.response(whole[-1:])
        try:
            return self.lm.tokenizer.apply_chat_template(  # pyright: ignore[reportReturnType]
                [{"role": m.role, "content": m.content} for m in whole], tokenize=False
            )
        except (TemplateError, ValueError, TypeError) as error:
            raise UsageError(
                f"expected a conversation that the reward model's chat template takes, got the turns "
                f"{', '.join(m.role for m in whole)}: {error}. Take --template plain or hh, or leave such rows out."
            ) from error


def check_lengths(rows: Sequence[Tokens], most: int) -> None:
    """InvalidData where a conversation has more tokens than a reward model takes; it would not read the answer's end.

    Args:
        rows: Token ids of whole conversations.
        most: The longest that fits.
    """
    long = [i for i, row in enumerate(rows) if len(row) > most]
    if long:
        raise InvalidData(
            f"expected conversations of at most {most} tokens, the reward model's longest; got {len(long)} of "
            f"{len(rows)} above, the first at position {long[0]} with {len(rows[long[0]])}. Leave them out, give a "
            "smaller --max-length or write shorter answers; no answer is cut."
        )


def as_reward(rm: RewardModel, template: Template, *, batch_tokens: int = 8192, dtype: str = "float32") -> Reward:
    """The reward model as what scores answers, for policies and judges."""

    def reward(prompts: Sequence[Messages], answers: Sequence[str]) -> Float[np.ndarray, " answers"]:
        return rm.score(prompts, answers, template, batch_tokens=batch_tokens, dtype=dtype)

    return reward


def load_reward_model(name_or_path: str | Path, *, dtype: str = "float32", device: str = "cpu") -> RewardModel:
    """Load a reward model from a local folder or by hub name, in evaluation mode, without dropout.

    Args:
        name_or_path: A folder in Hugging Face format, or a hub name.
        dtype: Storage of the weights: "float32", "bfloat16" or "float16".
        device: Where the weights go.

    Raises:
        UsageError: Unknown dtype, or a model with other than one label.
        SmidgenError: No model there, weights that are not safetensors, or a model without a trained head.
    """
    rm, untrained = _load(model_name(name_or_path), dtype, device)
    if untrained:
        raise SmidgenError(
            f"expected a reward model at {str(name_or_path)!r}, got one without {', '.join(sorted(untrained))}, as a "
            "causal model is. Train one from it first with `smidgen train reward`."
        )
    return rm


def new_reward_model(
    name_or_path: str | Path, *, seed: int = 0, head_std: float | None = None, device: str = "cpu"
) -> RewardModel:
    """A reward model to train, in float32: a causal model's weights under a new head, or a reward model as it is.

    Args:
        name_or_path: Any architecture of which Hugging Face has a sequence classifier.
        seed: Of the head's weights.
        head_std: Their standard deviation; 0 for a model that gives every answer 0; None for 1 / √(width + 1), at which
            rewards start near a standard deviation of 1 where hidden states are normalised.

    Raises:
        UsageError: A negative head_std, or a model with other than one label.
        SmidgenError: No model there, or none with a sequence classifier.

    Source: Huang et al. 2024, arXiv:2403.17031 (the head's scale).
    """
    if head_std is not None and not 0 <= head_std < float("inf"):
        raise UsageError(f"expected head_std of at least 0, got {head_std}; leave it out for 1 / √(width + 1).")
    rm, untrained = _load(model_name(name_or_path), "float32", device)
    if not untrained:
        return rm
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(rm.lm.model.named_parameters()):
            if name in untrained:
                std = (weight.shape[-1] + 1) ** -0.5 if head_std is None else head_std
                scale = std if weight.ndim > 1 else 0.0
                weight.copy_(torch.randn(weight.shape, generator=generator) * scale)
    config, tokenizer = rm.lm.model.config, rm.lm.tokenizer
    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return RewardModel(language_model(rm.lm.model, tokenizer))


def save_reward_model(rm: RewardModel, folder: Path | str, *, card: str) -> None:
    """Write model, tokenizer and card in Hugging Face format; the folder appears whole or not at all."""
    save_language_model(rm.lm, folder, card=card)


def _load(name: str, dtype: str, device: str) -> tuple[RewardModel, set[str]]:
    """A one-label classifier in evaluation mode, and the names of its weights that are not in the checkpoint."""
    if dtype not in DTYPES:
        raise UsageError(f"unknown dtype {dtype!r}; expected one of: {', '.join(DTYPES)}")
    refuse_demands(name)
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        # A causal model's configuration says two labels because that is Hugging Face's default.
        is_classifier = any("ForSequenceClassification" in made for made in config.architectures or ())
        if is_classifier and config.num_labels != 1:
            labels = ", ".join(map(str, (config.id2label or {}).values()))
            raise UsageError(
                f"expected a reward model with one label at {name!r}, got {config.num_labels}: {labels}. "
                "Give a model trained to score answers, not to sort them into classes."
            )
        config.num_labels = 1
        # Those of BERT's kind have no end of text.
        tokenizer = load_tokenizer(name, ends_texts=False)
        with _only_errors():
            loaded: Any = AutoModelForSequenceClassification.from_pretrained(
                name,
                config=config,
                dtype=DTYPES[dtype],
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except SmidgenError:
        raise
    except Exception as error:  # a folder from outside may make the loader fail in any way
        raise SmidgenError(
            f"expected a model with safetensors weights and a sequence classifier at {name!r}; {said(error)}. Give a "
            "local folder with config.json, model.safetensors and the tokenizer, or a reachable hub name."
        ) from error
    model, info = loaded
    return RewardModel(language_model(model.to(torch.device(device)), tokenizer)), set(info["missing_keys"])


@contextmanager
def _only_errors() -> Iterator[None]:
    """A head that is not in the checkpoint is made or refused here, so it is no warning."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _not_among(ids: Collection[int]) -> int:
    return next(i for i in range(len(ids) + 1) if i not in ids)
