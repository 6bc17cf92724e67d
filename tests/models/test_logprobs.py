"""The engine equals the naive per-sequence loop, however rows are packed, padded or cut into blocks."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GemmaConfig,
    GPT2Config,
    GPTJConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    PhiConfig,
    Qwen2Config,
    Qwen3Config,
)

from smidgen.models.load import LanguageModel, language_model
from smidgen.models.logprobs import AnswerLogps, TokenLogps, find_layout, functional_logps, score_answers
from smidgen.models.rows import LAYOUTS, Layout, collate_rows

SMALL: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}
OLD: dict[str, Any] = {"vocab_size": 60, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
GROUPED: dict[str, Any] = SMALL | {"num_key_value_heads": 2}
# GPT-J's attention takes no other implementation, so its rows are shared under a mask.
ARCHITECTURES: dict[str, tuple[Any, Layout]] = {
    "gpt2": (GPT2Config(**OLD), "packed"),
    "gptj": (GPTJConfig(**OLD, rotary_dim=4), "shared"),
    "llama": (LlamaConfig(**GROUPED), "packed"),
    "mistral, window shorter than the row": (MistralConfig(**GROUPED, sliding_window=6), "packed"),
    "mistral, window longer than the probe": (MistralConfig(**GROUPED, sliding_window=12), "packed"),
    "mixtral": (MixtralConfig(**GROUPED, num_local_experts=4, num_experts_per_tok=2), "packed"),
    "qwen2": (Qwen2Config(**GROUPED), "packed"),
    "qwen3": (Qwen3Config(**GROUPED, head_dim=8), "packed"),
    "gemma": (GemmaConfig(**GROUPED, head_dim=8), "packed"),
    "gemma2, soft caps and a window": (Gemma2Config(**GROUPED, head_dim=8, sliding_window=6), "packed"),
    "gpt-neox": (GPTNeoXConfig(**SMALL), "packed"),
    "phi, head with a bias": (PhiConfig(**SMALL), "packed"),
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


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("batch_tokens", [1, 8192])
def test_all_layouts_and_any_batching_equal_the_naive_loop(
    tiny: LanguageModel, layout: Layout, batch_tokens: int
) -> None:
    scored = score_answers(tiny, PROMPTS, ANSWERS, layout=layout, batch_tokens=batch_tokens)
    assert_equals_naive(tiny, scored)


def random_model(name: str, tiny: LanguageModel) -> LanguageModel:
    """Weights large enough that a wrong mask, position, cap or bias shows."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(ARCHITECTURES[name][0])
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    if name.startswith("phi"):
        torch.nn.init.normal_(model.lm_head.bias)
    return language_model(model, tiny.tokenizer)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_layout_found_for_an_architecture_equals_the_naive_loop(tiny: LanguageModel, name: str) -> None:
    lm = random_model(name, tiny)
    assert find_layout(lm.model) == ARCHITECTURES[name][1]
    assert_equals_naive(lm, score_answers(lm, PROMPTS, ANSWERS), tolerance=1e-4)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_layout_has_the_gradient_of_the_models_own_logits(tiny: LanguageModel, name: str) -> None:
    lm = random_model(name, tiny)
    found = find_layout(lm.model)
    expected = gradients(lm, "model")
    layouts: set[Layout] = {found, "separate"}
    for layout in layouts:
        for one, other in zip(gradients(lm, layout), expected, strict=True):
            torch.testing.assert_close(one, other, atol=2e-4, rtol=1e-3)


def gradients(lm: LanguageModel, layout: Layout, *, twice_differentiable: bool = False) -> list[torch.Tensor]:
    lm.model.zero_grad()
    rows = collate_rows(PROMPTS, ANSWERS, layout=layout)
    logps = AnswerLogps(lm.model, layout, twice_differentiable=twice_differentiable)(rows)
    weighted(logps).backward()
    return [p.grad.clone() for p in lm.model.parameters() if p.grad is not None]


def weighted(logps: TokenLogps) -> torch.Tensor:
    """Every token counts, each differently."""
    weights = torch.linspace(-1, 1, logps.values.numel()).view_as(logps.values)
    return (logps.values * logps.mask * weights).sum()


def test_a_model_that_ignores_packing_and_mask_gets_rows_of_its_own(tiny: LanguageModel) -> None:
    assert find_layout(tiny.model) == "packed"
    forward = tiny.model.base_model.forward

    def unpacked(*args: object, packing: object = None, **kwargs: object) -> object:
        return forward(*args, **kwargs)

    def blind(*args: object, attention_mask: torch.Tensor | None = None, **kwargs: object) -> object:
        custom = attention_mask is not None and attention_mask.ndim == 4
        return unpacked(*args, attention_mask=None if custom else attention_mask, **kwargs)

    tiny.model.base_model.forward = unpacked
    assert find_layout(tiny.model) == "shared"
    tiny.model.base_model.forward = blind
    assert find_layout(tiny.model) == "separate"


def test_logits_that_are_more_than_the_head_come_from_the_model(tiny: LanguageModel) -> None:
    forward = tiny.model.forward

    def scaled(*args: object, **kwargs: object) -> Any:
        out = forward(*args, **kwargs)
        out.logits = out.logits * 3
        return out

    tiny.model.forward = scaled
    assert find_layout(tiny.model) == "model"
    assert_equals_naive(tiny, score_answers(tiny, PROMPTS, ANSWERS))


@pytest.mark.parametrize(
    ("name", "layout"),
    [("gpt2", "packed"), ("gpt2", "shared"), ("llama", "packed"), ("gemma2, soft caps and a window", "packed")],
)
def test_the_twice_differentiable_path_equals_the_fast_one(tiny: LanguageModel, name: str, layout: Layout) -> None:
    lm = random_model(name, tiny)
    for one, other in zip(gradients(lm, layout, twice_differentiable=True), gradients(lm, layout), strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("layout", ["packed", "shared"])
def test_second_derivatives_equal_differences_of_first_ones(tiny: LanguageModel, layout: Layout) -> None:
    """Along one direction of all weights, in float64: d/dt of the directional derivative."""
    lm = LanguageModel(tiny.model.double(), tiny.tokenizer, tiny.fingerprint)
    rows = collate_rows(PROMPTS, ANSWERS, layout=layout)
    generator = torch.Generator().manual_seed(1)
    start = {n: p.detach() for n, p in lm.model.named_parameters()}
    along = {n: torch.randn(p.shape, generator=generator, dtype=p.dtype) * 0.01 for n, p in start.items()}

    def slope(t: torch.Tensor) -> torch.Tensor:
        moved = {n: p + t * along[n] for n, p in start.items()}
        value = weighted(functional_logps(lm, layout, moved, rows))
        (found,) = torch.autograd.grad(value, t, create_graph=True)
        return found

    at = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (second,) = torch.autograd.grad(slope(at), at)
    step = 1e-4
    ends = [slope(torch.tensor(sign * step, dtype=torch.float64, requires_grad=True)) for sign in (1, -1)]
    assert second.item() == pytest.approx((ends[0] - ends[1]).item() / (2 * step), rel=1e-3)


def test_an_answer_is_blind_to_its_neighbour(tiny: LanguageModel) -> None:
    one = score_answers(tiny, PROMPTS[:1], [[(10, 11, 0), (12, 0)]], layout="packed")
    other = score_answers(tiny, PROMPTS[:1], [[(99, 98, 97, 96), (12, 0)]], layout="packed")
    np.testing.assert_allclose(one[0][1], other[0][1], atol=1e-6)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.tuples(st.integers(1, 12), st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4))
def test_packing_padding_and_company_change_nothing(tiny: LanguageModel, lengths: list[tuple[int, int, int]]) -> None:
    prompts = [tuple(range(1, 1 + p)) for p, _, _ in lengths]
    answers = [[tuple(range(20, 20 + a)), tuple(range(40, 40 + b))] for _, a, b in lengths]
    for layout in ("packed", "shared"):
        together = score_answers(tiny, prompts, answers, layout=layout)
        for prompt, group, values in zip(prompts, answers, together, strict=True):
            (alone,) = score_answers(tiny, [prompt], [group], layout=layout)
            for found, expected in zip(values, alone, strict=True):
                np.testing.assert_allclose(found, expected, atol=1e-5)


def test_sums_means_and_counts() -> None:
    values = torch.tensor([[-1.0, -2.0, -4.0], [-3.0, 9.0, 9.0]])
    logps = TokenLogps(values, torch.tensor([[True, True, True], [True, False, False]]))
    assert logps.sum().tolist() == [-7.0, -3.0]
    assert logps.mean().tolist() == pytest.approx([-7 / 3, -3.0])
    assert logps.tokens().tolist() == [3, 1]


def test_bfloat16_stays_within_its_stated_tolerance(tiny: LanguageModel) -> None:
    """Two percent of the value, or 0.05 nats a token: what eight bits of mantissa leave after four layers."""
    rows = collate_rows(PROMPTS, ANSWERS, layout="packed")
    scorer = AnswerLogps(tiny.model, "packed")
    with torch.no_grad():
        exact = scorer(rows)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = scorer(rows)
    torch.testing.assert_close(rough.values, exact.values, atol=0.05, rtol=0.02)
