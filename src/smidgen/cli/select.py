"""`smidgen select`: a subset of the pairs at a budget, and why each pair is in it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from pydantic import NonNegativeInt, PositiveInt

from smidgen.cli.flags import (
    FLAT,
    RARE,
    Address,
    Aligned,
    DryRun,
    Executor,
    Harmful,
    Harmless,
    Model,
    Out,
    PairData,
    Seed,
)
from smidgen.cli.outcome import Outcome, claimed, left_out
from smidgen.cli.shown import say
from smidgen.data.prepare import write_quarantine
from smidgen.data.sources import check_sources
from smidgen.data.tables import write_subset
from smidgen.data.templates import load_template
from smidgen.errors import UsageError
from smidgen.evaluation.patterns import SHIPPED
from smidgen.models.names import model_name
from smidgen.selection.features import WORK, write_features
from smidgen.selection.selectors import selector as selectors
from smidgen.selection.selectors import top
from smidgen.selection.why import subset_columns, why_dropped, why_kept
from smidgen.settings import PositiveShare
from smidgen.study.executors import check_executor

if TYPE_CHECKING:
    from smidgen.data.tokens import EncodedPair
    from smidgen.models.load import LanguageModel


def select(
    *,
    data: Annotated[PairData, FLAT],
    model: Model,
    out: Out,
    budget: Annotated[PositiveInt, Parameter(metavar="PAIRS")],
    selector: Annotated[str, Parameter(metavar="NAME")] = "contrast",
    aligned: Aligned = None,
    train_aligned: Annotated[PositiveShare | None, Parameter(metavar="SHARE")] = None,
    harmful: Harmful = None,
    harmless: Harmless = None,
    patterns: Annotated[str, RARE, Parameter(metavar="LIST")] = "common",
    seed: Seed = 0,
    executor: Executor = "local",
    address: Address = None,
    workers: Annotated[NonNegativeInt, RARE] = 0,
    threads: Annotated[PositiveInt | None, RARE] = None,
    dry_run: DryRun = False,
) -> Outcome:
    """Choose a subset of the pairs at a budget.

    Writes subset.csv (idx, prompt, chosen, rejected, then why), subset_spreadsheet.csv, features.parquet and
    quarantine.jsonl. The prompts only tell harmful requests from harmless ones; half of a file given is left for
    the end of a study.

    Args:
        budget: How many pairs to keep.
        selector: The ranking, with its settings: name or name:key=value,…; see `smidgen settings schema selector`.
        train_aligned: Without --aligned, train one on this share of the pairs first, 1 for all; where it is needed.
        workers: With --executor ray, blocks of pairs at a time; 0 for as many as the cluster has room for.
        threads: Of the models; results are equal only for equal numbers of them. Without it, the machine's own.
        patterns: By which an answer refuses or does not: a shipped list, or a file with one phrase a line.
    """
    arguments = dict(locals())
    check_executor(executor, address)
    rank = selectors.bind(selector)
    if aligned and train_aligned is not None:
        raise UsageError("expected --aligned or --train-aligned, got both; leave one out.")
    check_sources(data.pairs)
    for name in filter(None, (model, aligned)):
        model_name(name)

    # What was wrong so far is told without waiting for the engine.
    import torch

    from smidgen.models.load import load_language_model
    from smidgen.selection.measure import measure_features
    from smidgen.study.execute import on_threads, open_executor
    from smidgen.study.inputs import read_prompts

    dev = read_prompts(harmful, harmless, None, None)["dev"]
    lm = load_language_model(model)
    prepared = data.prepared(lm.tokenizer, positions=lm.max_positions)
    if dry_run:
        text = f"{budget} of {len(prepared.pairs)} pairs by {selector}; dry run: nothing written"
        return Outcome({"budget": budget, "pairs": len(prepared.pairs)}, text, len(prepared.quarantine))
    prompt_files = [path for path in (harmful, harmless, None if patterns in SHIPPED else patterns) if path]
    inputs = [*data.pairs, model, *([aligned] if aligned else []), *prompt_files]
    threads = threads or torch.get_num_threads()
    with (
        claimed(out, "select", arguments, inputs, stores=(WORK,)),
        on_threads(threads),
        open_executor(executor, address=address, workers=workers, threads=threads, say=say) as placed,
    ):
        features, _ = measure_features(
            lm,
            prepared.pairs,
            prepared.encoded,
            template=load_template(data.template, lm.tokenizer),
            harmful=dev[0],
            harmless=dev[1],
            aligned=_aligned(aligned, train_aligned, model, prepared.encoded, seed, out / WORK),
            patterns=patterns,
            work=out / WORK,
            elsewhere=placed.elsewhere,
        )
        selection = rank(features, seed)
        subset = prepared.pairs.take(top(selection, budget))
        columns = subset_columns(
            subset,
            prepared.pairs,
            features,
            kept=why_kept(selection, features),
            dropped=why_dropped(selection, features, budget),
            selector=selector,
        )
        write_features(features, out / "features.parquet")
        write_quarantine(prepared.quarantine, out)
        path, _ = write_subset(out, subset, columns)
        shutil.rmtree(out / WORK, ignore_errors=True)
    kinds = Counter(columns["kind"])
    n_eligible = int(selection.eligible.sum())
    lines = [
        f"{budget} of {n_eligible} eligible pairs ({len(prepared.pairs)} in all) by {selector}",
        *(f"  {n:>6} {kind}" for kind, n in kinds.most_common()),
        *left_out(prepared),
        f"written to {path}",
    ]
    result = {
        "subset_size": len(subset),
        "eligible": n_eligible,
        "pairs": len(prepared.pairs),
        "kinds": dict(kinds),
        "subset": str(path),
    }
    return Outcome(result, "\n".join(lines), len(prepared.quarantine))


def _aligned(
    given: str | None, share: float | None, model: str, encoded: Sequence[EncodedPair], seed: int, work: Path
) -> Callable[[], LanguageModel] | None:
    """What gives the aligned model once a selector asks for it; None where there is to be none."""
    from smidgen.models.load import load_language_model
    from smidgen.study.proxy import trained_proxy

    if given:
        return partial(load_language_model, given)
    if share is None:
        return None
    if not 0 < share <= 1:
        raise UsageError(f"expected --train-aligned above 0 and up to 1, got {share}; 1 trains on all pairs.")
    return partial(trained_proxy, model, encoded, share=share, seed=seed, work=work)
