"""`smidgen train …`: supervised, and one command for each registered preference loss, its settings as flags."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Protocol

from cyclopts import App, Parameter
from cyclopts.types import ExistingFile, PositiveInt
from pydantic import BaseModel

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
    flag_settings,
)
from smidgen.cli.outcome import Outcome, claimed
from smidgen.cli.progress import training_progress
from smidgen.data.checks import Quarantined
from smidgen.data.prepare import write_quarantine
from smidgen.data.templates import load_template
from smidgen.errors import InvalidData, UsageError
from smidgen.models.load import LanguageModel, load_language_model, save_language_model
from smidgen.models.reference_store import ReferenceStore
from smidgen.runs import write_text
from smidgen.settings import settings_model, settings_yaml
from smidgen.training.loop import Recipe, TrainingLog
from smidgen.training.losses import Loss, combine, loss
from smidgen.training.preference import check_objective, needs_reference, reference_logps, train_preference
from smidgen.training.sft import SHAPES, new_language_model, train_language_model, train_on_answers

app = App(name="train", help="Train a model: sft, dpo and other preference losses.")

DEFAULT_RECIPE = Recipe()
OnLog = Callable[[dict[str, float]], None]


class Run(Protocol):
    """Trains, calling `on_log` with every row of the log."""

    def __call__(self, *, on_log: OnLog) -> TrainingLog: ...


@dataclass(frozen=True, slots=True)
class Job:
    """A training that is ready to start.

    Attributes:
        lm: Trained in place.
        n_examples: Pairs, answers or blocks of text.
        n_tokens: Of all examples together.
        run: Does it.
        quarantine: Rows left out of the data.
    """

    lm: LanguageModel
    n_examples: int
    n_tokens: int
    run: Run
    quarantine: Sequence[Quarantined] = field(default=())


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


for _loss in loss:
    app.command(loss_command(_loss), name=_loss.__name__, group=LOSSES)


def train_into(
    command: str, arguments: Mapping[str, Any], inputs: Sequence[str | Path], make: Callable[[], Job]
) -> Outcome:
    """Train and write model/, metrics.jsonl, quarantine.jsonl and, last, DONE; what is done is not done again."""
    out, recipe = arguments["out"], arguments["recipe"]
    if arguments["dry_run"]:
        job = make()
        plan = {"examples": job.n_examples, "tokens": job.n_tokens, "steps": recipe.total_steps(job.n_examples)}
        text = "{examples} examples, {tokens} tokens, {steps} steps; dry run: nothing written".format_map(plan)
        return Outcome(plan, text, len(job.quarantine))
    with claimed(out, command, arguments, inputs, scratch=("metrics.jsonl", "reference.sqlite")):
        if (out / "DONE").exists():
            return _outcome(out, "done before, nothing to do")
        job = make()
        with (
            training_progress(recipe.total_steps(job.n_examples)) as show,
            (out / "metrics.jsonl").open("w", encoding="utf-8") as metrics,
        ):

            def on_log(row: dict[str, float]) -> None:
                metrics.write(json.dumps(row) + "\n")
                metrics.flush()
                show(row)

            job.run(on_log=on_log)
        write_quarantine(job.quarantine, out)
        save_language_model(job.lm, out / "model", card=_card(command, arguments, inputs, job))
        write_text(out / "DONE", "")
        return _outcome(out, f"trained on {job.n_examples} examples")


def _outcome(out: Path, what: str) -> Outcome:
    last = json.loads((out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    n_quarantined = len((out / "quarantine.jsonl").read_text(encoding="utf-8").splitlines())
    text = f"{what}: step {last['step']}, loss {last['loss']:.4f}\n{n_quarantined} rows left out\nmodel in {out}/model"
    return Outcome({**last, "quarantined": n_quarantined, "model": str(out / "model")}, text, n_quarantined)


def _card(command: str, arguments: Mapping[str, Any], inputs: Sequence[str | Path], job: Job) -> str:
    settings = settings_yaml({k: v for k, v in flag_settings(arguments).items() if k not in ("out", "dry_run")})
    return (
        f"# A model trained with Smidgen\n\nMade by `smidgen {command}` on {job.n_examples} examples from "
        f"{', '.join(Path(name).name for name in inputs)}.\n\n```yaml\n{settings}```\n"
    )


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
