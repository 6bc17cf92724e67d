"""Every objective as one function that trains a model on the same material."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from smidgen.data.templates import Template
from smidgen.data.tokens import EncodedPair
from smidgen.models.load import LanguageModel
from smidgen.models.rewards import Reward
from smidgen.pairs import PreferencePair
from smidgen.training.loop import Recipe
from smidgen.training.losses import loss
from smidgen.training.preference import ReferenceLogps, needs_reference, train_preference
from smidgen.training.sft import train_on_answers


@dataclass(frozen=True, slots=True)
class Material:
    """Pairs with the reference's values and a judge's scores, and the recipe that all share."""

    pairs: list[PreferencePair]
    encoded: list[EncodedPair]
    reference: list[ReferenceLogps]
    template: Template
    judge: Reward
    recipe: Recipe


# Trains in place from a seed; returns the template to ask the model with, where that is another.
Training = Callable[[LanguageModel, Material, int], Template | None]


def preference(spec: str) -> Training:
    """A registered loss on pairs."""

    def train(lm: LanguageModel, material: Material, seed: int) -> None:
        reference = material.reference if needs_reference(spec, material.encoded) else None
        train_preference(lm, material.encoded, reference, objective=spec, recipe=material.recipe, seed=seed)

    return train


def sft(lm: LanguageModel, material: Material, seed: int) -> None:
    """Likelihood of the chosen answers."""
    pairs = material.encoded
    train_on_answers(
        lm,
        [p.prompt for p in pairs],
        [p.chosen for p in pairs],
        recipe=material.recipe,
        seed=seed,
        idxs=[p.idx for p in pairs],
    )


# A judge may put the rejected answer first, which this loss leaves to its user.
_SETTINGS = {"odpo": "odpo:unordered=swap"}

TRAININGS: dict[str, Training] = {
    "sft": sft,
    **{f.__name__: preference(_SETTINGS.get(f.__name__, f.__name__)) for f in loss},
}
