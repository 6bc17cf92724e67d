"""Every objective as one function that trains a model on the same material."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from smidgen.data.answers import encode_answers, unpaired
from smidgen.data.markers import Markers, encode_markers
from smidgen.data.templates import Template, with_suffix
from smidgen.data.tokens import EncodedPair
from smidgen.models.load import LanguageModel
from smidgen.models.reference_store import ReferenceStore
from smidgen.models.rewards import Reward
from smidgen.pairs import PreferencePair
from smidgen.training.hindsight import fitting, hindsight_rows, train_hindsight
from smidgen.training.loop import Recipe
from smidgen.training.losses import loss
from smidgen.training.ppo import train_ppo
from smidgen.training.ppo_settings import PPOSettings
from smidgen.training.preference import ReferenceLogps, needs_reference, train_preference
from smidgen.training.rollouts import Prompt
from smidgen.training.sft import train_on_answers
from smidgen.training.unpaired import train_unpaired


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


def hindsight(lm: LanguageModel, material: Material, seed: int) -> Template:
    """Chain of Hindsight, asked with the good marker."""
    markers = Markers()
    encoded = encode_markers(markers, material.template, lm.tokenizer)
    rows, _ = fitting(hindsight_rows(material.encoded, encoded, seed=seed), lm.max_positions + 1)
    train_hindsight(lm, rows, recipe=material.recipe, seed=seed)
    return with_suffix(material.template, markers.good[0])


def kto_unpaired(lm: LanguageModel, material: Material, seed: int) -> None:
    """KTO on the same answers, each marked by itself: two a pair."""
    answers = encode_answers(unpaired(material.pairs), material.template, lm.tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        store = ReferenceStore(Path(folder) / "reference.sqlite")
        train_unpaired(lm, answers, store, recipe=material.recipe, seed=seed)


def ppo(lm: LanguageModel, material: Material, seed: int) -> None:
    """PPO on the pairs' prompts, rewarded by the judge, as many steps as the others."""
    prompts = [Prompt(p.prompt, e.prompt) for p, e in zip(material.pairs, material.encoded, strict=True)]
    settings = PPOSettings(max_new_tokens=32, normalise_scores=True)
    train_ppo(lm, prompts, material.judge, settings=settings, recipe=material.recipe, seed=seed)


# A judge may put the rejected answer first, which this loss leaves to its user.
_SETTINGS = {"odpo": "odpo:unordered=swap"}

TRAININGS: dict[str, Training] = {
    "sft": sft,
    "hindsight": hindsight,
    "kto_unpaired": kto_unpaired,
    "ppo": ppo,
    **{f.__name__: preference(_SETTINGS.get(f.__name__, f.__name__)) for f in loss},
}
