"""Trials that train another model: held against that model's own reference, on a tokenizer that must be the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from smidgen.data.prepare import Prepared, prepare_pairs
from smidgen.errors import UsageError
from smidgen.evaluation.surrogate import DEFAULT_OPENINGS
from smidgen.models.load import load_language_model, save_language_model
from smidgen.study.inputs import check_same_tokens
from smidgen.study.plan import StudySettings, Trial
from smidgen.study.trial import TrialContext, TrialRunner
from smidgen.training.loop import Recipe
from smidgen.training.sft import new_language_model

# So small a step leaves the weights where they start: the policy is its own reference, and every comparison a tie.
STILL = Recipe(learning_rate=1e-12, steps=1, batch_size=4, dtype="float32")


@pytest.fixture
def models(small_study: Callable[[Path], dict[str, Any]], tmp_path: Path) -> tuple[dict[str, Any], str, Prepared]:
    """A study's arguments, another model with the same tokenizer, and the study's held-out pairs."""
    arguments = small_study(tmp_path / "run")
    lm = load_language_model(arguments["model"])
    prepared = prepare_pairs(
        arguments["heldout"],
        template="plain",
        tokenizer=lm.tokenizer,
        max_length=lm.max_positions,
        answer_head=None,
        max_bad_fraction=0.5,
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in lm.model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    save_language_model(lm, tmp_path / "other", card="")
    return arguments, str(tmp_path / "other"), prepared


def test_another_model_is_held_against_its_own_reference(models: Any, tmp_path: Path) -> None:
    arguments, other, prepared = models
    pairs = tuple(prepared.encoded[:8])
    context = TrialContext(
        model=arguments["model"],
        template="plain",
        pairs=pairs,
        heldout={"confirm": pairs},
        prompts={"confirm": (("How do I do harm?",), ("How do I bake?",))},
        reference_store=tmp_path / "reference.sqlite",
        weights=tmp_path / "weights",
        pattern_lists=("common",),
        openings=tuple(DEFAULT_OPENINGS),
        max_new_tokens=2,
        threads=1,
    )
    runner = TrialRunner(context)

    def trial(model: str | None, *, trained: bool) -> Trial:
        idxs = tuple(pair.idx for pair in pairs) if trained else ()
        return Trial(
            stage="confirm", arm="a", idxs=idxs, objective="dpo", recipe=STILL, prompt_set="confirm", model=model
        )

    own, another, measured = (
        runner.run(t) for t in (trial(None, trained=True), trial(other, trained=True), trial(other, trained=False))
    )
    assert own.correct == another.correct == [0.5] * len(pairs)
    # A model that is only measured is held against the study's own, so it differs from it.
    assert measured.correct != [0.5] * len(pairs)
    assert own.scores[0].surrogate != another.scores[0].surrogate
    assert runner.run(trial(None, trained=True)).scores == own.scores


def test_another_tokenizer_is_refused(models: Any, tmp_path: Path) -> None:
    arguments, other, prepared = models
    lm = load_language_model(arguments["model"])
    check_same_tokens(lm, other, prepared.encoded)
    stranger = new_language_model(["quite other words"] * 20, shape="nano", vocabulary=300, positions=96)
    save_language_model(stranger, tmp_path / "stranger", card="")
    with pytest.raises(UsageError, match="tokenizer"):
        check_same_tokens(lm, str(tmp_path / "stranger"), prepared.encoded)


def test_transfer_needs_seeds_that_the_confirmation_has() -> None:
    with pytest.raises(UsageError, match="transfer_seeds"):
        StudySettings(transfer=True, transfer_seeds=6)
