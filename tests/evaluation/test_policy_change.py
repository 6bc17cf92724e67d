"""How far a policy moved: nothing from itself, sums over tokens, an unbiased KL, wins counted by hand."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from smidgen.data.tokens import EncodedPair
from smidgen.evaluation.policy_change import answer_log_ratios, kl_samples, wins
from smidgen.models.load import LanguageModel
from smidgen.models.logprobs import score_answers
from smidgen.pairs import Messages, messages_from

PAIRS = [EncodedPair(i, (3 + i, 4, 5), (60 + i, 61, 0), (70 + i, 0)) for i in range(4)]
PROMPTS = [pair.prompt for pair in PAIRS] * 60


@pytest.fixture
def moved(tiny: LanguageModel) -> LanguageModel:
    model = deepcopy(tiny.model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    return replace(tiny, model=model)


def test_a_policy_has_not_moved_from_itself(tiny: LanguageModel) -> None:
    for ratios in answer_log_ratios(tiny, tiny, PAIRS):
        np.testing.assert_allclose(ratios, 0, atol=1e-6)
    np.testing.assert_allclose(kl_samples(tiny, tiny, PROMPTS[:8], seed=0), 0, atol=1e-6)


def test_log_ratios_are_sums_over_each_answers_tokens(tiny: LanguageModel, moved: LanguageModel) -> None:
    chosen, rejected = answer_log_ratios(moved, tiny, PAIRS)
    for i, pair in enumerate(PAIRS):
        for found, answer in ((chosen[i], pair.chosen), (rejected[i], pair.rejected)):
            new, old = (score_answers(lm, [pair.prompt], [(answer,)])[0][0].sum() for lm in (moved, tiny))
            assert found == pytest.approx(new - old, abs=1e-4)
    assert np.abs(chosen).min() > 1e-3


def test_samples_average_to_the_kl_of_one_token(tiny: LanguageModel, moved: LanguageModel) -> None:
    """Of one new token, KL(π ‖ ref) can be summed over the vocabulary."""
    found = kl_samples(moved, tiny, PROMPTS, seed=1, max_new_tokens=1)
    with torch.no_grad():
        new, old = (
            torch.stack([lm.model(torch.tensor([p.prompt])).logits[0, -1].double().log_softmax(-1) for p in PAIRS])
            for lm in (moved, tiny)
        )
    exact = float((new.exp() * (new - old)).sum(-1).mean())
    assert exact > 0.01
    assert abs(found.mean() - exact) < 4 * found.std(ddof=1) / len(found) ** 0.5


def test_wins_losses_and_ties() -> None:
    def length(prompts: list[Messages], answers: list[str]) -> np.ndarray:
        return np.array([len(answer) for answer in answers], float)

    prompts = [messages_from("Hi", "user")] * 3
    assert wins(length, prompts, ["aaa", "a", "aa"], ["aa", "aa", "bb"]).tolist() == [1.0, 0.0, 0.5]  # pyright: ignore
