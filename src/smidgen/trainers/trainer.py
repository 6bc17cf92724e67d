"""What a script holds in its hands: train, go on, measure, look at the log, save."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any, Protocol, Unpack

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.trainer_utils import TrainOutput

from smidgen.errors import UsageError
from smidgen.models.load import LanguageModel, language_model, load_language_model, load_tokenizer, save_language_model
from smidgen.trainers.upkeep import Upkeep, start_or_go_on, told, upkeep_of
from smidgen.training.loop import Around, Evaluation, Recipe, TrainingLog


class Run(Protocol):
    """Trains, with this around it."""

    def __call__(self, **around: Unpack[Around]) -> TrainingLog: ...


# Of the module that an objective gets.
Measure = Callable[[nn.Module], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What is measured on the rows of `eval_dataset`.

    Attributes:
        scorer: What the objective gets, around the model that is trained.
        prepare: Makes the measure; called before any weight moves, and what it costs is spent once.
    """

    scorer: nn.Module
    prepare: Callable[[], Measure]


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
        held_out: None without an eval_dataset.
        state: Grows while it trains.

    Raises:
        UsageError: Arguments that ask for checkpoints, a log or measurements as the loop does not have them.
    """

    lm: LanguageModel
    args: Any
    recipe: Recipe
    run: Run
    n_examples: int
    left_out: dict[str, int] = field(default_factory=dict)
    held_out: HeldOut | None = None
    state: State = field(default_factory=State)

    def __post_init__(self) -> None:
        if self._upkeep().evaluate_every and not self.held_out:
            raise UsageError("expected an eval_dataset with this eval_strategy, got none; give one, or 'no'.")

    @property
    def model(self) -> PreTrainedModel:
        return self.lm.model

    @property
    def processing_class(self) -> PreTrainedTokenizerBase:
        return self.lm.tokenizer

    tokenizer = processing_class

    def train(self, resume_from_checkpoint: bool | None = None) -> TrainOutput:
        """Train to the end; the result has global_step, training_loss (mean over the steps, nats) and metrics.

        Args:
            resume_from_checkpoint: Go on from the newest whole checkpoint in output_dir/checkpoints; the result is
                that of a training which was never stopped. Otherwise such checkpoints are moved aside.

        Raises:
            UsageError: Nothing to go on from, or a tracker that is not installed.
        """
        upkeep, started = self._upkeep(), time.perf_counter()
        start_or_go_on(upkeep.keep, resume_from_checkpoint)
        self.state = State()
        measure = self.held_out.prepare() if self.held_out else None
        with told(self.args) as tell:

            def on_log(row: dict[str, float]) -> None:
                self.state.log_history.append(row)
                self.state.global_step = int(row["step"])
                tell(row)

            around: Around = {"on_log": on_log, "log_every": upkeep.log_every, "keep": upkeep.keep}
            if measure and upkeep.evaluate_every:
                around["evaluation"] = Evaluation(measure=measure, every_steps=upkeep.evaluate_every)
            self.run(**around)
        seconds = time.perf_counter() - started
        metrics = {"train_runtime": seconds, "train_samples_per_second": self._n_seen() / seconds}
        return TrainOutput(self.state.global_step, _mean_loss(self.state.log_history), metrics)

    def evaluate(self) -> dict[str, float]:
        """Measure the rows of eval_dataset with the model as it stands; what is found joins the log too.

        Raises:
            UsageError: No eval_dataset was given.
        """
        if self.held_out is None:
            raise UsageError("expected an eval_dataset to measure on, got none; give one to the trainer.")
        with torch.no_grad():
            found = dict(self.held_out.prepare()(self.held_out.scorer))
        self.state.log_history.append({"step": self.state.global_step, **found})
        return found

    def _upkeep(self) -> Upkeep:
        steps = self.recipe.total_steps(self.n_examples)
        return upkeep_of(self.args, steps=steps, steps_an_epoch=ceil(self.n_examples / self.recipe.batch_size))

    def _n_seen(self) -> int:
        return self.state.global_step * min(self.recipe.batch_size, self.n_examples)

    def save_model(self, output_dir: str | Path | None = None) -> None:
        """Write model, tokenizer and card in Hugging Face format, by default into `args.output_dir`.

        What else the folder holds, such as checkpoints, stays.
        """
        card = f"# A model trained with Smidgen\n\nTrained on {self.n_examples} examples: {self.recipe}\n"
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=folder, prefix=".model."))
        try:
            save_language_model(self.lm, part / "model", card=card)
            for file in (part / "model").iterdir():
                file.replace(folder / file.name)
        finally:
            shutil.rmtree(part)


def _mean_loss(rows: list[dict[str, float]]) -> float:
    """Mean over steps, from rows that each have the mean since the row before."""
    ends = [0.0, *(row["step"] for row in rows)]
    spans = [end - start for start, end in pairwise(ends)]
    return sum(row["loss"] * span for row, span in zip(rows, spans, strict=True)) / ends[-1]


def evaluated(measured: Mapping[str, float]) -> dict[str, float]:
    """The same numbers, under names that begin as TRL's do.

    >>> evaluated({"heldout_loss": 0.5})
    {'eval_loss': 0.5}
    """
    return {f"eval_{name.removeprefix('heldout_')}": value for name, value in measured.items()}


def language_model_of(model: str | Path | PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None) -> LanguageModel:
    """The model to train with its tokenizer, from a name, a folder or memory.

    Raises:
        UsageError: A model in memory that does not say where its tokenizer is.
    """
    if isinstance(model, str | Path):
        loaded = load_language_model(model)
        return LanguageModel(loaded.model, tokenizer or loaded.tokenizer, loaded.fingerprint)
    return language_model(model, tokenizer_of(model, tokenizer))


def tokenizer_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None) -> PreTrainedTokenizerBase:
    """The tokenizer given, or that of the folder which a model in memory came from.

    Raises:
        UsageError: Neither is there.
    """
    if tokenizer is None and not model.config._name_or_path:
        raise UsageError(
            "expected a tokenizer with a model that was made in memory, got none; give processing_class=tokenizer."
        )
    return tokenizer or load_tokenizer(model.config._name_or_path)


def default_folder(model: str | Path | PreTrainedModel, kind: str) -> str:
    """Where a script without arguments writes, as TRL names it."""
    name = model.config._name_or_path if isinstance(model, PreTrainedModel) else str(model)
    return f"{Path(name).name or 'model'}-{kind}"


def one_of(**given: Any) -> Any:
    """The one argument of several names that was given, or None; UsageError where two differ."""
    values = [value for value in given.values() if value is not None]
    if any(value is not values[0] for value in values):
        raise UsageError(f"expected one of {', '.join(given)}, which mean the same; got several. Give one.")
    return values[0] if values else None
