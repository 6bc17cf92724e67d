"""What a script holds in its hands: train, look at the log, save."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.trainer_utils import TrainOutput

from smidgen.errors import UsageError
from smidgen.models.load import LanguageModel, language_model, load_language_model, load_tokenizer, save_language_model
from smidgen.training.loop import Recipe, TrainingLog


class Run(Protocol):
    """Trains, calling `on_log` with every row of the log."""

    def __call__(self, *, on_log: Callable[[dict[str, float]], None]) -> TrainingLog: ...


@dataclass(slots=True)
class State:
    """Where a training stands: `log_history` has a row every few steps, `global_step` is the last of them."""

    log_history: list[dict[str, float]] = field(default_factory=list)
    global_step: int = 0


@dataclass(slots=True)
class Trainer:
    """A training that is ready to start, under the names that TRL's users know.

    Attributes:
        model: Trained in place.
        processing_class: Its tokenizer.
        args: As given.
        recipe: What the arguments come to.
        left_out: How many rows of the data could not be used, by reason.
        state: Grows while it trains.
    """

    lm: LanguageModel
    args: Any
    recipe: Recipe
    run: Run
    n_examples: int
    left_out: dict[str, int] = field(default_factory=dict)
    state: State = field(default_factory=State)

    @property
    def model(self) -> PreTrainedModel:
        return self.lm.model

    @property
    def processing_class(self) -> PreTrainedTokenizerBase:
        return self.lm.tokenizer

    tokenizer = processing_class

    def train(self) -> TrainOutput:
        """Train to the end; the result has global_step, training_loss (mean over the log, nats) and metrics."""
        started = time.perf_counter()

        def on_log(row: dict[str, float]) -> None:
            self.state.log_history.append(row)
            self.state.global_step = int(row["step"])

        self.run(on_log=on_log)
        seconds = time.perf_counter() - started
        losses = [row["loss"] for row in self.state.log_history]
        metrics = {"train_runtime": seconds, "train_samples_per_second": self._n_seen() / seconds}
        return TrainOutput(self.state.global_step, sum(losses) / len(losses), metrics)

    def _n_seen(self) -> int:
        return self.state.global_step * min(self.recipe.batch_size, self.n_examples)

    def save_model(self, output_dir: str | Path | None = None) -> None:
        """Write model, tokenizer and card in Hugging Face format, by default into `args.output_dir`."""
        card = f"# A model trained with Smidgen\n\nTrained on {self.n_examples} examples: {self.recipe}\n"
        save_language_model(self.lm, output_dir or self.args.output_dir, card=card)


def language_model_of(model: str | Path | PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None) -> LanguageModel:
    """The model to train with its tokenizer, from a name, a folder or memory.

    Raises:
        UsageError: A model in memory that does not say where its tokenizer is.
    """
    if isinstance(model, str | Path):
        loaded = load_language_model(model)
        return LanguageModel(loaded.model, tokenizer or loaded.tokenizer, loaded.fingerprint)
    if tokenizer is None and not model.config._name_or_path:
        raise UsageError(
            "expected a tokenizer with a model that was made in memory, got none; give processing_class=tokenizer."
        )
    return language_model(model, tokenizer or load_tokenizer(model.config._name_or_path))


def one_of(**given: Any) -> Any:
    """The one argument of several names that was given, or None; UsageError where two differ."""
    values = [value for value in given.values() if value is not None]
    if any(value is not values[0] for value in values):
        raise UsageError(f"expected one of {', '.join(given)}, which mean the same; got several. Give one.")
    return values[0] if values else None
