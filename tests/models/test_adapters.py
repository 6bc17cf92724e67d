"""With the adapter off the model is its reference; folded in, it is what it was with the adapter on."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from smidgen.errors import UsageError
from smidgen.models.adapters import adapted
from smidgen.models.load import LanguageModel, language_model
from smidgen.models.logprobs import score_answers

PROMPTS = [(5, 6, 7), (9,)]
ANSWERS = [[(10, 11, 0), (12, 0)], [(3, 4, 5, 6, 0), (7, 0)]]


def scores(lm: LanguageModel) -> np.ndarray:
    return np.concatenate([v for group in score_answers(lm, PROMPTS, ANSWERS) for v in group])


@pytest.fixture(params=["gpt2", "llama"])
def lm(request: Any, tiny: LanguageModel) -> LanguageModel:
    if request.param == "gpt2":
        return tiny
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4
    )
    return language_model(AutoModelForCausalLM.from_config(config), tiny.tokenizer)


def test_off_is_the_reference_and_folding_in_changes_nothing(lm: LanguageModel) -> None:
    reference = scores(lm)
    with adapted(lm, rank=3, seed=1) as wrapped:
        np.testing.assert_array_equal(scores(lm), reference)
        factors = [p for p in lm.model.parameters() if p.requires_grad]
        assert len(factors) > 4
        with torch.no_grad():
            for factor in factors:
                factor.add_(torch.randn(factor.shape, generator=torch.Generator().manual_seed(2)) * 0.1)
        on = scores(lm)
        assert np.abs(on - reference).max() > 0.01
        with wrapped.disable_adapter():
            np.testing.assert_array_equal(scores(lm), reference)
    np.testing.assert_allclose(scores(lm), on, atol=1e-4)
    assert not [name for name, _ in lm.model.named_parameters() if "lora" in name]


def test_after_an_error_the_adapter_is_gone(lm: LanguageModel) -> None:
    before = scores(lm)
    with pytest.raises(KeyboardInterrupt), adapted(lm, rank=3):
        raise KeyboardInterrupt
    np.testing.assert_array_equal(scores(lm), before)
    with adapted(lm, rank=3):
        pass
    np.testing.assert_allclose(scores(lm), before, atol=1e-6)


def test_a_rank_above_the_narrowest_layer_is_refused(lm: LanguageModel) -> None:
    with pytest.raises(UsageError, match="lora_rank of at most"), adapted(lm, rank=100_000):
        pass
