"""`smidgen train …`: supervised, one command for each registered preference loss, and those of `trainings`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from pkgutil import iter_modules
from typing import Annotated, Any

from cyclopts import App, Parameter
from cyclopts.types import ExistingFile
from pydantic import BaseModel, PositiveInt

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
from smidgen.cli.train_run import DEFAULT_UPKEEP, Job, UpkeepFlags, train_into
from smidgen.data.prepare import Prepared
from smidgen.data.readers import read_utf8
from smidgen.data.templates import load_template
from smidgen.data.tokens import EncodedPair
from smidgen.errors import UsageError
from smidgen.models.load import LanguageModel, check_same_tokens, load_language_model
from smidgen.models.reference_store import ReferenceStore
from smidgen.settings import settings_model
from smidgen.training.heldout import heldout_measure
from smidgen.training.loop import Around, Evaluation, Recipe, TrainingLog
from smidgen.training.losses import Loss, combine, loss
from smidgen.training.preference import (
    ReferenceLogps,
    check_objective,
    needs_reference,
    reference_logps,
    train_preference,
)
from smidgen.training.record import OnLog
from smidgen.training.sft import SHAPES, new_language_model, train_language_model, train_on_answers

app = App(name="train", help="Train a model: sft, dpo and other preference losses.")

DEFAULT_RECIPE = Recipe()
Unseen = Annotated[
    tuple[str, ...],
    Parameter(metavar="SOURCE", help="Pairs never trained on, to measure while training; repeatable."),
]
Reference = Annotated[
    str | None,
    RARE,
    Parameter(metavar="MODEL", help="What the policy is held close to; without it, the model that it starts from."),
]
EvaluateEvery = Annotated[
    PositiveInt, RARE, Parameter(metavar="STEPS", help="Steps from one measurement on --heldout to the next.")
]


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
    upkeep: UpkeepFlags = DEFAULT_UPKEEP,
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
        texts = [read_utf8(path) for path in text]
        lm = start(texts)
        n_tokens = sum(len(ids) + 1 for ids in lm.tokenizer(texts, verbose=False)["input_ids"])
        block = min(128, lm.max_positions)
        kept = upkeep.around(out)
        run = partial(train_language_model, lm, texts, recipe=recipe, seed=seed, block_tokens=block, **kept)
        return Job(lm, -(-n_tokens // block), n_tokens, run)

    def pairs_job(data: PairData) -> Job:
        lm = start([] if model else _texts(data))
        prepared = data.prepared(lm.tokenizer, positions=lm.max_positions)
        prompts, answers = [p.prompt for p in prepared.encoded], [p.chosen for p in prepared.encoded]
        idxs, kept = prepared.pairs.idxs, upkeep.around(out)
        run = partial(train_on_answers, lm, prompts, answers, recipe=recipe, seed=seed, idxs=idxs, **kept)
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
        reference: Reference = None,
        heldout: Unseen = (),
        evaluate_every: EvaluateEvery = 50,
        recipe: Annotated[Recipe, SETTINGS] = DEFAULT_RECIPE,
        upkeep: UpkeepFlags = DEFAULT_UPKEEP,
        seed: Seed = 0,
        dry_run: DryRun = False,
    ) -> Outcome:
        arguments = {"data": data, "model": model, "out": out, "loss": loss_settings, "plus": plus}
        arguments |= {"reference": reference, "heldout": heldout, "evaluate_every": evaluate_every}
        arguments |= {"recipe": recipe, "upkeep": upkeep, "seed": seed, "dry_run": dry_run}
        own = partial(function, **dict(loss_settings))
        objective = combine({own: 1.0, plus: 1.0}) if plus else own

        job = partial(_preference_job, objective, arguments)
        inputs = [*data.pairs, *heldout, model, *([reference] if reference else [])]
        return train_into(f"train {name}", arguments, inputs, job)

    command.__name__ = name
    command.__doc__ = (inspect.getdoc(function) or name).split("\n\n")[0]
    command.__annotations__["loss_settings"] = Annotated[settings, LOSS_SETTINGS if settings.model_fields else NO_FLAG]
    command.__kwdefaults__ = {**(command.__kwdefaults__ or {}), "loss_settings": settings()}
    return command


for _module in iter_modules(trainings.__path__):
    app.command(getattr(import_module(f"{trainings.__name__}.{_module.name}"), _module.name), name=_module.name)


def offer_losses() -> None:
    """A command for each registered loss that has none yet, such as a plugin's."""
    for function in loss:
        if function.__name__ not in app:
            app.command(loss_command(function), name=function.__name__, group=LOSSES)


offer_losses()


def _preference_job(objective: Loss, given: Mapping[str, Any]) -> Job:
    """A training on pairs, ready to start, from the arguments of its command."""
    data, recipe = given["data"], given["recipe"]
    kept: Around = given["upkeep"].around(given["out"])
    lm = load_language_model(given["model"])
    ref_lm = load_language_model(given["reference"]) if given["reference"] else lm
    check_same_tokens(lm, ref_lm)

    def prepared(data: PairData) -> Prepared:
        found = data.prepared(lm.tokenizer, positions=lm.max_positions)
        check_objective(objective, found.encoded)
        return found

    def reference(pairs: Sequence[EncodedPair]) -> list[ReferenceLogps] | None:
        if not needs_reference(objective, pairs):
            return None
        ref_lm.model.to(lm.device)  # pyright: ignore[reportArgumentType]
        return reference_logps(ref_lm, pairs, ReferenceStore(given["out"] / "reference.sqlite"), dtype=recipe.dtype)

    learnt = prepared(data)
    unseen = prepared(replace(data, pairs=[*given["heldout"]])) if given["heldout"] else None

    def run(*, on_log: OnLog) -> TrainingLog:
        around: Around = {**kept, "on_log": on_log}
        if unseen:
            values = reference(unseen.encoded)
            measure = heldout_measure(lm, unseen.encoded, values, objective=objective, recipe=recipe)
            around["evaluation"] = Evaluation(measure=measure, every_steps=given["evaluate_every"])
        pairs = learnt.encoded
        return train_preference(
            lm, pairs, reference(pairs), objective=objective, recipe=recipe, seed=given["seed"], **around
        )

    n_tokens = sum(len(p.prompt) + len(p.chosen) + len(p.rejected) for p in learnt.encoded)
    return Job(lm, len(learnt.encoded), n_tokens, run, [*learnt.quarantine, *(unseen.quarantine if unseen else ())])


def _texts(data: PairData) -> list[str]:
    """What a new tokenizer learns from: every pair's prompt and answers, as the template writes them."""
    template = load_template(data.template)
    pairs = data.prepared(None).pairs
    return [template.prompt(p.prompt) + template.response(answer) for p in pairs for answer in (p.chosen, p.rejected)]
