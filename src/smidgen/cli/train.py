"""`smidgen train …`: supervised, one command for each registered preference loss, and those of `trainings`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.types import ExistingFile, PositiveInt
from pydantic import BaseModel

from smidgen.cli import trainings
from smidgen.cli.flags import (
    FLAT,
    LOSS_SETTINGS,
    LOSSES,
    NO_FLAG,
    RARE,
    SETTINGS,
    DryRun,
    Model,
    Out,
    PairData,
    Seed,
)
from smidgen.cli.outcome import Outcome
from smidgen.cli.train_run import Job, OnLog, train_into
from smidgen.data.templates import load_template
from smidgen.errors import InvalidData, UsageError
from smidgen.models.load import LanguageModel, load_language_model
from smidgen.models.reference_store import ReferenceStore
from smidgen.settings import settings_model
from smidgen.training.loop import Recipe, TrainingLog
from smidgen.training.losses import Loss, combine, loss
from smidgen.training.preference import check_objective, needs_reference, reference_logps, train_preference
from smidgen.training.sft import SHAPES, new_language_model, train_language_model, train_on_answers

app = App(name="train", help="Train a model: sft, dpo and other preference losses.")

DEFAULT_RECIPE = Recipe()


@app.command
def sft(
    *,
    out: Out,
    data: Annotated[PairData | None, FLAT] = None,
    text: Annotated[tuple[ExistingFile, ...], Parameter(metavar="FILE")] = (),
    model: Annotated[str | None, Parameter(metavar="MODEL")] = None,
    shape: Annotated[str, Parameter(metavar="NAME", help=f"Size of a new model: {', '.join(SHAPES)}.")] = "mini",
    vocabulary: Annotated[PositiveInt, RARE] = 4096,
    positions: Annotated[PositiveInt, RARE] = 256,
    recipe: Annotated[Recipe, SETTINGS] = DEFAULT_RECIPE,
    seed: Seed = 0,
    dry_run: DryRun = False,
) -> Outcome:
    """Train on the chosen answers of pairs, or on running text; from a checkpoint, or from nothing.

    Args:
        text: Running text in UTF-8, in place of --pairs; repeatable.
        model: Where to start; without it, a new model of --shape: GPT-2 architecture, own tokenizer.
        vocabulary: Most tokens of a new tokenizer.
        positions: Longest sequence a new model takes, in tokens.
    """
    arguments = dict(locals())
    if (data is None) == (not text):
        raise UsageError("expected either --pairs or --text, got both or neither; give the one to train on.")
    if shape not in SHAPES:
        raise UsageError(f"unknown --shape {shape!r}; expected one of: {', '.join(SHAPES)}")

    def start(texts: Sequence[str]) -> LanguageModel:
        if model:
            return load_language_model(model)
        return new_language_model(texts, shape=shape, vocabulary=vocabulary, positions=positions, seed=seed)

    def text_job() -> Job:
        texts = [_read_text(path) for path in text]
        lm = start(texts)
        n_tokens = sum(len(ids) + 1 for ids in lm.tokenizer(texts, verbose=False)["input_ids"])
        block = min(128, lm.max_positions)
        run = partial(train_language_model, lm, texts, recipe=recipe, seed=seed, block_tokens=block)
        return Job(lm, -(-n_tokens // block), n_tokens, run)

    def pairs_job(data: PairData) -> Job:
        lm = start([] if model else _texts(data))
        prepared = data.prepared(lm.tokenizer, positions=lm.max_positions)
        prompts, answers = [p.prompt for p in prepared.encoded], [p.chosen for p in prepared.encoded]
        run = partial(train_on_answers, lm, prompts, answers, recipe=recipe, seed=seed, idxs=prepared.pairs.idxs)
        return Job(lm, len(answers), sum(map(len, (*prompts, *answers))), run, prepared.quarantine)

    inputs = [*(data.pairs if data else ()), *text, *([model] if model else [])]
    return train_into("train sft", arguments, inputs, partial(pairs_job, data) if data else text_job)


def loss_command(function: Loss) -> Callable[..., Outcome]:
    """A command that trains on pairs with a registered loss; the loss's settings are among its flags."""
    settings = settings_model(function)
    name = function.__name__

    def command(
        *,
        data: Annotated[PairData, FLAT],
        model: Model,
        out: Out,
        loss_settings: BaseModel,
        plus: Annotated[str, RARE, Parameter(metavar="LOSSES", help="Add weighted losses, such as 0.2*nll.")] = "",
        recipe: Annotated[Recipe, SETTINGS] = DEFAULT_RECIPE,
        seed: Seed = 0,
        dry_run: DryRun = False,
    ) -> Outcome:
        arguments = {"data": data, "model": model, "out": out, "loss": loss_settings}
        arguments |= {"plus": plus, "recipe": recipe, "seed": seed, "dry_run": dry_run}
        own = partial(function, **dict(loss_settings))
        objective = combine({own: 1.0, plus: 1.0}) if plus else own

        def job() -> Job:
            lm = load_language_model(model)
            prepared = data.prepared(lm.tokenizer, positions=lm.max_positions)
            check_objective(objective, prepared.encoded)
            n_tokens = sum(len(p.prompt) + len(p.chosen) + len(p.rejected) for p in prepared.encoded)

            def run(*, on_log: OnLog) -> TrainingLog:
                pairs, reference = prepared.encoded, None
                if needs_reference(objective, pairs):
                    store = ReferenceStore(out / "reference.sqlite")
                    reference = reference_logps(lm, pairs, store, dtype=recipe.dtype)
                return train_preference(
                    lm, pairs, reference, objective=objective, recipe=recipe, seed=seed, on_log=on_log
                )

            return Job(lm, len(prepared.encoded), n_tokens, run, prepared.quarantine)

        return train_into(f"train {name}", arguments, [*data.pairs, model], job)

    command.__name__ = name
    command.__doc__ = (inspect.getdoc(function) or name).split("\n\n")[0]
    command.__annotations__["loss_settings"] = Annotated[settings, LOSS_SETTINGS if settings.model_fields else NO_FLAG]
    command.__kwdefaults__ = {**(command.__kwdefaults__ or {}), "loss_settings": settings()}
    return command


for _module in iter_modules(trainings.__path__):
    app.command(getattr(import_module(f"{trainings.__name__}.{_module.name}"), _module.name), name=_module.name)

for _loss in loss:
    app.command(loss_command(_loss), name=_loss.__name__, group=LOSSES)


def _texts(data: PairData) -> list[str]:
    """What a new tokenizer learns from: every pair's prompt and answers, as the template writes them."""
    template = load_template(data.template)
    pairs = data.prepared(None).pairs
    return [template.prompt(p.prompt) + template.response(answer) for p in pairs for answer in (p.chosen, p.rejected)]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidData(f"{path}: expected text in UTF-8, got other bytes at {error.start}; convert it.") from None
