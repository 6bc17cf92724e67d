"""Sizes, steps and names of trials."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen.errors import UsageError
from smidgen.study.plan import StudySettings, Trial
from smidgen.training.loop import Recipe


def test_sizes_halve_from_the_largest_down_to_the_smallest() -> None:
    assert StudySettings(smallest=50, largest=0.25).ladder(5000) == [1250, 625, 312, 156, 78]
    assert StudySettings(sizes=(100, 400, 100)).ladder(5000) == [400, 100]


@pytest.mark.parametrize(("settings", "n"), [(StudySettings(sizes=(10, 20)), 20), (StudySettings(smallest=50), 100)])
def test_sizes_that_do_not_fit_are_refused(settings: StudySettings, n: int) -> None:
    with pytest.raises(UsageError, match="size"):
        settings.ladder(n)


@given(n=st.integers(20, 5000), size=st.integers(1, 5000), share=st.floats(0.01, 1), epochs=st.floats(0.1, 4))
def test_a_subset_trains_its_share_never_less_than_its_epochs_never_more_than_full(
    n: int, size: int, share: float, epochs: float
) -> None:
    size = min(size, n)
    recipe = Recipe(epochs=epochs)
    full = recipe.total_steps(n)
    steps = StudySettings(subset_steps=share).subset_recipe(recipe, n, size).total_steps(size)
    assert min(full, recipe.total_steps(size)) <= steps <= full
    assert steps >= min(full, round(share * full))


def test_a_trial_is_named_by_all_that_decides_it() -> None:
    trial = Trial(stage="search", arm="search", idxs=(1, 2), objective="dpo", recipe=Recipe(), prompt_set="dev")
    assert trial.trial_id == replace(trial).trial_id
    for change in (
        {"seed": 1},
        {"idxs": (2, 1)},
        {"recipe": Recipe(steps=9)},
        {"objective": "sft"},
        {"generate": False},
    ):
        assert replace(trial, **change).trial_id != trial.trial_id


@pytest.mark.parametrize("wrong", [{"confirm_seeds": 1}, {"delta": 0.0}, {"delta": -0.1}, {"subset_steps": 0.0}])
def test_settings_that_cannot_carry_a_claim_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="expected"):
        StudySettings(**wrong)  # pyright: ignore[reportArgumentType]
