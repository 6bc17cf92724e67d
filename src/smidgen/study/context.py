"""What all trials of a study share, made once from its inputs, and the models that they name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from smidgen.data.templates import load_template
from smidgen.evaluation.patterns import load_pattern_lists
from smidgen.evaluation.surrogate import refusal_openings
from smidgen.models.load import LanguageModel, load_language_model
from smidgen.models.reference_store import ReferenceStore, Score
from smidgen.plugins import loaded_plugins
from smidgen.study.inputs import StudyInputs
from smidgen.study.plan import StudySettings
from smidgen.study.progress import Progress
from smidgen.study.trial import TrialContext
from smidgen.training.preference import reference_logps


def trial_context(
    lm: LanguageModel,
    inputs: StudyInputs,
    settings: StudySettings,
    out: Path,
    *,
    model: str,
    template: str,
    threads: int,
    score: Score,
    watch: Callable[[Progress], None],
) -> TrialContext:
    """What all trials share, with the reference's log-probabilities of all pairs, by `score`, in their store."""
    store = out / "reference.sqlite"
    watch(Progress("reference log-probabilities", 0, 1))
    heldout = [*inputs.heldout["dev"], *inputs.heldout["confirm"]]
    # Of every model that trials start from, here and in one order: a value's last bits may depend on its neighbours.
    for name in filter(None, (model, settings.transfer_model)):
        reference = lm if name == model else load_language_model(name)
        reference_logps(reference, inputs.encoded, ReferenceStore(store), dtype=settings.recipe.dtype, score=score)
        reference_logps(reference, heldout, ReferenceStore(store), score=score)
    (patterns,) = load_pattern_lists([settings.patterns])
    return TrialContext(
        model=model,
        template=template,
        pairs=tuple(inputs.encoded),
        heldout=inputs.heldout,
        prompts=inputs.prompts,
        reference_store=store,
        weights=out / "weights",
        pattern_lists=settings.pattern_lists,
        openings=refusal_openings(
            (pair.chosen_text for pair in inputs.pairs),
            patterns.matches,
            load_template(template, lm.tokenizer),
            lm.tokenizer,
        ),
        max_new_tokens=settings.max_new_tokens,
        threads=threads,
        deciding=settings.deciding,
        plugins=loaded_plugins(),
    )


def named_models(
    lm: LanguageModel, model: str, aligned: str | None, settings: StudySettings
) -> dict[str, LanguageModel]:
    """Every model that trials may name."""
    others = {name for name in (aligned, settings.transfer_model) if name and name != model}
    return {model: lm, **{name: load_language_model(name) for name in sorted(others)}}
