"""The engine equals the naive per-sequence loop, however rows are packed, padded or cut into blocks."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PhiConfig,
    Qwen2Config,
)

from smidgen.models import logprobs
from smidgen.models.load import LanguageModel, language_model
from smidgen.models.logprobs import AnswerLogps, attention_mask, collate_rows, find_layout, score_answers, target_logps

SMALL: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}
ARCHITECTURES = {
    "llama": LlamaConfig(**SMALL, num_key_value_heads=2),
    "mistral, window shorter than the row": MistralConfig(**SMALL, num_key_value_heads=2, sliding_window=6),
    "qwen2": Qwen2Config(**SMALL, num_key_value_heads=2),
    "gemma": GemmaConfig(**SMALL, num_key_value_heads=2, head_dim=8),
    "gpt-neox": GPTNeoXConfig(**SMALL),
    "phi, head with a bias": PhiConfig(**SMALL),
}
PROMPTS = [(5, 6, 7), (9,), (8, 3, 4, 11, 12, 2)]
ANSWERS = [[(10, 11, 0), (12, 0)], [(3, 4, 5, 6, 0), (7, 0)], [(1, 2, 0), (2, 1, 3, 0)]]


@torch.no_grad()
def naive(model: torch.nn.Module, prompt: tuple[int, ...], answer: tuple[int, ...]) -> np.ndarray:
    """One sequence, one forward, the whole softmax."""
    logits = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].double().log_softmax(-1)
    positions = torch.arange(len(prompt) - 1, len(prompt) + len(answer) - 1)
    return logits[positions, torch.tensor(answer)].numpy()


def assert_equals_naive(lm: LanguageModel, scored: list[list[np.ndarray]], tolerance: float = 2e-5) -> None:
    for prompt, group, values in zip(PROMPTS, ANSWERS, scored, strict=True):
        for answer, found in zip(group, values, strict=True):
            np.testing.assert_allclose(found, naive(lm.model, prompt, answer), atol=tolerance)


@pytest.mark.parametrize("layout", ["shared", "separate"])
@pytest.mark.parametrize("batch_tokens", [1, 8192])
def test_both_layouts_and_any_batching_equal_the_naive_loop(
    tiny: LanguageModel, layout: logprobs.Layout, batch_tokens: int
) -> None:
    scored = score_answers(tiny, PROMPTS, ANSWERS, layout=layout, batch_tokens=batch_tokens)
    assert_equals_naive(tiny, scored)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_layout_found_for_an_architecture_equals_the_naive_loop(tiny: LanguageModel, name: str) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(ARCHITECTURES[name], attn_implementation="sdpa")
    if name.startswith("phi"):
        torch.nn.init.normal_(model.lm_head.bias)
    lm = language_model(model, tiny.tokenizer)
    assert_equals_naive(lm, score_answers(lm, PROMPTS, ANSWERS))


def test_a_model_that_ignores_the_mask_gets_rows_of_its_own(tiny: LanguageModel) -> None:
    assert find_layout(tiny.model) == "shared"
    forward = tiny.model.base_model.forward

    def blind(*args: object, attention_mask: torch.Tensor | None = None, **kwargs: object) -> object:
        custom = attention_mask is not None and attention_mask.ndim == 4
        return forward(*args, attention_mask=None if custom else attention_mask, **kwargs)

    tiny.model.base_model.forward = blind
    assert find_layout(tiny.model) == "separate"


def test_an_answer_is_blind_to_its_neighbour(tiny: LanguageModel) -> None:
    one = score_answers(tiny, PROMPTS[:1], [[(10, 11, 0), (12, 0)]], layout="shared")
    other = score_answers(tiny, PROMPTS[:1], [[(99, 98, 97, 96), (12, 0)]], layout="shared")
    np.testing.assert_allclose(one[0][1], other[0][1], atol=1e-6)


def test_mask_by_hand() -> None:
    segments = torch.tensor([[0, 1, 2, -1]])
    expected = [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 1, 1]]
    expected[3] = [1, 0, 0, 1]  # padding sees the prompt and itself; nothing sees padding
    assert attention_mask(segments)[0, 0].int().tolist() == expected


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.tuples(st.integers(1, 12), st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4))
def test_padding_and_company_change_nothing(tiny: LanguageModel, lengths: list[tuple[int, int, int]]) -> None:
    prompts = [tuple(range(1, 1 + p)) for p, _, _ in lengths]
    answers = [[tuple(range(20, 20 + a)), tuple(range(40, 40 + b))] for _, a, b in lengths]
    together = score_answers(tiny, prompts, answers, layout="shared")
    for prompt, group, values in zip(prompts, answers, together, strict=True):
        (alone,) = score_answers(tiny, [prompt], [group], layout="shared")
        for found, expected in zip(values, alone, strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_blocks_of_logits_give_the_same_values_and_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 30)
    targets = torch.randint(0, 30, (17,))
    results = []
    for block in (1 << 25, 30 * 4):
        monkeypatch.setattr(logprobs, "_LOGIT_BLOCK", block)
        hidden = torch.linspace(-1, 1, 17 * 8).reshape(17, 8).requires_grad_()
        values = target_logps(hidden, head, targets)
        (values * torch.arange(17.0)).sum().backward()
        assert head.weight.grad is not None
        results.append((values.detach(), hidden.grad, head.weight.grad.clone()))
        head.zero_grad()
    for whole, blocks in zip(*results, strict=True):
        torch.testing.assert_close(whole, blocks, atol=1e-5, rtol=1e-5)


def test_sums_means_and_counts() -> None:
    values = torch.tensor([[-1.0, -2.0, -4.0], [-3.0, 9.0, 9.0]])
    logps = logprobs.TokenLogps(values, torch.tensor([[True, True, True], [True, False, False]]))
    assert logps.sum().tolist() == [-7.0, -3.0]
    assert logps.mean().tolist() == pytest.approx([-7 / 3, -3.0])
    assert logps.tokens().tolist() == [3, 1]


@pytest.mark.parametrize(("prompt", "answer"), [((), (1,)), ((1,), ())])
def test_nothing_to_predict_is_an_error(prompt: tuple[int, ...], answer: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        collate_rows([prompt], [[answer]], layout="shared")


def test_bfloat16_stays_within_its_stated_tolerance(tiny: LanguageModel) -> None:
    """Two percent of the value, or 0.05 nats a token: what eight bits of mantissa leave after four layers."""
    rows = collate_rows(PROMPTS, ANSWERS, layout="shared")
    scorer = AnswerLogps(tiny.model, "shared")
    with torch.no_grad():
        exact = scorer(rows)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = scorer(rows)
    torch.testing.assert_close(rough.values, exact.values, atol=0.05, rtol=0.02)
