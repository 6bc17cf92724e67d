"""`smidgen train kto_unpaired`: Kahneman–Tversky optimisation on single marked answers."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from cyclopts import Parameter
from pydantic import PositiveFloat

from smidgen.cli.flags import (
    LOSS_SETTINGS,
    SETTINGS,
    AnswerHead,
    DryRun,
    MaxBadFraction,
    MaxLength,
    Model,
    Out,
    Seed,
    TemplateName,
)
from smidgen.cli.outcome import Outcome
from smidgen.cli.shown import say
from smidgen.cli.train_run import DEFAULT_UPKEEP, Job, UpkeepFlags, train_into
from smidgen.data.answers import prepare_answers
from smidgen.data.templates import load_template
from smidgen.models.load import load_language_model
from smidgen.models.reference_store import ReferenceStore
from smidgen.training.loop import Around, Recipe, TrainingLog
from smidgen.training.losses.marked import balance_advice
from smidgen.training.losses.marked import kto_unpaired as kto_loss
from smidgen.training.record import OnLog
from smidgen.training.unpaired import train_unpaired

_DEFAULT_RECIPE = Recipe()
_LOSS = Parameter(group=LOSS_SETTINGS.group)


def kto_unpaired(
    *,
    answers: Annotated[
        list[str],
        Parameter(
            metavar="SOURCE",
            help="Marked answers: file, folder or hub name; repeatable. "
            "JSONL, JSON, CSV or Parquet with prompt, completion (or response, or answer) and label.",
        ),
    ],
    model: Model,
    out: Out,
    template: TemplateName = "plain",
    max_length: MaxLength = None,
    answer_head: AnswerHead = None,
    max_bad_fraction: MaxBadFraction = 0.5,
    beta: Annotated[PositiveFloat, _LOSS] = 0.1,
    desirable_weight: Annotated[PositiveFloat, _LOSS] = 1.0,
    undesirable_weight: Annotated[PositiveFloat, _LOSS] = 1.0,
    recipe: Annotated[Recipe, SETTINGS] = _DEFAULT_RECIPE,
    upkeep: UpkeepFlags = DEFAULT_UPKEEP,
    seed: Seed = 0,
    dry_run: DryRun = False,
) -> Outcome:
    """KTO on single answers that are marked good or bad; no pairs.

    The label is true, false, 1 or 0. For preference pairs there is `smidgen train kto`.

    Args:
        beta: Scale of the implicit reward.
        desirable_weight: What a good answer counts.
        undesirable_weight: What a bad answer counts.
    """
    arguments = dict(locals())
    weights = {"desirable_weight": desirable_weight, "undesirable_weight": undesirable_weight}

    def job() -> Job:
        lm = load_language_model(model)
        prepared = prepare_answers(
            answers,
            template=load_template(template, lm.tokenizer),
            tokenizer=lm.tokenizer,
            max_length=min(max_length or lm.max_positions + 1, lm.max_positions + 1),
            answer_head=answer_head,
            max_bad_fraction=max_bad_fraction,
        )
        if advice := balance_advice(prepared.encoded, **weights):
            say(f"smidgen: note: {advice}")

        def run(*, on_log: OnLog) -> TrainingLog:
            store = ReferenceStore(out / "reference.sqlite")
            objective = partial(kto_loss, beta=beta, **weights)
            around: Around = {**upkeep.around(out), "on_log": on_log}
            return train_unpaired(lm, prepared.encoded, store, objective=objective, recipe=recipe, seed=seed, **around)

        return Job(lm, len(prepared.encoded), sum(map(len, prepared.encoded)), run, prepared.quarantine)

    return train_into("train kto_unpaired", arguments, [*answers, model], job)
