"""The whole path: from pairs, a model and two prompt lists to the smallest subset shown to be enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from smidgen.data.sources import check_sources
from smidgen.errors import UsageError
from smidgen.models.names import model_name
from smidgen.runs import read_json, write_json, write_text
from smidgen.selection.selectors import selector
from smidgen.study.executors import ExecutorName, check_executor
from smidgen.study.plan import StudySettings
from smidgen.study.progress import Progress
from smidgen.study.public import read_public, report_public

_DEFAULTS = StudySettings()
# With 100 a class, a score of .40 lies within about .10 (Newcombe, 95 %).
_FEW_PROMPTS = 100


def minimize(
    *,
    out: Path,
    pairs: Sequence[str],
    model: str,
    harmful: Path | None = None,
    harmless: Path | None = None,
    confirm_harmful: Path | None = None,
    confirm_harmless: Path | None = None,
    public_harmful: Path | None = None,
    public_harmless: Path | None = None,
    public_patterns: str = "exercise",
    heldout: Sequence[str] = (),
    heldout_share: float = 0.05,
    aligned: str | None = None,
    template: str = "plain",
    max_length: int | None = None,
    answer_head: int | None = None,
    single_turn: bool = False,
    first: int | None = None,
    heldout_first: int | None = None,
    max_bad_fraction: float = 0.5,
    allow_leaks: bool = False,
    settings: StudySettings = _DEFAULTS,
    workers: int = 2,
    threads: int = 1,
    executor: ExecutorName = "local",
    address: str | None = None,
    dry_run: bool = False,
    watch: Callable[[Progress], None] = lambda progress: None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Search on dev, confirm on fresh prompts and seeds, and write the run's folder.

    Killed at any moment and called again with the same arguments, it goes on where it was and ends in the same
    subset.csv and certificate.json.

    Args:
        out: The run's folder; this function owns it.
        pairs: Sources of preference pairs.
        model: The SFT model to start from.
        harmful: Prompts to refuse, dev; halved by hash into dev and confirm where no confirm files are given.
        harmless: Prompts to answer.
        confirm_harmful: Touched once, at the end.
        confirm_harmless: Touched once, at the end.
        public_harmful: Prompts that others know too: no claim, reported once, in public.json.
        public_harmless: The same, to answer.
        public_patterns: Refusals that count there anywhere, in the prompt too, beside those of the other lists.
        heldout: Sources of held-out pairs; without them, `heldout_share` of the pairs are held out by hash.
        heldout_share: Share of pairs held out where no source is given.
        aligned: The model after training on all pairs, if there is one; margins are measured against it.
        heldout_first: Hold out the first so many usable pairs of those sources.
        settings: Everything that is frozen before the first trial.
        workers: Trials at a time; 0 runs them in this process, or as many as a Ray cluster has room for.
        threads: Of each trial, and of features and metagradients; results are equal only for equal numbers of them.
        executor: Where trials and features are computed: local, or ray; the results are the same.
        address: Of a Ray cluster's head, host:port, or auto; without it, ray starts one on this machine.
        dry_run: Say how many trials and how long, and stop.
        watch: Called at every step of the study.
        say: Called with lines for people.

    Returns:
        The certificate; after a dry run how many `trials`, `steps` and `seconds` the study may take.

    Raises:
        UsageError: Settings that cannot be taken.
        InvalidData: Too few usable pairs, or leaks.
    """
    if (out / "DONE").exists():
        say(f"{out} is done already; this is its certificate.")
        return read_json(out / "certificate.json")
    check_executor(executor, address)
    unbound = [selector.bind(spec) for spec in settings.selectors]
    if not unbound:
        raise UsageError("expected at least one selector; give --selector.")
    public = read_public(public_harmful, public_harmless, public_patterns)
    check_sources([*pairs, *heldout])
    for name in filter(None, (model, aligned, settings.transfer_model)):
        model_name(name)

    # What was wrong so far is told without waiting for the engine.
    from smidgen.models.load import load_language_model
    from smidgen.study.context import named_models, trial_context
    from smidgen.study.estimate import estimate
    from smidgen.study.execute import on_threads, open_executor
    from smidgen.study.inputs import check_same_tokens, counts_line, input_hashes, read_inputs
    from smidgen.study.outputs import drop_work, write_environment
    from smidgen.study.procedure import search_and_confirm
    from smidgen.study.records import StudyRecords
    from smidgen.study.study import Study
    from smidgen.training.preference import check_objective

    lm = load_language_model(model)
    inputs = read_inputs(
        lm,
        pairs=pairs,
        heldout=heldout,
        heldout_share=heldout_share,
        harmful=harmful,
        harmless=harmless,
        confirm_harmful=confirm_harmful,
        confirm_harmless=confirm_harmless,
        template=template,
        max_length=max_length,
        answer_head=answer_head,
        single_turn=single_turn,
        first=first,
        heldout_first=heldout_first,
        max_bad_fraction=max_bad_fraction,
        allow_leaks=allow_leaks,
        out=out,
    )
    settings.ladder(len(inputs.pairs))
    check_objective(settings.loss, inputs.encoded)
    if settings.transfer:
        check_objective(settings.transfer_loss, inputs.encoded)
    if settings.transfer_model:
        check_same_tokens(lm, settings.transfer_model, inputs.encoded)
    say(counts_line(inputs))
    if (fewest := min(map(len, inputs.prompts["confirm"]))) < _FEW_PROMPTS:
        say(f"warning: {fewest} confirm prompts of a class can hardly carry a claim; at least {_FEW_PROMPTS} can.")
    expected = estimate(lm, inputs, settings, workers=workers, threads=threads, clamped=executor == "local")
    say(expected.sentence(workers, here=executor == "local"))
    if dry_run:
        return {"dry_run": True, "pairs": len(inputs.pairs), **asdict(expected)}
    with (
        on_threads(threads),
        open_executor(executor, address=address, workers=workers, threads=threads, say=say) as placed,
    ):
        write_environment(out)
        write_json(out / "inputs.json", input_hashes(lm, inputs))
        context = trial_context(
            lm,
            inputs,
            settings,
            out,
            model=model,
            template=template,
            threads=threads,
            score=placed.score,
            watch=watch,
        )
        with placed.trials(context, lambda: named_models(lm, model, aligned, settings)) as run_trials:
            idxs, records = tuple(inputs.pairs.idxs), StudyRecords(out / "study.sqlite")
            study = Study(settings, idxs, settings.recipe, records, run_trials, watch)
            certificate = search_and_confirm(study, lm, inputs, context, aligned, out, placed, say)
        if public:
            models = {"base": model, **({"aligned": aligned} if aligned else {}), "subset": str(out / "model")}
            watch(Progress("public prompts", 0, 1))
            report_public(
                public,
                models,
                inputs.pairs,
                out,
                template=template,
                pattern_lists=settings.pattern_lists,
                max_new_tokens=settings.max_new_tokens,
            )
    write_text(out / "DONE", "")
    drop_work(out)
    return certificate
