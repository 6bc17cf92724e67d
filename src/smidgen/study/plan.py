"""What a study is made of: its settings, its trials, and how long a subset trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Literal

from annotated_types import Ge
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from smidgen.errors import UsageError
from smidgen.evaluation.patterns import SHIPPED, list_name
from smidgen.runs import content_hash
from smidgen.settings import OpenShare, PositiveShare, Share, check_ranges
from smidgen.training.recipe import Recipe

SUPERVISED = "sft"
_RECIPE = Recipe()


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySettings:
    """Everything that is frozen before the first trial.

    Attributes:
        loss: The preference loss with its settings, as `dpo:beta=0.1`; or a weighted sum, as `dpo + 0.2*nll`.
        recipe: How every model is trained; `epochs` counts passes of the run on all pairs.
        learning_rates: Tried on all pairs on dev; the best is frozen for every run. Empty: the recipe's own.
        subset_steps: A subset trains at least this share of the full run's steps, and never more than all of them.
        selectors: Rankings that compete, as `name:key=value`.
        sizes: Subset sizes; empty for halvings of all pairs down to `smallest`.
        smallest: Smallest size tried where `sizes` is empty.
        largest: Largest size tried where `sizes` is empty, as a share of all pairs.
        survivors: Rankings kept for each size after the first round of racing.
        dev_seeds: Seeds of a finalist on dev.
        swap_rounds: Rounds of swapping the best subset of each size by metagradients; 0 for none.
        swap_share: Most pairs swapped in a round, as a share of the subset; halved where a round gains nothing.
        swap_steps: Optimiser steps of the run that metagradients go through.
        datamodel_trials: Cheap trials of random subsets, where a selector ranks by `datamodel`.
        datamodel_size: Pairs in each of them, half from each pool, and at most half of it.
        refine_groups: Groups of pairs that refinement first tries to drop, halved where none can go; 0 for none.
        refine_trials: Most trials of refinement, one for each group tried.
        confirm_sizes: Most sizes in the fixed sequence of tests.
        confirm_seeds: Fresh seeds of every arm on the confirm prompts.
        delta: Non-inferiority margin of the score; None for a third of (full - base) on dev, at most 0.15.
        accuracy_delta: Margin of held-out preference accuracy.
        degeneration_delta: Margin of the share of empty or repeating answers.
        confidence: Of every interval and test.
        patterns: The refusal list that decides; the others are reported.
        max_new_tokens: Length of a benchmark answer.
        transfer: Also train the confirmed subset and all pairs with `transfer_loss`.
        transfer_loss: Another objective, to see whether the subset is enough for it too.
        transfer_model: Another model with the same tokenizer, to train on the subset and on all pairs.
        transfer_seeds: Confirm seeds of the transfer runs.
        both_budgets: Also confirm the subset at equal epochs and at equal steps.
        seed: Everything random follows from it.
    """

    loss: str = "dpo:beta=0.1"
    recipe: Recipe = _RECIPE
    learning_rates: tuple[PositiveFloat, ...] = ()
    subset_steps: PositiveShare = 0.4
    selectors: tuple[str, ...] = (
        "contrast_cover",
        "contrast",
        "hidden_retrieval",
        "random_in_pool",
        "random",
    )
    sizes: tuple[PositiveInt, ...] = ()
    smallest: PositiveInt = 50
    largest: PositiveShare = 0.25
    survivors: PositiveInt = 2
    dev_seeds: PositiveInt = 2
    swap_rounds: NonNegativeInt = 2
    swap_share: PositiveShare = 0.2
    swap_steps: PositiveInt = 48
    datamodel_trials: Annotated[int, Ge(4)] = 64
    datamodel_size: Annotated[int, Ge(2)] = 256
    refine_groups: NonNegativeInt = 4
    refine_trials: NonNegativeInt = 12
    confirm_sizes: PositiveInt = 3
    confirm_seeds: Annotated[int, Ge(2)] = 5
    delta: OpenShare | None = None
    accuracy_delta: Share = 0.05
    degeneration_delta: Share = 0.05
    confidence: OpenShare = 0.95
    patterns: str = "common"
    max_new_tokens: PositiveInt = 32
    transfer: bool = False
    transfer_loss: str = "ipo:beta=0.1"
    transfer_model: str | None = None
    transfer_seeds: Annotated[int, Ge(2)] = 3
    both_budgets: bool = True
    seed: NonNegativeInt = 0

    def __post_init__(self) -> None:
        if self.confirm_seeds < 2:
            raise UsageError(
                f"expected at least 2 confirm seeds, got {self.confirm_seeds}: an interval over seeds needs them. "
                "Five or more keep the claim's error at its stated level."
            )
        if self.datamodel_trials < 4 or self.datamodel_size < 2:
            raise UsageError(
                f"expected 4 datamodel_trials or more of 2 pairs or more, got {self.datamodel_trials} of "
                f"{self.datamodel_size}: fewer fit nothing."
            )
        if not 2 <= self.transfer_seeds <= self.confirm_seeds and (self.transfer or self.transfer_model):
            raise UsageError(
                f"expected transfer_seeds from 2 to the {self.confirm_seeds} confirm seeds, got {self.transfer_seeds}"
            )
        check_ranges(self)

    @property
    def pattern_lists(self) -> tuple[str, ...]:
        """Every refusal list that answers are judged by."""
        return SHIPPED if self.patterns in SHIPPED else (*SHIPPED, self.patterns)

    @property
    def deciding(self) -> str:
        """The name, in every record, of the list that decides."""
        return list_name(self.patterns)

    def margins(self, delta: float) -> dict[str, float]:
        """How much each part of the second endpoint may fall below full data."""
        return {
            "preference_accuracy": self.accuracy_delta,
            "harmless_answered": delta,
            "no_degeneration": self.degeneration_delta,
        }

    def ladder(self, n_pairs: int) -> list[int]:
        """Subset sizes, largest first."""
        if self.sizes:
            too_large = [size for size in self.sizes if not 0 < size < n_pairs]
            if too_large:
                raise UsageError(f"expected sizes between 1 and {n_pairs - 1}, got {too_large}")
            return sorted(set(self.sizes), reverse=True)
        size, found = int(n_pairs * self.largest), []
        while size >= self.smallest:
            found.append(size)
            size //= 2
        if not found:
            raise UsageError(
                f"no subset size lies between {self.smallest} and {self.largest:.0%} of {n_pairs} pairs; give --sizes"
            )
        return found

    def subset_recipe(self, recipe: Recipe, n_pairs: int, n_subset: int) -> Recipe:
        """The recipe with the steps that a subset of this size trains for: the frozen rule of `subset_steps`."""
        full = recipe.total_steps(n_pairs)
        own = recipe.total_steps(n_subset) if recipe.steps is None else full
        return replace(recipe, steps=min(full, max(own, round(self.subset_steps * full))))


def planned_steps(settings: StudySettings, n_pairs: int) -> list[int]:
    """Optimiser steps of every trial a study may run, if every test passes and every baseline can be made."""
    full = settings.recipe.total_steps(n_pairs)
    sizes = settings.ladder(n_pairs)

    def steps(size: int) -> int:
        return settings.subset_recipe(settings.recipe, n_pairs, size).total_steps(size)

    tune = [full] * (max(1, len(settings.learning_rates)) + settings.dev_seeds - 1) + [0]
    of_a_draw = replace(settings.recipe, steps=None).total_steps(min(settings.datamodel_size, n_pairs))
    ranks_by_datamodel = any("datamodel" in spec for spec in settings.selectors)
    draws = [of_a_draw] * settings.datamodel_trials if ranks_by_datamodel else []
    race = [steps(size) for size in sizes for _ in settings.selectors]
    finals = [
        steps(size)
        for size in sizes
        for _ in range(min(settings.survivors, len(settings.selectors)) * settings.dev_seeds)
    ]
    # A metagradient costs about five steps of ordinary training for each of its own; the rest stands for its looks at
    # other pairs, however many there are.
    swap = [
        cost
        for size in sizes
        for cost in [8 * settings.swap_steps, steps(size), steps(size)] * settings.swap_rounds
        + [steps(size)] * (settings.dev_seeds if settings.swap_rounds else 0)
    ]
    look_back = [8 * settings.swap_steps] if settings.swap_rounds else []
    refine = [steps(sizes[0])] * (settings.refine_trials + 2 * settings.dev_seeds if settings.refine_groups else 0)
    tested = sorted(map(steps, sizes))[-settings.confirm_sizes :]
    # Beside the tested sizes: best, random, random in pool and SFT on the largest; full twice (all, and clean).
    arms = [*tested, *[steps(sizes[0])] * 4, full, full]
    if settings.both_budgets:
        arms += [settings.recipe.total_steps(sizes[0]), full]
    transfer = [steps(sizes[0]), full] * settings.transfer_seeds
    transfers = transfer * (settings.transfer + (settings.transfer_model is not None))
    return tune + draws + race + finals + swap + look_back + refine + [0] + arms * settings.confirm_seeds + transfers


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One training run on one subset with one seed, then its benchmark. No `idxs`: no training.

    Attributes:
        stage: "tune", "search", "refine" or "confirm".
        arm: What it stands for: base, full, subset, random, …; "search" for a candidate.
        selector: The ranking that the subset is a prefix of; "" where there is none.
        idxs: The pairs trained on, in the ranking's order.
        objective: A registered loss with settings, or "sft" for the chosen answers alone.
        prompt_set: "dev" or "confirm".
        generate: Whether the benchmark writes answers, or takes the surrogate alone.
        model: Where to start; None for the study's model.
        keep_weights: Whether the trained weights are kept in the run's folder.
    """

    stage: Literal["tune", "search", "refine", "confirm"]
    arm: str
    selector: str = ""
    idxs: tuple[int, ...] = ()
    seed: int = 0
    objective: str
    recipe: Recipe
    prompt_set: Literal["dev", "confirm"]
    generate: bool = True
    model: str | None = None
    keep_weights: bool = False

    @property
    def steps(self) -> int:
        return self.recipe.total_steps(len(self.idxs)) if self.idxs else 0

    @property
    def trial_id(self) -> str:
        """Hash of everything that decides the result."""
        return content_hash(asdict(self))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A ranking's prefix, or what refinement left of one, that may become the answer."""

    selector: str
    idxs: tuple[int, ...]

    @property
    def size(self) -> int:
        return len(self.idxs)


def mean(values: Sequence[float]) -> float:
    """Average of at least one number."""
    return sum(values) / len(values)
