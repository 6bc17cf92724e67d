"""A stand-in for the model trained on all pairs, for margins where there is none: trained on all, or on a share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from smidgen.data.tokens import EncodedPair
from smidgen.errors import UsageError
from smidgen.models.load import LanguageModel, load_language_model, save_language_model
from smidgen.models.reference_store import ReferenceStore
from smidgen.pairs import random_key
from smidgen.runs import content_hash
from smidgen.training.loop import Recipe
from smidgen.training.preference import reference_logps, train_preference

_RECIPE = Recipe(epochs=1.0)


def trained_proxy(
    model: str | Path,
    pairs: Sequence[EncodedPair],
    *,
    share: float,
    seed: int,
    work: Path,
    objective: str = "dpo:beta=0.1",
    recipe: Recipe = _RECIPE,
) -> LanguageModel:
    """The model after training on a share of the pairs, drawn by seed and idx; trained once, then read from `work`.

    Args:
        model: Where to start, a folder or a hub name.
        pairs: All pairs.
        share: Of them, above 0; 1 for all.
        seed: Decides the draw and the order of training.
        work: Where the trained weights and the reference's log-probabilities are kept.
        objective: A registered loss with settings.
        recipe: How it is trained: one pass over the share by default.

    Raises:
        UsageError: A share outside 0 to 1.
    """
    if not 0 < share <= 1:
        raise UsageError(f"expected a share of the pairs above 0 and up to 1 to train on, got {share}; 1 takes all.")
    lm = load_language_model(model)
    drawn = share_of(pairs, share, seed)
    settings = (lm.fingerprint, [(p.idx, p.prompt, p.chosen, p.rejected) for p in drawn])
    folder = work / f"proxy-{content_hash((*settings, seed, objective, asdict(recipe)))}"
    if not folder.exists():
        reference = reference_logps(lm, drawn, ReferenceStore(work / "reference.sqlite"), dtype=recipe.dtype)
        train_preference(lm, drawn, reference, objective=objective, recipe=recipe, seed=seed)
        save_language_model(lm, folder, card=f"Trained on {len(drawn)} of {len(pairs)} pairs, for margins.\n")
    return load_language_model(folder)


def share_of(pairs: Sequence[EncodedPair], share: float, seed: int) -> list[EncodedPair]:
    """The pairs with the lowest lots, at least one; whatever the order of rows, and nested in every larger share."""
    n_drawn = max(1, round(share * len(pairs)))
    drawn = {p.idx for p in sorted(pairs, key=lambda p: random_key(f"proxy {seed}", p.idx))[:n_drawn]}
    return [p for p in pairs if p.idx in drawn]
