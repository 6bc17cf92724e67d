"""Held-out pairs: measured as the second endpoint measures them, and never trained on."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from smidgen.data.tokens import EncodedPair
from smidgen.errors import InvalidData, UsageError
from smidgen.evaluation.endpoints import preference_accuracy
from smidgen.models.load import LanguageModel
from smidgen.models.logprobs import AnswerLogps, find_layout
from smidgen.models.reference_store import ReferenceStore
from smidgen.training.heldout import heldout_measure
from smidgen.training.loop import Evaluation, Recipe
from smidgen.training.preference import ReferenceLogps, reference_logps, train_preference

RECIPE = Recipe(learning_rate=1e-3, steps=6, batch_size=4, dtype="float32")


def pairs(n: int, first: int = 0) -> list[EncodedPair]:
    generator = torch.Generator().manual_seed(first)

    def draw(low: int, high: int) -> tuple[int, ...]:
        length = int(torch.randint(low, high, (1,), generator=generator))
        return tuple(torch.randint(5, 250, (length,), generator=generator).tolist())

    return [EncodedPair(idx=first + i, prompt=draw(3, 9), chosen=draw(2, 12), rejected=draw(2, 12)) for i in range(n)]


def summed(reference: list[ReferenceLogps], side: int) -> np.ndarray:
    return np.array([both[side].sum() for both in reference])


def test_it_is_the_second_endpoint_while_training(tiny: LanguageModel, tmp_path: Path) -> None:
    learnt, unseen = pairs(12), pairs(9, first=100)
    store = ReferenceStore(tmp_path / "reference.sqlite")
    reference = reference_logps(tiny, learnt, store)
    unseen_reference = reference_logps(tiny, unseen, store)
    measure = heldout_measure(tiny, unseen, unseen_reference, objective="dpo:beta=0.5", recipe=RECIPE)
    before = measure(AnswerLogps(tiny.model, find_layout(tiny.model)))
    assert before["heldout_loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert before["heldout_accuracy"] == 0.5
    assert before["heldout_margin_nats"] == pytest.approx(0, abs=1e-5)

    plain = {name: tensor.clone() for name, tensor in tiny.model.state_dict().items()}
    evaluation = Evaluation(measure=measure, every_steps=3)
    log = train_preference(tiny, learnt, reference, objective="dpo", recipe=RECIPE, seed=0, evaluation=evaluation)
    assert [row["step"] for row in log.rows if "heldout_loss" in row] == [3, 6]
    chosen, rejected = summed(unseen_reference, 0), summed(unseen_reference, 1)
    expected = preference_accuracy(tiny, unseen, ref_chosen_logps=chosen, ref_rejected_logps=rejected).mean()
    assert log.rows[-1]["heldout_accuracy"] == pytest.approx(expected)
    now = reference_logps(tiny, unseen, ReferenceStore(tmp_path / "after.sqlite"))
    # The store goes by the fingerprint of the weights at load, so a store of its own.
    margins = summed(now, 0) - summed(now, 1) - chosen + rejected
    assert log.rows[-1]["heldout_margin_nats"] == pytest.approx(margins.mean(), abs=1e-4)
    assert log.rows[-1]["heldout_loss"] == pytest.approx(np.log1p(np.exp(-0.5 * margins)).mean(), abs=1e-4)

    ends = {name: tensor.clone() for name, tensor in tiny.model.state_dict().items()}
    tiny.model.load_state_dict(plain)
    train_preference(tiny, learnt, reference, objective="dpo", recipe=RECIPE, seed=0)
    assert all(torch.equal(tensor, ends[name]) for name, tensor in tiny.model.state_dict().items())


def test_parts_and_missing_references(tiny: LanguageModel) -> None:
    unseen, scorer = pairs(9), AnswerLogps(tiny.model, find_layout(tiny.model))
    found = []
    for most_tokens in (20, 10_000):
        recipe = Recipe(dtype="float32", micro_batch_tokens=most_tokens)
        found.append(heldout_measure(tiny, unseen, None, objective="simpo", recipe=recipe)(scorer))
    assert found[0] == pytest.approx(found[1], abs=1e-4)
    assert found[0]["heldout_margin_nats"] != 0


def test_what_cannot_be_measured_is_said_before_training(tiny: LanguageModel) -> None:
    with pytest.raises(InvalidData, match="at least one held-out pair, got none"):
        heldout_measure(tiny, [], None, objective="dpo", recipe=RECIPE)
    with pytest.raises(InvalidData, match="expected a chosen_score"):
        heldout_measure(tiny, pairs(2), None, objective="odpo", recipe=RECIPE)
    with pytest.raises(UsageError, match="unknown loss"):
        heldout_measure(tiny, pairs(2), None, objective="dpp", recipe=RECIPE)
