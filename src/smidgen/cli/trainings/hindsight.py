"""`smidgen train hindsight`: Chain of Hindsight, and the file that says how to ask such a model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated

from annotated_types import Interval
from cyclopts import Parameter
from cyclopts.types import ExistingFile
from pydantic import PositiveFloat

from smidgen.cli.flags import FLAT, RARE, SETTINGS, DryRun, Model, Out, PairData, Seed
from smidgen.cli.outcome import Outcome
from smidgen.cli.train_run import DEFAULT_UPKEEP, Job, UpkeepFlags, train_into
from smidgen.data.checks import Quarantined
from smidgen.data.markers import Markers, encode_markers, how_to_ask
from smidgen.data.readers import read_utf8
from smidgen.data.templates import load_template
from smidgen.errors import InvalidData, UsageError
from smidgen.models.load import load_language_model, load_tokenizer
from smidgen.pairs import PairTable
from smidgen.runs import write_json
from smidgen.training.hindsight import (
    ROW_KINDS,
    HindsightRow,
    fitting,
    general_rows,
    hindsight_rows,
    train_hindsight,
)
from smidgen.training.loop import Recipe

_OWN = Markers()
_DEFAULT_RECIPE = Recipe()
_GENERAL_WEIGHT = 0.01
Marker = Parameter(metavar="TEXT")


def hindsight(
    *,
    data: Annotated[PairData, FLAT],
    model: Model,
    out: Out,
    general_text: Annotated[tuple[ExistingFile, ...], Parameter(metavar="FILE")] = (),
    general_weight: PositiveFloat | None = None,
    mask_share: Annotated[float, Interval(ge=0, lt=1)] = 0.05,
    good_marker: Annotated[tuple[str, ...], RARE, Marker] = _OWN.good,
    bad_marker: Annotated[tuple[str, ...], RARE, Marker] = _OWN.bad,
    recipe: Annotated[Recipe, SETTINGS] = _DEFAULT_RECIPE,
    upkeep: UpkeepFlags = DEFAULT_UPKEEP,
    seed: Seed = 0,
    dry_run: DryRun = False,
) -> Outcome:
    """Chain of Hindsight: learn both answers, each behind a marker.

    Four rows a pair: the good answer, the bad one, and both in either order. Ask the trained model with the good
    marker, as model/hindsight.json says.

    Args:
        general_text: Text in UTF-8 to keep modelling; repeatable.
        general_weight: What that text counts; 0.01 with --general-text.
        mask_share: Hide up to this share of past tokens from attention.
        good_marker: Stands before a chosen answer; repeatable, drawn at random. The first is the one to ask with.
        bad_marker: Stands before a rejected answer; repeatable.
    """
    arguments = dict(locals())
    if general_weight is not None and not general_text:
        raise UsageError("expected --general-text with --general-weight, got none; give the text, or leave it out.")
    markers = Markers(good=good_marker, bad=bad_marker)

    def job() -> Job:
        lm = load_language_model(model)
        prepared = data.prepared(lm.tokenizer, positions=lm.max_positions)
        encoded = encode_markers(markers, load_template(data.template, lm.tokenizer), lm.tokenizer)
        every_row = hindsight_rows(prepared.encoded, encoded, seed=seed)
        rows, long = fitting(every_row, most := lm.max_positions + 1)
        if not rows:
            raise InvalidData(
                f"expected at least one answer that fits into {most} tokens with its prompt and marker, got none; "
                "leave out the longest pairs, or give shorter markers."
            )
        text = general_rows(lm, [read_utf8(path) for path in general_text]) if general_text else []
        run = partial(
            train_hindsight,
            lm,
            rows,
            text=text,
            general_weight=_GENERAL_WEIGHT if general_weight is None else general_weight,
            mask_share=mask_share,
            recipe=recipe,
            seed=seed,
            **upkeep.around(out),
        )
        left_out = [*prepared.quarantine, *_too_long(long, prepared.pairs, most)]
        return Job(lm, len(rows), sum(map(len, (*rows, *text))), run, left_out)

    outcome = train_into("train hindsight", arguments, [*data.pairs, *general_text, model], job)
    if not dry_run:
        template = load_template(data.template, load_tokenizer(out / "model"))
        write_json(out / "model" / "hindsight.json", how_to_ask(template, markers))
    return outcome


def _too_long(rows: Sequence[HindsightRow], pairs: PairTable, most: int) -> list[Quarantined]:
    """Rows that do not fit, as lines of the quarantine; the other rows of their pairs are learned."""
    found = []
    for row in rows:
        pair = pairs.by_idx(row.idx // len(ROW_KINDS))
        detail = f"its row {row.kind} has {len(row)} tokens with markers, above {most}; rows that fit are kept"
        found.append(Quarantined(pair.source, pair.source_row + 1, pair.idx, "over_long", detail))
    return found
